"""The registry behind a line of 30 ms and 200 Mbit/s."""

from model import Series, case, label

from .fresh import imports
from .incremental import changes
from .layers import MEDIUM, export, made


@case("far-export", "cold export of 100 MB over 30 ms and 200 Mbit/s, gzip", cost=70, needs_line=True)
def far_export(world):
    folder = world.project(MEDIUM.format(base=world.base, end=""))

    def series(client, options):
        def command():
            salt = made(world, folder)
            return export(world, client, folder, world.fresh(far=True), options, *salt)

        return Series(label(client, options), command)

    return [series("buildx", ""), series("cachex", ""), series("cachex", ",via=client"),
            series("cachex", ",compressor=client")]


@case("far-incremental", "build and export, last step changed, over the same line", cost=22, needs_line=True)
def far_incremental(world):
    return changes(world, "LAST", far=True)


@case("far-import-full", "import on an empty builder, nothing changed, over the same line", cost=10, needs_line=True)
def far_import_full(world):
    return imports(world, far=True)


@case("far-import-changed", "the same, last step changed", cost=40, needs_line=True)
def far_import_changed(world):
    return imports(world, change=True, far=True)
