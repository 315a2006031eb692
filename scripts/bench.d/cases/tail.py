"""Around the end of the last step, in a build that makes all its layers: how long the command takes from there, and how
long the steps take beside which a cache is exported."""

from model import Series, case, label

from .layers import BUSY, IDLE, MEDIUM, WORK, arg, export


def _ends(world, end: str, figure: str, options):
    folder = world.project(MEDIUM.format(base=world.base, end=end))

    def series(client, options=""):
        def command():
            world.prune()
            return export(world, client, folder, world.fresh(), options, *arg("SALT", world.salt()),
                          progress="rawjson")

        return Series(label(client, options), command, figure)

    return [series("buildx"), series("cachex"), *(series("cachex", f",{option}") for option in options)]


@case("tail-idle", "time after the last step of a build of 100 MB, the last step sleeps 2 s", cost=105)
def idle(world):
    return _ends(world, IDLE, "tail_ms", ("via=builder", "via=client"))


@case("tail-busy", "the same, the last step takes two cores for 2 s", cost=85)
def busy(world):
    return _ends(world, BUSY, "tail_ms", ("via=client",))


@case("steps-busy", "time until the end of the last step, where two cores have work in it for seconds", cost=85)
def slowed(world):
    return _ends(world, WORK, "steps_ms", ("via=client",))
