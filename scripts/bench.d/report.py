"""Figures for readers: the table on the terminal and the one of README.md."""

from model import ARCHIVER, FLOOR, PEER, Series
from phases import PHASES

HEAD = ("client", "runs", "time, ms", "min-max", "CPU, ms", "builder's", "memory, MiB", "requests", "sent, MB", "received, MB", "ratio")
NOBODY = {"median": {}}
FORM = "  {:<28} {:>4} {:>9} {:>17} {:>9} {:>9} {:>12} {:>9} {:>9} {:>13} {:>6}"


def number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def time(value: float | None) -> str:
    """Milliseconds; one decimal below 100."""
    return number(value, 1 if value is not None and value < 100 else 0)


def head() -> str:
    return FORM.format(*HEAD)


def row(series: dict) -> str:
    """A line of the table on the terminal, from the JSON of a series."""
    median, figure = series["median"], series["figure"]
    low, high = series["range"][figure]
    return FORM.format(
        series["label"], series["runs"], time(median[figure]), f"{time(low)}-{time(high)}", time(median["cpu_ms"]),
        time(median.get("builder_cpu_ms")),
        number(median["peak_mib"], 1), number(median.get("requests")), number(median.get("up_mb"), 1),
        number(median.get("down_mb"), 1), number(series["ratio"], 2)) + packages(median) + phases(series)


def packages(median: dict) -> str:
    """What a job fetched of packages, a line under its row; nothing for other series."""
    fetched = median.get("packages_mb")
    return "" if fetched is None else f"\n    {number(fetched, 1)} MB of packages"


def phases(series: dict) -> str:
    """Where the time of a job goes, a line under its row; nothing for other series."""
    parts = [f"{name} {time(value)}" for name, value in _phases(series).items()]
    return f"\n    of which {', '.join(parts)}" if parts else ""


def _phases(series: dict) -> dict[str, float]:
    medians = ((name, series["median"].get(f"{name}_phase_ms")) for name in PHASES)
    return {name: value for name, value in medians if value is not None}


def case_json(name: str, about: str, series: list[Series]) -> dict:
    peer = series[0] if series[0].client in (PEER, ARCHIVER) else None
    return {"name": name, "about": about, "series": [one.summary(peer) for one in series]}


def runs(run: dict) -> str:
    """How many runs the figures are made of."""
    counts = {series["runs"] for case in run["cases"] for series in case["series"]} or {run["runs"]}
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def machine_line(run: dict) -> str:
    machine = run["machine"]
    return (f"{run['date']}: {machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, "
            f"Linux {machine['kernel']}; {run['versions']['cachex']}; {run['versions']['buildx']}; "
            f"BuildKit {run['versions']['buildkit']}; {runs(run)} runs of each in turn after one that does not count")


def readme(run: dict) -> str:
    """The Markdown table of README.md."""
    lines = ["| case | cachex with | buildx, ms | cachex, ms | ratio | CPU, ms | builder's CPU, ms | memory, MiB | registry, MB |",
             "|---|---|---|---|---|---|---|---|---|"]
    for case in run["cases"]:
        about, ours, peer = case["about"], case["series"], NOBODY
        if ours[0]["label"].startswith((PEER, ARCHIVER)):
            peer, *ours = ours
        # What buildx does in another way stands in the table of the jobs.
        ours = [series for series in ours if series["label"] != FLOOR and not series["label"].startswith(PEER)]
        for series in ours:
            # What cachex is told; of another program its name.
            told = series["label"].removeprefix("cachex").strip()
            cells = [about, f"`{told}`" if told else "", time(peer["median"].get(peer.get("figure"))),
                     time(series["median"][series["figure"]]), number(series["ratio"], 2),
                     pair(peer, series, "cpu_ms", time), pair(peer, series, "builder_cpu_ms", time),
                     pair(peer, series, "peak_mib", number), moved(peer, series)]
            lines.append(f"| {' | '.join(cells)} |")
            about = ""
    return "\n".join([*lines, *jobs(run), *failures(run), "", machine_line(run) + "."])


def jobs(run: dict) -> list[str]:
    """The table of where the time of whole jobs goes, where there are any."""
    told = [(case, series) for case in run["cases"] for series in case["series"] if _phases(series)]
    if not told:
        return []
    rows = [[case["about"], f"`{series['label']}`", *(time(_phases(series)[name]) for name in PHASES),
             time(series["median"]["job_ms"]), number(series["ratio"], 2)] for case, series in told]
    head = ["job, ms", "client", *PHASES, "all", "ratio"]
    lines = [head, ["---"] * len(head), *rows]
    return ["", *(f"| {' | '.join(cells)} |" for cells in lines)]


def failures(run: dict) -> list[str]:
    """The cases that could not be measured, and why."""
    return ["", *(f"Not measured: `{one['name']}`: {one['error']}" for one in run["failed"])] if run.get("failed") else []


def pair(peer: dict, ours: dict, name: str, form) -> str:
    theirs, own = (one["median"].get(name) for one in (peer, ours))
    if own is None:
        return ""
    return form(own) if theirs is None else f"{form(theirs)} → {form(own)}"


def moved(peer: dict, ours: dict) -> str:
    """Bytes to and from the registry, where there are any."""
    totals = [sum(one["median"].get(name, 0) for name in ("up_mb", "down_mb")) for one in (peer, ours)]
    return "" if max(totals) < 0.1 else " → ".join(number(total, 1) for total in totals)
