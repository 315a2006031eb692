"""Around the end of the last step, in a build that makes all its layers: how long the command takes from there, and how
long the steps take beside which a cache is exported."""

from model import Series, case, label

from .layers import BUSY, IDLE, MEDIUM, SMALL, WORK, arg, export


def _ends(world, end: str, project: str = MEDIUM, figure: str = "tail_ms", push: bool = False, core: bool = True):
    folder = world.project(project.format(base=world.base, end=end))

    def series(client, options="", core=True):
        def command():
            world.prune_results()
            output = f"type=image,name={world.fresh()},push=true" if push else "type=cacheonly"
            return export(world, client, folder, world.fresh(), options, *arg("SALT", world.salt()), output=output,
                          progress="rawjson")

        return Series(label(client, options), command, figure, core)

    return [series("buildx"), series("cachex"), series("cachex", ",via=client", core)]


@case("tail-idle", "time after the last step of a build of 100 MB, the last step sleeps 4 s", cost=140, core=True)
def idle(world):
    return _ends(world, IDLE)


@case("tail-push", "time after the last step of the same build, with --push of the image", cost=170)
def pushed(world):
    return _ends(world, IDLE, push=True)


@case("tail-busy", "time after the last step of a build of 50 MB, the last step takes two cores for 2 s", cost=64, core=True)
def busy(world):
    return _ends(world, BUSY, SMALL, core=False)


@case("steps-busy", "time until the end of the last step of the same build, where two cores have work in it", cost=120)
def slowed(world):
    return _ends(world, WORK, SMALL, "steps_ms")
