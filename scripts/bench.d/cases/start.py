"""Start-up: commands that need no builder, through docker and alone."""

from model import Series, case


def _both(world, *words: str) -> list[Series]:
    return [Series(client, lambda client=client: ["docker", client, *words]) for client in ("buildx", "cachex")]


def _alone(world, *words: str) -> list[Series]:
    return [Series(client, lambda client=client: world.plugin(client, *words)) for client in ("buildx", "cachex")]


@case("version", "`version`", cost=2)
def version(world):
    return _both(world, "version")


@case("help", "`--help`", cost=2)
def help_text(world):
    return _both(world, "--help")


@case("ls", "`ls`", cost=3)
def ls(world):
    return _both(world, "ls")


@case("version-alone", "`version` without the docker command line", cost=1)
def version_alone(world):
    return _alone(world, "version")


@case("ls-alone", "`ls` without the docker command line", cost=2)
def ls_alone(world):
    return _alone(world, "ls")
