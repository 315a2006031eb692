"""Start-up: commands that need no builder, through docker and alone."""

from model import Series, both, case


def _through_docker(*words: str) -> list[Series]:
    return both(lambda client: ["docker", client, *words])


def _alone(world, *words: str) -> list[Series]:
    return both(lambda client: world.plugin(client, *words))


@case("version", "`version`", cost=2, core=True)
def version(world):
    return _through_docker("version")


@case("help", "`--help`", cost=2, core=True)
def help_text(world):
    return _through_docker("--help")


@case("ls", "`ls`", cost=3)
def ls(world):
    return _through_docker("ls")


@case("version-alone", "`version` without the docker command line", cost=1, core=True)
def version_alone(world):
    return _alone(world, "version")


@case("ls-alone", "`ls` without the docker command line", cost=2)
def ls_alone(world):
    return _alone(world, "ls")
