"""Many steps with next to nothing in them: what each step and record costs."""

import itertools

from model import Series, both, case, label

from .layers import arg, export, made


def _project(world, steps: int):
    lines = [f"FROM {world.small_base}", "ARG SALT", 'RUN echo "$SALT" >/salt']
    # COPY needs no container, so that 400 steps are made in seconds.
    lines += [f"COPY file /copies/{number}" for number in range(steps - 1)]
    folder = world.project("\n".join(lines) + "\n")
    (folder / "file").write_text("content\n")
    return folder


def _exports(world, steps: int):
    folder = _project(world, steps)

    def series(client, options):
        def command():
            salt = made(world, folder)
            return export(world, client, folder, world.fresh(), options, *salt)

        return Series(label(client, options), command)

    return [series("buildx", ""), series("cachex", ""), series("cachex", ",via=client")]


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


def _add(steps: int, export_cost: float, cost: float):
    case(f"growth-export-{steps}", f"cold export of {steps} steps of one small file", cost=export_cost)(
        lambda world: _exports(world, steps))
    case(f"growth-merge-{steps}", f"export of {steps} finished steps onto a cache of as many others", cost=cost)(
        lambda world: _merges(world, steps))
    case(f"growth-import-{steps}", f"import of {steps} steps on an empty builder", cost=cost)(
        lambda world: _imports(world, steps))


_add(10, 15, 5)
# The builder's own time grows with the square: a hundred layers of one file take it 50 s.
_add(40, 80, 10)
