"""Imports on a builder that holds nothing. All clients read the cache that buildx wrote."""

from model import both, case

from .layers import SMALL, arg, export


def imports(world, change: bool = False, host: str | None = None, output: str = "type=cacheonly", args=(),
            read=lambda ref: ref):
    """The series of a build with `--cache-from` on an emptied builder; with `change` the last step is another one. `read`
    says for each run where to read what a reference holds."""
    folder = world.project(SMALL.format(base=world.base, end=""))
    salt, ref = arg("SALT", world.salt()), world.fresh(host)
    world.quiet(export(world, "buildx", folder, ref, "", *salt))

    def command(client):
        world.prune()
        changed = arg("LAST", world.salt()) if change else ()
        return world.build(client, folder, "--cache-from", read(ref), *salt, *changed, *args, output=output)

    return both(command)


@case("import-full", "import of 50 MB on an empty builder, nothing changed", cost=22, core=True)
def full(world):
    return imports(world)


@case("import-changed", "the same, last step changed", cost=62, core=True)
def changed(world):
    return imports(world, change=True)


@case("import-load", "the same, nothing changed, with --load", cost=64, core=True)
def load(world):
    name = f"bench-{world.builder}"
    world.at_end(["docker", "image", "rm", "--force", name])
    return imports(world, output="", args=("--load", "--tag", name))
