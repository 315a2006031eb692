"""The bench: cases by name, docker buildx and docker cachex in turn. Started by scripts/bench."""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import cases  # noqa: F401 - fills CASES
import ready
import report
from model import CASES, Case, Failed
from world import World


LEAST_RUNS = 3
OVERTIME = 1.2  # what a case may take of its share before it gets fewer runs; others take less


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Times docker cachex against docker buildx on one builder, in turn, and prints medians with minimum "
        "and maximum, CPU time and peak memory of the client, and what the registry saw. A ratio under 1: docker "
        "cachex is the faster one. Starts the test rig (needs root) unless --builder is given.")
    parser.add_argument("--all", action="store_true", help="all cases and all ways of each, not only the core of them: three times the time")
    parser.add_argument("--quick", action="store_true", help="3 runs of each instead of 5")
    parser.add_argument("--runs", type=int, metavar="N", help="another number of runs")
    parser.add_argument("--minutes", type=float, default=15, metavar="N",
                        help="where the machine is slow, cases get fewer runs (never under 3) to end in N minutes; default: 15")
    parser.add_argument("--case", action="append", default=[], metavar="NAME",
                        help="only this case, or all whose names begin with it and a dash; can be given again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples as JSON, too")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the tables of RESULTS.md, too; both files after every case")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="print the table of RESULTS.md from such a file and end")
    parser.add_argument("--builder", metavar="NAME", help="a builder that is there; needs --registry. It is emptied again and again")
    parser.add_argument("--registry", metavar="HOST[/PATH]", help="a registry that client and builder reach; not counted")
    parser.add_argument("--base", metavar="IMAGE", help="base image with /usr and a shell; default: the rig's")
    parser.add_argument("--plugin", type=Path, metavar="FILE", help="a built docker-cachex instead of a fresh release build")
    parser.add_argument("--peer", type=Path, metavar="FILE",
                        help="another build of docker-cachex, which takes the place of docker buildx: what a change costs")
    args = parser.parse_args()
    if (args.builder is None) != (args.registry is None):
        parser.error("--builder and --registry go together")
    if args.builder and not args.base:
        args.base = "debian:bookworm"
    args.runs = args.runs or (3 if args.quick else 5)
    args.all = args.all or bool(args.case)
    args.chosen = chosen(parser, args.case, args.all)
    return args


def chosen(parser, names: list[str], everything: bool) -> list[Case]:
    for name in names:
        if not any(matches(name, case) for case in CASES.values()):
            parser.error(f"no case {name}: --list shows them")
    if names:
        return [case for case in CASES.values() if any(matches(name, case) for name in names)]
    return [case for case in CASES.values() if case.core or everything]


def matches(name: str, case: Case) -> bool:
    return case.name == name or case.name.startswith(f"{name}-")


def surroundings(world: World, runs: int) -> dict:
    """What the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    nodes = world.quiet(world.plugin("buildx", "inspect", world.builder)).splitlines()
    buildkit = next((line.split()[-1] for line in nodes if line.startswith("BuildKit version")), "of the engine")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "runs": runs,
        "machine": {"cores": os.cpu_count(), "processor": processor, "memory_gib": round(memory / 2**30),
                    "kernel": platform.release()},
        "versions": {name: world.quiet(world.plugin(name, "version")).splitlines()[0] for name in world.programs}
        | {"buildkit": buildkit},
        "cases": [],
        "failed": [],
    }


def run_case(world: World, case: Case, args, seconds: float) -> dict | None:
    """A warm-up, then all series in turn, `args.runs` times; 3 times where the time is short. Nothing where the case cannot
    be measured here."""
    if (case.needs_line and not world.registries) or (case.own_builder and not world.own_builder):
        return None
    end = time.monotonic() + seconds
    world.empty()
    series = [one for one in case.make(world) if one.core or args.all]
    # What it warms is builder, registry and machine; the programs of both clients are.
    world.measure(series[0].command(), series[0].figure)
    for run in range(args.runs):
        if run >= LEAST_RUNS and time.monotonic() > end:
            break
        for one in series:
            one.samples.append(world.measure(one.command(), one.figure))
    return report.case_json(case.name, case.about, series)


def run_all(world: World, args) -> bool:
    """Measures case after case; one that fails is told at the end. Returns whether all were measured."""
    world.boot()
    result = surroundings(world, args.runs)
    print(report.machine_line(result))
    print(report.head())
    start = time.monotonic()
    end = start + args.minutes * 60
    for number, case in enumerate(args.chosen):
        begin = time.monotonic()
        share = case.cost / sum(case.cost for case in args.chosen[number:])
        try:
            measured = run_case(world, case, args, (end - begin) * share * OVERTIME)
        except (Failed, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
            # The others can still be measured.
            result["failed"].append({"name": case.name, "error": str(error) or type(error).__name__})
            print(f"{case.name}: FAILED: {error}", flush=True)
        else:
            show(case, measured, time.monotonic() - begin)
            result["cases"] += [measured] if measured else []
        result["minutes"] = round((time.monotonic() - start) / 60, 1)
        keep(result, args)
    print(f"{len(result['cases'])} cases in {result.get('minutes', 0)} minutes")
    for one in result["failed"]:
        print(f"FAILED: {one['name']}: {one['error']}")
    return not result["failed"]


def show(case: Case, measured: dict | None, seconds: float) -> None:
    if measured is None:
        print(f"{case.name}: cannot be measured here", flush=True)
        return
    print(f"{case.name}: {case.about} ({seconds:.0f} s)")
    print(*map(report.row, measured["series"]), sep="\n", flush=True)


def keep(result: dict, args) -> None:
    """Writes the figures so far, so that a run that is broken off leaves what it has."""
    for path, text in ((args.json, lambda: json.dumps(result, indent=1)), (args.table, lambda: report.readme(result))):
        if path:
            path.write_text(text() + "\n")


def main() -> int:
    args = arguments()
    if args.list:
        print(*(f"{case.name:<20} {'core' if case.core else '    '} {case.about}" for case in CASES.values()), sep="\n")
        return 0
    if args.readme:
        print(report.readme(json.loads(args.readme.read_text())))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    try:
        args.plugin = args.plugin or ready.plugin()
        helpers = ready.helpers()
        if not args.builder:
            ready.rig()
        with contextlib.closing(World(args, helpers)) as world:
            complete = run_all(world, args)
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
