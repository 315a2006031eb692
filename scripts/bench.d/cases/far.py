"""The registry behind a line of 30 ms and 200 Mbit/s."""

from model import case

from .fresh import imports
from .incremental import changes
from .layers import SMALL, cold


@case("far-export", "cold export of 50 MB over 30 ms and 200 Mbit/s, gzip", cost=80, needs_line=True)
def far_export(world):
    folder = world.project(SMALL.format(base=world.base, end=""))

    def series(client, variant=""):
        return cold(world, folder, client, variant, host=world.registries.far)

    return [series("buildx"), series("cachex"), series("cachex", "via=client"), series("cachex", "compressor=client")]


@case("far-incremental", "build and export of 50 MB, last step changed, over 30 ms and 200 Mbit/s", cost=36, needs_line=True, core=True)
def far_incremental(world):
    return changes(world, "LAST", host=world.registries.far)


@case("far-import-full", "import on an empty builder, nothing changed, over the same line", cost=25, needs_line=True, core=True)
def far_import_full(world):
    return imports(world, host=world.registries.far)


@case("far-import-changed", "the same, last step changed", cost=65, needs_line=True)
def far_import_changed(world):
    return imports(world, change=True, host=world.registries.far)


@case("far-import-login", "the same, nothing changed, with TLS's round trip and a token for each build", cost=35,
      needs_line=True)
def far_import_login(world):
    def unknown(ref):
        # The builder keeps tokens, by repository.
        copy = world.fresh(world.registries.login)
        world.registries.copy(ref, copy)
        return copy

    return imports(world, host=world.registries.login, read=unknown)
