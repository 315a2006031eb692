"""What a report costs: an unchanged build of 120 steps, without one and with all three forms."""

from model import Series, case

STEPS = 120


@case("report-noop", "build of 120 steps, all in the builder's cache, without a report and with three", cost=60)
def noop(world):
    stages = [f"FROM {world.small_base} AS s{stage}" for stage in range(4)]
    lines = []
    for stage in stages:
        lines.append(stage)
        lines += [f"WORKDIR /w/{number}" for number in range(STEPS // len(stages))]
    folder = world.project("\n".join(lines) + "\n")
    reports = [f"--report={form}={folder.parent / ('report.' + form)}" for form in ("md", "json", "html")]
    world.quiet(world.build("cachex", folder, progress="plain"))
    return [
        Series("cachex", lambda: world.build("cachex", folder, progress="plain")),
        Series("cachex --report md, json, html", lambda: world.build("cachex", folder, *reports, progress="plain")),
    ]
