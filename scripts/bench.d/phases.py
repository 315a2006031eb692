"""Where the time of a whole job goes, by what the client shows: lines `@NAME SECONDS` between its commands, and the rawjson
progress of the build. Both clients show what BuildKit reports, so it is one method for both."""

import datetime
import json
import re

PHASES = ("boot", "import", "fetch", "steps", "image", "cache", "other", "end")
# A moment of the build in which several go on counts for the first of these.
ORDER = ("fetch", "steps", "image", "cache", "import")
NO_STEPS = ("[internal]", "[auth]")
LAYER = re.compile(r"^(extracting )?sha256:[0-9a-f]{64}$")


def seconds(text: str) -> float:
    """A time of the progress in seconds since 1970."""
    # Nanoseconds are more than Python reads.
    return datetime.datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", text).replace("Z", "+00:00")).timestamp()


def reports(progress: str):
    """The objects of a rawjson progress, among other lines."""
    return (json.loads(line) for line in progress.splitlines() if line.startswith("{"))


def is_step(name: str) -> bool:
    """Whether a vertex of that name is a step of the Dockerfile; exports and imports have no bracket."""
    return name.startswith("[") and not name.startswith(NO_STEPS)


def of_job(text: str) -> dict[str, float]:
    """The phases of a job in milliseconds, and their sum."""
    marks = {name: float(at) for name, at in re.findall(r"^@(\w+) (\d+\.\d+)$", text, re.MULTILINE)}
    begin, boot, build, end = (marks[name] for name in ("begin", "boot", "build", "rm"))
    spent = _told(marks) or _divide(_spans(text), boot, build)
    spent |= {"boot": boot - begin, "end": end - build, "other": build - boot - sum(spent.values())}
    return {f"{name}_phase_ms": spent[name] * 1000 for name in PHASES} | {"job_ms": (end - begin) * 1000}


def of_mount(text: str) -> float:
    """How long a cache mount was on its way, in milliseconds."""
    named = (vertex for report in reports(text) for vertex in report.get("vertexes") or []
             if " cache mount " in vertex.get("name", ""))
    vertex: dict = {}
    for one in named:
        vertex.update(one)
    return (seconds(vertex["completed"]) - seconds(vertex["started"])) * 1000


def _told(marks: dict[str, float]) -> dict[str, float] | None:
    """What a script tells of the build itself, where there is no progress."""
    if "steps" not in marks:
        return None
    fetch, steps = marks["fetch"] - marks["boot"], marks["steps"] - marks["fetch"]
    return dict.fromkeys(ORDER, 0.0) | {"fetch": fetch, "steps": steps, "image": marks["build"] - marks["steps"]}


def _spans(text: str) -> list[tuple[str, float, float]]:
    """What went on from when to when."""
    vertexes, statuses = {}, {}
    for report in reports(text):
        for vertex in report.get("vertexes") or []:
            vertexes.setdefault(vertex["digest"], {}).update(vertex)
        for status in report.get("statuses") or []:
            statuses.setdefault((status["vertex"], status["id"]), {}).update(status)
    spans = [(_kind(vertex), vertex) for vertex in vertexes.values()]
    spans += [("fetch" if LAYER.match(name) else None, status) for (_, name), status in statuses.items()]
    return [(kind, seconds(one["started"]), seconds(one["completed"]))
            for kind, one in spans if kind and one.get("started") and one.get("completed")]


def _kind(vertex: dict) -> str | None:
    name = vertex.get("name", "")
    if name.startswith("importing cache manifest"):
        return "import"
    if name.startswith("exporting cache"):
        return "cache"
    if name.startswith("exporting to"):
        return "image"
    ran = is_step(name) and " FROM " not in name and not vertex.get("cached")
    return "steps" if ran else None


def _divide(spans: list[tuple[str, float, float]], begin: float, end: float) -> dict[str, float]:
    """How many seconds count for each kind."""
    times = sorted({begin, end, *(min(max(at, begin), end) for _, *both in spans for at in both)})
    spent = dict.fromkeys(ORDER, 0.0)
    for earlier, later in zip(times, times[1:]):
        going = {kind for kind, start, stop in spans if start <= earlier and stop >= later}
        kind = next((kind for kind in ORDER if kind in going), None)
        if kind:
            spent[kind] += later - earlier
    return spent
