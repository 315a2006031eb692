"""One step changed since the cache was exported, on the builder that holds the rest."""

from model import Series, case

from .layers import MEDIUM, arg, export


def changes(world, changed: str, far: bool = False):
    """The series where the ARG `changed` has another value in every run; each has a cache of its own."""
    folder = world.project(MEDIUM.format(base=world.base, end=""))
    salt = arg("SALT", world.salt())

    def series(client, options):
        ref = world.fresh(far)

        def command(run):
            if run == 0:
                world.quiet(export(world, client, folder, ref, options, *salt))
            return export(world, client, folder, ref, options, *salt, *arg(changed, world.salt()))

        return Series(f"{client} {options.strip(',')}".strip(), command)

    return [series("buildx", ""), series("cachex", ""), series("cachex", ",via=client")]


@case("incremental-last", "build and export, last step changed, 100 MB")
def last(world):
    return changes(world, "LAST")


@case("incremental-middle", "the same, a step in the middle changed (46 MB after it)")
def middle(world):
    return changes(world, "MIDDLE")
