"""The tail: from the end of the last step to the end of the command, in a build that makes all its layers."""

from model import Series, case

from .layers import BUSY, IDLE, MEDIUM, arg, export


def _tails(world, end: str):
    folder = world.project(MEDIUM.format(base=world.base, end=end))
    alongside = ",alongside=true" if world.accepts("alongside=true") else ""

    def series(label, client, options=""):
        def command(_run):
            world.prune()
            return export(world, client, folder, world.fresh(), options, *arg("SALT", world.salt()),
                          progress="rawjson")

        return Series(label, command, tail=True)

    return [
        series("buildx", "buildx"),
        series("cachex", "cachex"),
        series("cachex via=builder", "cachex", f",via=builder{alongside}"),
        series("cachex via=client", "cachex", f",via=client{alongside}"),
    ]


@case("tail-idle", "time after the last step of a build of 100 MB, the last step sleeps 3 s")
def idle(world):
    return _tails(world, IDLE)


@case("tail-busy", "the same, the last step takes two cores for 3 s")
def busy(world):
    return _tails(world, BUSY)
