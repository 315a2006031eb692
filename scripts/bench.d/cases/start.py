"""Start-up: commands that need no builder, through docker and alone."""

from model import Series, case


def _both(world, *words: str) -> list[Series]:
    return [Series(client, lambda _run, client=client: ["docker", client, *words]) for client in ("buildx", "cachex")]


def _alone(world, *words: str) -> list[Series]:
    return [Series(client, lambda _run, client=client: world.plugin(client, *words)) for client in ("buildx", "cachex")]


@case("version", "`version`")
def version(world):
    return _both(world, "version")


@case("help", "`--help`")
def help_text(world):
    return _both(world, "--help")


@case("ls", "`ls`")
def ls(world):
    return _both(world, "ls")


@case("version-alone", "`version` without the docker command line")
def version_alone(world):
    return _alone(world, "version")


@case("ls-alone", "`ls` without the docker command line")
def ls_alone(world):
    return _alone(world, "ls")
