"""What it costs to tell why steps ran: builds that read a cache, without the telling and with it."""

from model import Series, case

from .context import many_files

DOCKERFILE = "FROM {base}\nCOPY . /context\nRUN true\n"
MODES = ("off", "auto")


def _series(world, folder, ready=lambda: None):
    ref = world.fresh()

    def build(mode, *more):
        # Nothing is told with the progress that other cases have.
        return world.build("cachex", folder, "--cache-from", ref, f"--explain={mode}", *more, progress="plain")

    world.quiet(build("off", "--cache-to", f"type=registry,ref={ref},mode=max"))

    def command(mode):
        ready()
        return build(mode)

    return [Series(f"cachex --explain={mode}", lambda mode=mode: command(mode)) for mode in MODES]


@case("explain-noop", "build with --cache-from of which everything is in the builder's cache", cost=5)
def noop(world):
    folder = world.project(DOCKERFILE.format(base=world.small_base))
    for number in range(200):
        (folder / str(number)).write_text(str(number))
    return _series(world, folder)


@case("explain-context", "the same with a context of 20,000 files, 300 MB", cost=30)
def context(world):
    return _series(world, many_files(world, DOCKERFILE))


@case("explain-changed", "the same context, one file changed", cost=60)
def changed(world):
    folder = many_files(world, DOCKERFILE)

    def change():
        (folder / "package-7" / "src" / "7.bin").write_text(world.salt())

    return _series(world, folder, change)
