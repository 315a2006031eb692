//! The page of a report in a browser.

use std::path::Path;
use std::sync::Weak;

use fs_err as fs;
use parking_lot::Mutex;
use serde_json::Value;

use crate::report::report;
use crate::support::bench::{Bench, Shared};
use crate::support::rig::{Rig, context, text};

/// The image of the browser (`scripts/lib/images.sh`).
const BROWSER: &str = "cachex-rig/browser";

static BENCH: Shared = Mutex::new(Weak::new());

/// Opens a page in a browser without network, and returns the document as it is when its script has run.
fn opened(folder: &Path, page: &str) -> String {
    let mount = format!("{}:/pages:ro", folder.display());
    let page = format!("file:///pages/{page}");
    let args = ["run", "--rm", "--network=none", "--volume", &mount, BROWSER];
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--dump-dom",
        &page,
    ];
    let output = Rig::get().docker(&[&args[..], &flags].concat());
    let document = text(&output.stdout);
    assert!(
        output.status.success() && document.contains("</html>"),
        "{document}\n{}",
        text(&output.stderr)
    );
    document
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_page_works_in_a_browser_and_names_cannot_break_it() {
    let bench = Bench::shared(&BENCH);
    let base = &Rig::get().busybox;
    let script = "<script>document.title='taken over'</script><img src=x onerror=document.title='taken-over'>";
    let dockerfile = format!(
        "FROM {base}\nRUN echo \"{script}\" > /a\nRUN sleep 1\nRUN echo '</script>' && false\n"
    );
    let folder = context(&[("Dockerfile", &dockerfile), (".dockerignore", "report*\n")]);
    let (html, _) = report(folder.path(), "html");
    bench.fails(1, &[&html, "--no-cache"], folder.path());
    let document = opened(folder.path(), "report.html");
    let (_, title) = document.split_once("<title>").expect("a title");
    let (title, _) = title.split_once("</title>").expect("its end");
    assert!(title.contains("failed after"), "{title}");
    assert!(!document.contains("<img"), "{document}");
    assert!(
        document.contains("&lt;script&gt;document.title"),
        "{document}"
    );
    for part in [
        "id=\"verdict\"",
        "id=\"error\"",
        "class=\"bar ran",
        "class=\"bar failed",
        "<td data-sort=\"failed\">",
    ] {
        assert!(document.contains(part), "{part} in {document}");
    }
    assert!(!document.contains("aria-sort=\""), "{document}");

    // The script may run, and sorts: the step that took longest is the first one.
    let document = opened(folder.path(), "report.html#took");
    assert!(document.contains("aria-sort=\"descending\""), "{document}");
    let (_, rows) = document.split_once("<tbody>").expect("rows");
    let (rows, _) = rows.split_once("</tbody>").expect("their end");
    // Cells of numbers are the line, what it took and the size.
    let took = rows.split("</tr>").filter_map(|row| {
        let cell = row.split("class=\"number\" data-sort=\"").nth(2)?;
        cell.split('"').next()?.parse::<u64>().ok()
    });
    let took: Vec<u64> = took.collect();
    assert!(took.len() >= 4 && took[0] >= 1000, "{took:?}");
    assert!(took.is_sorted_by(|a, b| a >= b), "{took:?}");
}

/// Clicks each header three times, and writes down in the document what each click came to.
const CLICKS: &str = r##"<script>
const told = [];
for (const head of document.querySelectorAll("#steps th")) {
  const column = [...head.parentNode.cells].indexOf(head);
  for (let click = 0; click < 3; click++) {
    head.firstElementChild.click();
    told.push({
      key: head.dataset.key,
      number: head.classList.contains("number"),
      sorted: head.getAttribute("aria-sort"),
      marks: document.querySelectorAll("[aria-sort]").length,
      values: [...document.querySelectorAll("#steps tbody tr")].map((row) => row.cells[column].dataset.sort),
    });
  }
}
const list = document.createElement("pre");
list.id = "clicks";
list.textContent = JSON.stringify(told);
document.body.append(list);
</script>"##;

/// What a name is sorted by: numbers in it count as numbers, and room before them as nothing.
fn parts(name: &str) -> Vec<(String, u64)> {
    let digits = |c: char| c.is_ascii_digit();
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(digits).unwrap_or(rest.len());
        let (before, number) = rest.split_at(text);
        let end = number.find(|c| !digits(c)).unwrap_or(number.len());
        let (number, behind) = number.split_at(end);
        parts.push((
            before.to_lowercase().replace(' ', ""),
            number.parse().unwrap_or(0),
        ));
        rest = behind;
    }
    parts
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_click_on_a_header_sorts_numbers_by_value_and_names_by_text() {
    let bench = Bench::shared(&BENCH);
    let steps = (1..=10).map(|n| format!("RUN echo {n} > /{n}\n"));
    let steps = steps.collect::<Vec<_>>().concat();
    let dockerfile = format!("FROM {}\n{steps}COPY a /\n", Rig::get().busybox);
    let folder = context(&[
        ("Dockerfile", dockerfile.as_str()),
        (".dockerignore", "report*\n"),
        ("a", "a"),
    ]);
    let (html, file) = report(folder.path(), "html");
    bench.build("cachex", &[&html], folder.path());
    let page = fs::read_to_string(&file).expect("a report");
    // No other script may run in it, so the rule goes.
    let rule = page
        .lines()
        .find(|line| line.contains("Content-Security-Policy"));
    let page = page
        .replace(rule.expect("a rule"), "")
        .replace("</body>", &format!("{CLICKS}</body>"));
    fs::write(folder.path().join("report-clicks.html"), page).expect("a page");
    let document = opened(folder.path(), "report-clicks.html");
    let (_, told) = document.split_once("<pre id=\"clicks\">").expect("a list");
    let (told, _) = told.split_once("</pre>").expect("its end");
    let told = told
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    let clicks: Vec<Value> = serde_json::from_str(&told).expect("JSON");
    assert_eq!(clicks.len(), 6 * 3, "{clicks:#?}");
    for (at, click) in clicks.iter().enumerate() {
        let is_number = click["number"] == true;
        // The largest number or the first name comes first, then the other way round, and so on.
        let is_rising = is_number == (at % 3 == 1);
        let way = if is_rising { "ascending" } else { "descending" };
        assert_eq!(
            (&click["sorted"], &click["marks"]),
            (&way.into(), &1.into()),
            "{click:#}"
        );
        let values = click["values"].as_array().expect("values").iter();
        let mut values: Vec<&str> = values
            .map(|value| value.as_str().expect("a text"))
            .collect();
        assert!(values.len() >= 12, "{click:#}");
        if !is_rising {
            values.reverse();
        }
        let is_sorted = if is_number {
            values.is_sorted_by_key(|value| value.parse::<u64>().expect("a number"))
        } else {
            values.is_sorted_by_key(|value| parts(value))
        };
        assert!(is_sorted, "{click:#}");
    }
    let all = |key: &str| {
        clicks
            .iter()
            .find(|click| click["key"] == key)
            .expect("a column")
    };
    assert!(all("took")["values"][0] != "0" && all("line")["values"][0] != "1");
}
