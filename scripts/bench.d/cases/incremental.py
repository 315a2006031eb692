"""One step changed since the cache was exported, on the builder that holds the rest."""

from model import Series, case, label

from .layers import SMALL, arg, export


def changes(world, changed: str, host: str | None = None):
    """The series where the ARG `changed` has another value in every run; each has a cache of its own. Over a long line
    `via=client` is a core one."""
    folder = world.project(SMALL.format(base=world.base, end=""))
    salt = arg("SALT", world.salt())

    def series(client, options, core=True):
        ref = world.fresh(host)
        world.quiet(export(world, client, folder, ref, options, *salt))
        return Series(label(client, options), lambda: export(
            world, client, folder, ref, options, *salt, *arg(changed, world.salt())), core=core)

    return [series("buildx", ""), series("cachex", ""), series("cachex", ",via=client", core=host is not None)]


@case("incremental-last", "build and export of 50 MB, last step changed", cost=13, core=True)
def last(world):
    return changes(world, "LAST")


@case("incremental-middle", "the same, a step in the middle changed, 25 MB from it on", cost=30, core=True)
def middle(world):
    return changes(world, "MIDDLE")
