"""Another peer: Debian's buildah with a registry cache of its own kind, which all three begin with nothing."""

import os
import shutil
from pathlib import Path

import ready
from model import CLIENTS, Series, case

from .layers import MEDIUM

# buildah 1.28 takes nothing from a registry for an ARG, and so nothing after it: what changes stands in the steps.
PROJECT = "\n".join(line for line in MEDIUM.splitlines() if not line.startswith("ARG")).replace("$SALT", "{salt}")
PROJECT = PROJECT.replace("$MIDDLE", "").replace("$LAST", "{last}").replace("{end}", "")
BUILDAH = "buildah"


class Buildah:
    """The program under the rig's folder, with images that lie where the builders have theirs."""

    def __init__(self, world):
        self.folder = ready.buildah()
        rig = Path(os.environ["CACHEX_RIG_DIR"])
        self.runtime = rig / "packages/usr/sbin/runc"
        self.store = rig / "state" / f"bench-buildah-{os.getpid()}"
        self.registries = world.folder / "buildah-registries.conf"
        self.registries.write_text(f'[[registry]]\nlocation = "{world.host}"\ninsecure = true\n')
        world.at_end(["rm", "-rf", str(self.store)])

    def empty(self):
        shutil.rmtree(self.store, ignore_errors=True)

    def build(self, folder: Path, repository: str) -> list[str]:
        # What it remembers of blobs has one place on a machine, of which each run gets an empty one.
        alone = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /var/lib && exec "$@"', "sh"]
        libraries = next(self.folder.glob("usr/lib/*/libgpgme.so.11")).parent
        return [*alone, "env", f"LD_LIBRARY_PATH={libraries}", str(self.folder / "usr/bin/buildah"),
                "--root", str(self.store / "root"), "--runroot", str(self.store / "run"), "--storage-driver", "overlay",
                "--registries-conf", str(self.registries),
                "build", "--layers", "--runtime", str(self.runtime), "--network", "host", "--tls-verify=false",
                "--signature-policy", str(self.folder / "etc/containers/policy.json"),
                "--cache-from", repository, "--cache-to", repository, str(folder)]


def _series(world, filled: bool, changed: bool) -> list[Series]:
    """Builds with a cache from and to one place, of clients that have nothing: the cache holds nothing either unless it is
    `filled`, and the last step is another one than it has where it has `changed`."""
    base, other = world.base_at(world.host), Buildah(world)

    def write(folder: Path, salt: str, last: str):
        (folder / "Dockerfile").write_text(PROJECT.format(base=base, salt=salt, last=last))

    def build(client: str, folder: Path, ref: str) -> list[str]:
        if client == BUILDAH:
            other.empty()
            return other.build(folder, ref.rpartition(":")[0])
        world.prune()
        return world.build(client, folder, "--cache-from", ref, "--cache-to", f"type=registry,ref={ref},mode=max")

    def series(client: str) -> Series:
        folder, salt, ref = world.project(""), world.salt(), world.fresh()
        if filled:
            write(folder, salt, "same")
            world.quiet(build(client, folder, ref))

        def command():
            write(folder, salt if filled else world.salt(), world.salt() if changed else "same")
            return build(client, folder, ref if filled else world.fresh())

        return Series(client, command)

    return [series(client) for client in (*CLIENTS, BUILDAH)]


@case("buildah-cold", "build of 110 MB on an empty builder, cache export", cost=110, needs_line=True, own_builder=True)
def cold(world):
    return _series(world, filled=False, changed=False)


@case("buildah-unchanged", "the same with a cache, nothing changed", cost=60, needs_line=True, own_builder=True)
def unchanged(world):
    return _series(world, filled=True, changed=False)


@case("buildah-last", "the same, last step changed", cost=70, needs_line=True, own_builder=True)
def last(world):
    return _series(world, filled=True, changed=True)
