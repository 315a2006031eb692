"""Package managers and compilers with a cache mount: the job of a CI on a builder that was just made, with one file
changed since the job before. The registry of images is near, those of packages are over the long line."""

import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from model import Series, case, label
from packages import Packages
from ready import ROOT

from .job import SCRIPT

APT = "apt-get -qq update && apt-get -qq install -y --no-install-recommends"
SOURCE = "rm -rf /etc/apt/sources.list* /etc/apt/apt.conf.d/docker-clean && echo {source} >/etc/apt/sources.list"
# The image that steps of a tool begin with.
IMAGE = """\
FROM {base}
RUN {source} && {apt} {debs} && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
"""

EXTRA = "with two more builds"
# What users do who have no mounts in their caches: a build before that copies the files in, from an image, and one after
# that copies them out again.
RESTORE = "FROM {saved} AS saved\nFROM {base}\nRUN --mount=from=saved,target=/saved {mounts} {copies}\n"
SAVE = """\
FROM {base} AS save
ARG SALT
RUN {mounts} : $SALT; mkdir /saved; {copies}
FROM scratch
COPY --from=save /saved /
"""


@dataclass
class Tool:
    """What a tool needs. `prepare` fills the folder of the project; `change` changes one file of it, or makes it the first
    time; `run` is the command of the step."""

    debs: str
    mounts: tuple[str, ...]
    run: str
    prepare: Callable[[Packages, Path], None]
    change: Callable[[Path, str], None]
    more: str = ""  # more of the Dockerfile of its image
    contexts: list[str] = field(default_factory=list)
    sharing: str = "shared"


def _jobs(world, make: Callable[[Packages], Tool]) -> list[Series]:
    packages = world.serve_packages()
    tool = make(packages)
    image = _image(world, tool, packages)
    builder = f"bench-mounts-{os.getpid()}"
    world.at_end(world.plugin("buildx", "rm", "--force", builder))

    def series(client: str, way: str) -> Series:
        options = "".join(f",sharing={tool.sharing},target={mount} --mount=type=cache" for mount in tool.mounts)
        mounts = f"--mount=type=cache{options.removesuffix(' --mount=type=cache')}"
        folder = world.project(f"FROM {image}\nWORKDIR /src\nCOPY . .\nRUN {mounts} {tool.run}\n")
        tool.prepare(packages, folder)
        job = _Job(world, client, way, builder, folder, tool.mounts, world.fresh(), world.fresh())

        def command() -> list[str]:
            tool.change(folder, world.salt())
            return job.command()

        world.quiet(command())
        return Series(label(client, way), command, "job_ms")

    return [series("buildx", ""), series("buildx", EXTRA), series("cachex", ",mounts=all")]


def _image(world, tool: Tool, packages: Packages) -> str:
    """Makes the image of a tool, and returns its name."""
    image = world.fresh()
    source = SOURCE.format(source=shlex.quote(packages.debian(tool.debs))) if tool.debs else ":"
    folder = world.project(IMAGE.format(base=world.base, source=source, apt=APT if tool.debs else ":", debs=tool.debs) + tool.more)
    world.quiet(world.build("buildx", folder, *tool.contexts, output=f"type=image,name={image},push=true"))
    return image


@dataclass
class _Job:
    """A job: a builder is made, the project is built, and the builder is removed. `ref` is its cache, `saved` an image of
    the mounts."""

    world: object
    client: str
    way: str
    builder: str
    folder: Path
    mounts: tuple[str, ...]
    ref: str
    saved: str
    is_first: bool = True

    def command(self) -> list[str]:
        world, options = self.world, self.way if self.way.startswith(",") else ""
        create = world.plugin(self.client, "create", "--name", self.builder, "--driver", "docker-container", "--driver-opt",
                              world.builder_options(), "--bootstrap")
        cache = f"type=registry,ref={self.ref}"
        builds = [self._build(self.folder, "--cache-from", cache, "--cache-to", f"{cache},mode=max{options}")]
        if self.way == EXTRA:
            builds = [*([] if self.is_first else [self._restore()]), *builds, self._save()]
        self.is_first = False
        remove = world.plugin(self.client, "rm", "--force", self.builder)
        lines = SCRIPT.format(create=_line(create), build=" && ".join(map(_line, builds)), remove=_line(remove))
        return ["bash", "-c", lines]

    def _build(self, folder: Path, *args: str, output: str = "type=cacheonly") -> list[str]:
        return self.world.plugin(self.client, "build", "--builder", self.builder, "--progress", "rawjson", "--output", output,
                                 *args, str(folder))

    def _restore(self) -> list[str]:
        mounts, copies = self._copies("/saved/{n}/.", "/m{n}/")
        return self._build(self.world.project(RESTORE.format(
            saved=self.saved, base=self.world.small_base, mounts=mounts, copies=copies)))

    def _save(self) -> list[str]:
        mounts, copies = self._copies("/m{n}", "/saved/{n}")
        folder = self.world.project(SAVE.format(base=self.world.small_base, mounts=mounts, copies=copies))
        output = f"type=image,name={self.saved},push=true,compression=zstd,force-compression=true"
        return self._build(folder, "--build-arg", f"SALT={self.world.salt()}", output=output)

    def _copies(self, origin: str, to: str) -> tuple[str, str]:
        """Options that open all mounts, and a command that copies them."""
        numbers = range(len(self.mounts))
        opened = [f"--mount=type=cache,id={mount},target=/m{n}" for n, mount in enumerate(self.mounts)]
        copies = [f"cp -a {origin.format(n=n)} {to.format(n=n)}" for n in numbers]
        return " ".join(opened), " && ".join(copies)


def _line(command: list[str]) -> str:
    return shlex.join(map(str, command))


def _write(folder: Path, name: str, text: str):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


# The tools.

C_FILES, C_FUNCTIONS = 24, 80
FUNCTION = """\
static int f{n}(const char *text, int *out, int count) {{
    int sum = {n};
    for (int i = 0; i < count && text[i]; i++) {{
        switch (text[i] % {k}) {{ case 0: sum += out[i] * {n}; break; case 1: sum ^= text[i] << 3; break; default: sum -= i; }}
        out[i] = sum > {n} ? sum / (1 + text[i]) : -sum;
    }}
    return sum;
}}
"""


def _c_file(number: int, salt: str) -> str:
    functions = "".join(FUNCTION.format(n=n, k=n % 7 + 2) for n in range(C_FUNCTIONS))
    calls = " + ".join(f"f{n}(text, out, {n})" for n in range(C_FUNCTIONS))
    return f'const char *salt{number} = "{salt}";\n{functions}int part{number}(const char *text, int *out) {{ return {calls}; }}\n'


def _c_project(_packages, folder: Path):
    for number in range(C_FILES):
        _write(folder, f"{number}.c", _c_file(number, "never"))
    parts = [f"part{number}" for number in range(C_FILES)]
    declared = "".join(f"int {part}(const char *, int *);\n" for part in parts)
    calls = " + ".join(f"{part}(argv[0], out)" for part in parts)
    _write(folder, "main.c", f"{declared}int main(int argc, char **argv) {{ int out[999] = {{argc}}; return ({calls}) & 1; }}\n")
    objects = "OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))"
    _write(folder, "Makefile", f"{objects}\nCC = ccache gcc\nCFLAGS = -O2\nprogram: $(OBJECTS)\n\t$(CC) -o $@ $^\n")


def _ccache(_packages) -> Tool:
    return Tool("gcc libc6-dev make ccache", ("/ccache",), "CCACHE_DIR=/ccache make -s -j2", _c_project,
                lambda folder, salt: _write(folder, "7.c", _c_file(7, salt)))


def _pip(packages: Packages) -> Tool:
    index, lines = packages.python("pandas flask requests", "docopt future")
    run = f"pip install --quiet --break-system-packages --index-url {index} --trusted-host {packages.proxy.host} -r requirements.txt"
    return Tool("python3-pip", ("/root/.cache/pip",), run, lambda *_: None,
                lambda folder, salt: _write(folder, "requirements.txt", "\n".join([*lines, f"# {salt}\n"])))


def _npm(packages: Packages) -> Tool:
    made = packages.node("webpack@5 webpack-cli@5 eslint@8 typescript@5 react@18 react-dom@18 express@4 jest@29")
    place = f"{packages.url}/node"

    def prepare(_packages, folder):
        for name in ("package.json", "package-lock.json"):
            _write(folder, name, (made / name).read_text())

    more = f"ADD {place}/npm.tgz /npm.tgz\nRUN tar -xzf /npm.tgz -C /usr/lib && rm /npm.tgz\n"
    run = "node /usr/lib/package/bin/npm-cli.js ci --no-audit --no-fund"
    return Tool("nodejs", ("/root/.npm",), run, prepare, lambda folder, salt: _write(folder, ".npmrc", f"; {salt}\n"), more)


APT_DEBS = "git curl python3"


def _apt(packages: Packages) -> Tool:
    source = SOURCE.format(source=shlex.quote(packages.debian(APT_DEBS)))
    run = f"{source} && {APT} $(cat packages.txt)"
    return Tool("", ("/var/cache/apt", "/var/lib/apt"), run, lambda *_: None,
                lambda folder, salt: (_write(folder, "packages.txt", APT_DEBS), _write(folder, "salt", salt)), sharing="locked")


MANIFEST = """\
[package]
name = "bench"
version = "0.1.0"
edition = "2021"
[dependencies]
regex = "1"
serde = { version = "1", features = ["derive"] }
serde_json = "1"
"""
MAIN = """\
#[derive(serde::Serialize)]
struct Salt {{ salt: &'static str }}
fn main() {{
    let is_salt = regex::Regex::new("^[0-9a-f-]+$").unwrap().is_match("{salt}");
    println!("{{}} {{is_salt}}", serde_json::to_string(&Salt {{ salt: "{salt}" }}).unwrap());
}}
"""
# The machine's own: what is compiled with is not what is measured.
RUST = """\
COPY --from=rust bin/cargo bin/rustc /usr/local/bin/
COPY --from=rust lib/*.so* /usr/local/lib/
COPY --from=rust lib/rustlib/ /usr/local/lib/rustlib/
"""


def _cargo(packages: Packages) -> Tool:
    made = packages.rust(MANIFEST)
    root = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()

    def prepare(_packages, folder):
        _write(folder, "Cargo.toml", MANIFEST)
        _write(folder, "Cargo.lock", (made / "Cargo.lock").read_text())
        _write(folder, ".cargo/config.toml", '[source.crates-io]\nreplace-with = "bench"\n[source.bench]\n'
                                             f'registry = "sparse+{packages.url}/rust/index/"\n')

    return Tool("gcc libc6-dev", ("/root/.cargo/registry", "/src/target"), "cargo build --quiet --locked && target/debug/bench",
                prepare, lambda folder, salt: _write(folder, "src/main.rs", MAIN.format(salt=salt)), RUST,
                ["--build-context", f"rust={root}"])


TOOLS = {"ccache": ("a C project of 25 files with ccache", _ccache), "pip": ("pip install of 18 packages, 32 MB", _pip),
         "npm": ("npm ci", _npm), "apt": ("apt-get install of git, curl and Python, sharing=locked", _apt),
         "cargo": ("cargo build with 15 crates", _cargo)}


def _register(name: str, about: str, make):
    case(f"mounts-{name}", f"a job on a fresh builder, one file changed: {about}", cost=180, needs_line=True,
         own_builder=True)(lambda world: _jobs(world, make))


for _name, (_about, _make) in TOOLS.items():
    _register(_name, _about, _make)
