"""Many steps with next to nothing in them: what each step and record costs."""

import itertools

import synthetic
from model import Series, both, case, label

from .layers import arg, cold, export, made

# A cache of a chain of layers takes BuildKit the square of its length, whichever client asks: chains are short here.
CHAIN = 10


def _project(world, steps: int):
    """Steps in chains of ten, each with a file of its own, and a last step that needs all of them."""
    lines = [f"FROM {world.small_base} AS base", "ARG SALT", 'RUN echo "$SALT" >/salt']
    mounts = []
    for number in range(steps):
        chain, place = divmod(number, CHAIN)
        if place == 0:
            lines.append(f"FROM base AS chain-{chain}")
            mounts.append(f"--mount=from=chain-{chain},target=/mnt/{chain}")
        # COPY needs no container, so that 400 steps are made in seconds.
        lines.append(f"COPY file /copies/{number}")
    lines += [f"FROM {world.small_base}", f"RUN {' '.join(mounts)} true"]
    folder = world.project("\n".join(lines) + "\n")
    (folder / "file").write_text("content\n")
    return folder


def _exports(world, steps: int):
    folder = _project(world, steps)

    return [cold(world, folder, "buildx"), cold(world, folder, "cachex"),
            cold(world, folder, "cachex", "via=client", core=False)]


def _imports(world, steps: int):
    folder, ref = _project(world, steps), world.fresh()
    salt = made(world, folder)
    world.quiet(export(world, "buildx", folder, ref, "", *salt))

    def command(client):
        world.prune()
        return world.build(client, folder, "--cache-from", ref, *salt)

    return both(command)


def _merges(world, steps: int):
    """The peer replaces a cache of as many records; cachex keeps the records of two builds."""
    folder = _project(world, steps)
    salts = [arg("SALT", world.salt()) for _ in range(2)]

    def series(client, options):
        ref, turns = world.fresh(), itertools.cycle(salts)

        def command():
            return export(world, client, folder, ref, options, *next(turns))

        for _ in salts:
            world.quiet(command())
        return Series(label(client, options), command)

    return [series("buildx", ""), series("cachex", ",merge=true")]


def _unions(world, steps: int):
    """`cache merge` of two caches with half of their steps in common; nobody else has that."""
    repository = world.fresh().rpartition(":")[0]
    sources = [f"{repository}:{branch}" for branch in ("one", "two")]
    for ref in sources:
        synthetic.push(ref, steps, ref)

    def command():
        return world.plugin("cachex", "cache", "merge", *sources, f"{repository}:{world.salt()}")

    return [Series(label("cachex"), command)]


def _reads(world, steps: int):
    """Builds that look into a cache in which nothing fits."""
    folder, ref = _project(world, 1), world.fresh()
    synthetic.push(ref, steps, "none")
    salt = made(world, folder)
    return both(lambda client: world.build(client, folder, "--cache-from", ref, *salt))


def _add(steps: int, export_cost: float, cost: float, core: bool = False):
    case(f"growth-export-{steps}", f"cold export of {steps} steps of one small file", export_cost, core=core)(
        lambda world: _exports(world, steps))
    case(f"growth-merge-{steps}", f"export of {steps} finished steps onto a cache of as many others", cost, core=core)(
        lambda world: _merges(world, steps))
    case(f"growth-import-{steps}", f"import of {steps} steps on an empty builder", cost, core=core)(
        lambda world: _imports(world, steps))


_add(10, 25, 12, core=True)
_add(100, 130, 40)
_add(400, 500, 120)
for count in (10, 100, 400):
    core = count < 400
    case(f"growth-union-{count}", f"`cache merge` of two caches of {count} steps", 2 + count / 20, needs_line=True, core=core)(
        lambda world, count=count: _unions(world, count))
    case(f"growth-read-{count}", f"build that reads a cache of {count} steps of which none fits", 4 + count / 30,
         needs_line=True, core=core)(lambda world, count=count: _reads(world, count))
