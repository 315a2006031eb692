"""Contexts: the time from the command to the step that has all of it, which does nothing."""

import os

from model import case, each_way

DOCKERFILE = "FROM {base}\nRUN --mount=target=/context true\n"
FILES, SIZE = 20_000, 15_000  # 300 MB


def many_files(world, dockerfile=DOCKERFILE):
    folder = world.project(dockerfile.format(base=world.small_base))
    noise = os.urandom(SIZE + FILES)
    for number in range(FILES):
        below = folder / f"package-{number % 200}" / "src"
        if number < 200:
            below.mkdir(parents=True)
        (below / f"{number}.bin").write_bytes(noise[number:number + SIZE])
    return folder


def _cold(world, folder):
    def command(client):
        world.prune()
        return world.build(client, folder)

    return each_way(command, core=False)


@case("context-cold", "context of 20,000 files, 300 MB, on an empty builder", cost=100, core=True)
def cold(world):
    return _cold(world, many_files(world))


@case("context-warm", "the same context again, unchanged", cost=45, core=True)
def warm(world):
    folder = many_files(world)
    return each_way(lambda client: world.build(client, folder), core=False)


@case("context-changed", "the same context, one file changed", cost=30)
def changed(world):
    folder = many_files(world)

    def command(client):
        (folder / "package-7" / "src" / "7.bin").write_text(world.salt())
        return world.build(client, folder)

    return each_way(command)


@case("context-large", "context of one file of 1 GB on an empty builder", cost=150)
def large(world):
    folder = world.project(DOCKERFILE.format(base=world.small_base))
    piece = os.urandom(1 << 20)
    with (folder / "large.bin").open("wb") as file:
        for _ in range(1000):
            file.write(piece)
    return _cold(world, folder)
