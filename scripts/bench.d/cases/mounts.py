"""Cache mounts taken out of a builder and into one, against what reads and writes the same files without one."""

import random
import shutil
import tempfile
from pathlib import Path

from model import ARCHIVER, Series, case

from .layers import arg, export

FILES, SIZE = 100_000, 20_000  # 2 GB
FOLDERS = 500
MOUNT = "FROM {base}\nARG SALT\nRUN --mount=type=cache,id=mounts,target=/m "
MAKE = MOUNT + "--mount=type=bind,from=tree,target=/tree cp -a /tree/. /m/\n"
LOOK = MOUNT + ": $SALT\n"


def tree(world) -> Path:
    """A folder in memory, as the engine's files are, of lines that come again and again, as in sources."""
    folder = Path(tempfile.mkdtemp(prefix="cachex-bench-", dir="/dev/shm"))
    world.at_end(["rm", "-rf", str(folder)])
    chance = random.Random(7)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=chance.randint(2, 11))) for _ in range(20_000)]
    lines = [" ".join(chance.choices(words, k=8)) for _ in range(300_000)]
    known = lines[:3_000]
    # Far more than a compressor looks back.
    text = "\n".join(chance.choice(known if chance.random() < 0.7 else lines) for _ in range(1_000_000)).encode()
    for number in range(FILES):
        below = folder / "tree" / f"package-{number % FOLDERS}"
        if number < FOLDERS:
            below.mkdir(parents=True)
        at = chance.randrange(len(text) - SIZE)
        (below / f"{number}.txt").write_bytes(text[at:at + SIZE])
    return folder


def fill(world, folder: Path) -> Path:
    """Puts the tree into a mount of the builder; gives the project whose step looks at that."""
    make = world.project(MAKE.format(base=world.base))
    world.quiet(world.build("cachex", make, "--build-context", f"tree={folder / 'tree'}"))
    world.prune("--filter", "type=source.local")
    return world.project(LOOK.format(base=world.base))


@case("mounts-out", "cache mount of 100,000 files, 2 GB, to the registry; against tar and zstd of them", cost=180)
def out(world):
    folder = tree(world)
    archive = folder / "tree.tar.zst"
    look = fill(world, folder)

    def plain():
        archive.unlink(missing_ok=True)
        return ["sh", "-c", f"tar -C {folder / 'tree'} -cf - . | zstd -q -o {archive}"]

    def cachex():
        return export(world, "cachex", look, world.fresh(), ",mounts=all", *arg("SALT", world.salt()),
                      progress="rawjson")

    return [Series(ARCHIVER, plain), Series("cachex", cachex, "mount_ms")]


@case("mounts-in", "the same mount on a builder that lacks it; against zstd and tar", cost=240)
def into(world):
    folder = tree(world)
    archive = folder / "tree.tar.zst"
    world.quiet(["sh", "-c", f"tar -C {folder / 'tree'} -cf - . | zstd -q -o {archive}"])
    look, ref = fill(world, folder), world.fresh()
    world.quiet(export(world, "cachex", look, ref, ",mounts=all", *arg("SALT", world.salt())))
    shutil.rmtree(folder / "tree")

    def plain():
        shutil.rmtree(folder / "in", ignore_errors=True)
        (folder / "in").mkdir()
        return ["sh", "-c", f"zstd -dcq {archive} | tar -C {folder / 'in'} -xf -"]

    def cachex():
        shutil.rmtree(folder / "in", ignore_errors=True)
        world.prune("--filter", "type=exec.cachemount")
        return world.build("cachex", look, "--cache-from", f"type=registry,ref={ref}", *arg("SALT", world.salt()),
                           progress="rawjson")

    return [Series(ARCHIVER, plain), Series("cachex", cachex, "mount_ms")]
