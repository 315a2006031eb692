"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const sort = (head) => {
    const column = heads.indexOf(head);
    const isNumber = head.classList.contains("number");
    // The largest number or the first name comes first, then the other way round.
    const ways = isNumber ? ["descending", "ascending"] : ["ascending", "descending"];
    const way = head.getAttribute("aria-sort") === ways[0] ? ways[1] : ways[0];
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", way);
    const value = (row) => row.cells[column].dataset.sort;
    const text = (a, b) => a.localeCompare(b, "en", { numeric: true });
    const order = (a, b) => (isNumber ? value(a) - value(b) : text(value(a), value(b)));
    const rows = [...table.tBodies[0].rows].sort((a, b) => (way === "descending" ? order(b, a) : order(a, b)));
    table.tBodies[0].append(...rows);
  };
  for (const head of heads) {
    head.firstElementChild.addEventListener("click", () => sort(head));
  }
  // `report.html#took` is sorted by that column from the beginning.
  const wanted = heads.find((head) => head.dataset.key === location.hash.slice(1));
  if (wanted) {
    sort(wanted);
  }
}
