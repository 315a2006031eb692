"""Many steps with next to nothing in them: what each step and record costs."""

from model import Series, case

from .layers import arg, export, made

SIZES = (10, 100, 400)


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
        def command(_run):
            salt = made(world, folder)
            return export(world, client, folder, world.fresh(), options, *salt)

        return Series(f"{client} {options.strip(',')}".strip(), command)

    return [series("buildx", ""), series("cachex", ""), series("cachex", ",via=client")]


def _imports(world, steps: int):
    folder, ref = _project(world, steps), world.fresh()
    salt = made(world, folder)
    world.quiet(export(world, "buildx", folder, ref, "", *salt))

    def series(client):
        def command(_run):
            world.prune()
            return world.build(client, folder, "--cache-from", ref, *salt)

        return Series(client, command)

    return [series("buildx"), series("cachex")]


def _merges(world, steps: int):
    """The peer replaces a cache of as many records; cachex keeps the records of two builds."""
    folder = _project(world, steps)
    salts = [arg("SALT", world.salt()) for _ in range(2)]

    def series(client, options):
        ref = world.fresh()

        def command(run):
            for salt in salts if run == 0 else ():
                world.quiet(export(world, client, folder, ref, options, *salt))
            return export(world, client, folder, ref, options, *salts[run % 2])

        return Series(f"{client} {options.strip(',')}".strip(), command)

    # As long as there is no merge there is nothing to measure.
    ours = [series("cachex", ",merge=true")] if world.accepts("merge=true") else []
    return [series("buildx", ""), *ours] if ours else []


def _add(steps: int):
    case(f"growth-export-{steps}", f"cold export of {steps} steps of one small file")(
        lambda world: _exports(world, steps))
    case(f"growth-merge-{steps}", f"export of {steps} finished steps onto a cache of as many others")(
        lambda world: _merges(world, steps))
    case(f"growth-import-{steps}", f"import of {steps} steps on an empty builder")(
        lambda world: _imports(world, steps))


for size in SIZES:
    _add(size)
