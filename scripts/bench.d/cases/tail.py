"""The tail: from the end of the last step to the end of the command, in a build that makes all its layers."""

from model import Series, case, label

from .layers import BUSY, IDLE, MEDIUM, arg, export


def _tails(world, end: str, options):
    folder = world.project(MEDIUM.format(base=world.base, end=end))

    def series(client, options=""):
        def command():
            world.prune()
            return export(world, client, folder, world.fresh(), options, *arg("SALT", world.salt()),
                          progress="rawjson")

        return Series(label(client, options), command, tail=True)

    return [series("buildx"), series("cachex"), *(series("cachex", f",{option}") for option in options)]


@case("tail-idle", "time after the last step of a build of 100 MB, the last step sleeps 2 s", cost=105)
def idle(world):
    return _tails(world, IDLE, ("via=builder", "via=client"))


@case("tail-busy", "the same, the last step takes two cores for 2 s", cost=85)
def busy(world):
    return _tails(world, BUSY, ("via=client",))
