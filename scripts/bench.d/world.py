"""The surroundings of a case: clients, builder, registry, folders. All of it is gone at the end."""

import itertools
import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import engine
import phases
from model import Failed
from packages import Packages
from ready import target
from registries import Registries

PLUGIN_FOLDERS = ("/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins",
                  "/usr/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins")


class World:
    """`host` is where clients and builder see the registry; `registries` has more ways to it where the bench started it."""

    def __init__(self, args, helpers: Path):
        self.folder = Path(tempfile.mkdtemp(prefix="cachex-bench-"))
        self.helpers = helpers
        self.salts = (f"{random.getrandbits(48):x}-{number}" for number in itertools.count())
        self.names = itertools.count(1)
        self.registries: Registries | None = None
        self.own_builder = args.builder is None
        self.builder = args.builder or f"bench-{os.getpid()}"
        self.base = args.base or os.environ["CACHEX_RIG_BASE"]
        self.small_base = args.base or os.environ["CACHEX_RIG_BUSYBOX"]
        self.last_commands: list[list[str]] = []
        self.packages: Packages | None = None
        self._make_config(args.plugin, args.peer)
        self.host = args.registry

    # Setting up.

    def _make_config(self, plugin: Path, peer: Path | None):
        """A docker configuration like the user's, but with this plugin."""
        old = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
        new = self.folder / "config"
        (new / "cli-plugins").mkdir(parents=True)
        if not self.own_builder and old.is_dir():
            for entry in old.iterdir():
                if entry.name != "cli-plugins":
                    (new / entry.name).symlink_to(entry.resolve())
        if not (new / "config.json").exists():
            (new / "config.json").write_text("{}")
        places = [folder / "docker-buildx" for folder in (old / "cli-plugins", *map(Path, PLUGIN_FOLDERS))]
        peer = peer or next((place for place in places if place.exists()), None)
        if peer is None:
            raise Failed("docker buildx is not there: nothing to compare with")
        self.programs = {"buildx": peer.resolve(), "cachex": plugin.resolve()}
        for name, program in self.programs.items():
            (new / "cli-plugins" / f"docker-{name}").symlink_to(program)
        os.environ["DOCKER_CONFIG"] = str(new)

    def boot(self):
        """Starts the registry and makes the builder, unless the user named others."""
        if self.host is None:
            self.registries = Registries(self.folder, self.helpers)
            self.host = self.registries.near
        if self.own_builder:
            self.quiet(self.plugin("buildx", "create", "--name", self.builder, "--driver", "docker-container",
                                   "--driver-opt", self.builder_options(), "--bootstrap"))

    def at_end(self, command: list[str]):
        """A command that takes away what a case leaves outside of builder and registry."""
        self.last_commands.append(command)

    def close(self):
        if self.own_builder:
            self.at_end(self.plugin("buildx", "rm", "--force", self.builder))
        for command in self.last_commands:
            subprocess.run(command, capture_output=True, check=False)
        self._close_packages()
        if self.registries:
            self.registries.close()
        shutil.rmtree(self.folder)

    # What cases use.

    def quiet(self, command: list[str]) -> str:
        """Runs a command that is not measured; fails where it fails."""
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
        return done.stdout

    def plugin(self, client: str, *args: str) -> list[str]:
        """A command of a client without docker before it."""
        return [str(self.programs[client]), *args]

    def build(self, client: str, folder: Path, *args: str, output: str = "type=cacheonly", progress: str = "quiet"):
        """A build; no output where that is empty."""
        outputs = ["--output", output] if output else []
        return self.plugin(client, "build", "--builder", self.builder, "--progress", progress, *outputs, *args,
                           str(folder))

    def salt(self) -> str:
        """A value that no build has seen."""
        return next(self.salts)

    def fresh(self, host: str | None = None) -> str:
        """A reference that holds nothing, at another host than the usual one where one is given."""
        return f"{host or self.host}/bench-{os.getpid()}/{next(self.names)}:cache"

    def project(self, dockerfile: str) -> Path:
        """A folder with a Dockerfile."""
        folder = self.folder / "projects" / str(next(self.names))
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(dockerfile)
        return folder

    def builder_options(self) -> str:
        """The driver's options of a builder of the bench."""
        return f"image={self.builder_image()},network=host"

    def builder_image(self) -> str:
        """The image that builders are made from."""
        return os.environ["CACHEX_RIG_BUILDER_IMAGE"]

    def base_at(self, host: str) -> str:
        """The base image, copied to a registry of the bench."""
        copy = "base/debian:bookworm"
        self.quiet(["crane", "copy", "--insecure", self.base, f"{self.registries.near}/{copy}"])
        return f"{host}/{copy}"

    def prune(self, *but: str):
        """Empties the builder."""
        self.quiet(self.plugin("buildx", "prune", "--builder", self.builder, "--all", "--force", *but))

    def prune_results(self):
        """Empties the builder of all but images. They are pulled in seconds, which nobody measures."""
        # What a builder has of images is described as "pulled from" a reference.
        self.prune("--filter", 'description~="^[^p]"')

    def serve_packages(self) -> Packages:
        """Packages over the long line, until the case ends."""
        self.packages = Packages(self, target() / "bench/packages")
        return self.packages

    def _close_packages(self):
        if self.packages:
            self.packages.close()
        self.packages = None

    def empty(self):
        """Forgets what the case before left in builder, registry and folders."""
        self._close_packages()
        self.prune()
        # What compressor=client changes in later builds ends with what it took from the builder.
        if self.own_builder:
            marks = Path(os.environ["DOCKER_CONFIG"]) / "buildx" / "cachex" / "uncompressed" / self.builder
            shutil.rmtree(marks, ignore_errors=True)
        shutil.rmtree(self.folder / "registry", ignore_errors=True)
        shutil.rmtree(self.folder / "projects", ignore_errors=True)

    # Measuring.

    def measure(self, command: list[str], figure: str) -> dict:
        """Runs a command and returns its sample, with the figure that is asked for."""
        report, errors = self.folder / "report", self.folder / "stderr"
        before, builder_before = self._counters(), engine.cpu_ms(self.builder)
        packages_before = self._received()
        with errors.open("wb") as stderr:
            subprocess.run([self.helpers / "meter", report, *command], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=stderr, check=True)
        took = json.loads(report.read_text())
        text = errors.read_text(errors="replace")
        if took["code"] != 0:
            raise Failed(f"{' '.join(command)}: exit code {took['code']}: {text[-2000:].strip()}")
        sample = {"wall_ms": took["wall"] / 1e6, "cpu_ms": took["cpu"] / 1e6, "peak_mib": took["peak"] / 1024}
        after, builder_after = self._counters(), engine.cpu_ms(self.builder)
        if builder_before is not None and builder_after is not None:
            sample["builder_cpu_ms"] = builder_after - builder_before
        if after:
            requests, up, down = (new - old for new, old in zip(after, before))
            sample |= {"requests": requests, "up_mb": up / 1e6, "down_mb": down / 1e6}
        if self.packages:
            sample["packages_mb"] = (self._received() - packages_before) / 1e6
        if figure == "job_ms":
            sample |= phases.of_job(text)
            # That of the builder that is there all the time, which does nothing.
            sample.pop("builder_cpu_ms", None)
        elif figure == "mount_ms":
            sample["mount_ms"] = phases.of_mount(text)
        elif figure != "wall_ms":
            sample["tail_ms"] = took["end"] / 1e6 - last_step(text) * 1000
            sample["steps_ms"] = sample["wall_ms"] - sample["tail_ms"]
        return sample

    def _counters(self) -> tuple[int, ...]:
        return self.registries.counters() if self.registries else ()

    def _received(self) -> int:
        """Bytes of packages."""
        return self.packages.received() if self.packages else 0


def last_step(progress: str) -> float:
    """When the last step of a build ended, in seconds since 1970, by its rawjson progress."""
    vertexes = (vertex for report in phases.reports(progress) for vertex in report.get("vertexes") or [])
    ends = [phases.seconds(vertex["completed"]) for vertex in vertexes
            if vertex.get("completed") and phases.is_step(vertex.get("name", ""))]
    if not ends:
        raise Failed("the build has shown no step")
    return max(ends)
