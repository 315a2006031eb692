"""Packages of Debian, PyPI, npm and crates.io, fetched once by their own clients and served on the loopback."""

import base64
import contextlib
import functools
import hashlib
import html
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

from model import Failed
from registries import Proxy, PLAIN

# As PyPI sends it: without it pip keeps no file.
FILES_LAST = "max-age=365000000, immutable"
PYTHON = "3.11"  # that of the base image's Debian


class Packages:
    """A folder of packages, as far away as a far registry. `fetch` keeps what it has fetched."""

    def __init__(self, world, folder: Path):
        self.world, self.folder = world, folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.closing = contextlib.ExitStack()
        handler = functools.partial(_Files, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.closing.callback(server.shutdown)
        self.proxy = Proxy(world.helpers / "proxy", server.server_port, PLAIN)
        self.closing.callback(self.proxy.close)
        self.url = f"http://{self.proxy.host}"

    def received(self) -> int:
        """Bytes that were fetched from here."""
        return self.proxy.counters()[2]

    def close(self):
        self.closing.close()

    def fetch(self, name: str, what: str, make) -> Path:
        """The folder `name`, which `make` fills unless it is there and was made of the same."""
        folder = self.folder / name
        stamp = folder / ".made-of"
        if not stamp.exists() or stamp.read_text() != what:
            shutil.rmtree(folder, ignore_errors=True)
            new = self.folder / f".{name}.new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            make(new)
            (new / stamp.name).write_text(what)
            new.rename(folder)
        return folder

    # Debian.

    def debian(self, names: str) -> str:
        """A source of apt with these packages and all that they need above the base image."""
        name = f"debian-{_short(names)}"
        self.fetch(name, names, lambda folder: self._debs(folder, names.split()))
        return f"deb [trusted=yes] {self.url}/{name} ./"

    def _debs(self, folder: Path, names: list[str]):
        base = subprocess.run(["crane", "export", "--insecure", self.world.base, "-"], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(base)) as files:
            status = folder / "status"
            status.write_bytes(files.extractfile("var/lib/dpkg/status").read())
        (folder / "partial").mkdir()
        settings = Path(os.environ["CACHEX_RIG_DIR"]) / "apt/apt.conf"
        self.world.quiet(["apt-get", "-qq", "-c", str(settings), "-o", "APT::Default-Release=bookworm",
                          "-o", f"Dir::State={folder}", "-o", f"Dir::State::status={status}",
                          "-o", f"Dir::Cache::archives={folder}", "--yes", "--no-install-recommends", "--download-only",
                          "install", *names])
        (folder / "Packages").write_text("\n".join(map(self._stanza, sorted(folder.glob("*.deb")))))

    def _stanza(self, deb: Path) -> str:
        """The paragraph of a package in a list of packages."""
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        return (f"{self.world.quiet(['dpkg-deb', '--field', str(deb)])}Filename: ./{deb.name}\n"
                f"Size: {deb.stat().st_size}\nSHA256: {digest}\n")

    # PyPI.

    def python(self, names: str, sources: str) -> tuple[str, list[str]]:
        """An index of pip, and requirements: packages as wheels with all that they need, and others that come as sources."""
        folder = self.fetch("python", f"{names} {sources}", lambda folder: self._wheels(folder, names.split(), sources.split()))
        return f"{self.url}/python", (folder / "requirements.txt").read_text().splitlines()

    def _wheels(self, folder: Path, names: list[str], sources: list[str]):
        files = folder / "files"
        pip = ["pip", "download", "--quiet", "--dest", str(files)]
        wheels = ["--python-version", PYTHON, "--only-binary=:all:"]
        self.world.quiet([*pip, *wheels, *names])
        self.world.quiet([*pip, "--no-deps", "--no-binary", ",".join(sources), *sources])
        wanted = [_release(file) for file in files.iterdir()]
        # What sources are built with.
        self.world.quiet([*pip, *wheels, "setuptools", "wheel"])
        links: dict[str, list[str]] = {}
        for file in sorted(files.iterdir()):
            name = html.escape(file.name)
            links.setdefault(_release(file)[0], []).append(f'<a href="../files/{name}">{name}</a>')
        for name, lines in links.items():
            (folder / name).mkdir()
            (folder / name / "index.html").write_text("<!DOCTYPE html>\n" + "\n".join(lines))
        lines = sorted(f"{name}=={version}" for name, version in wanted)
        (folder / "requirements.txt").write_text("\n".join(lines))

    # npm.

    def node(self, names: str) -> Path:
        """A folder with `npm.tgz`, and with `package.json` and `package-lock.json` whose packages are fetched from here."""
        folder = self.fetch("node", names, lambda folder: self._tarballs(folder, names.split()))
        lock = (folder / "lock.json").read_text().replace("@URL@", f"{self.url}/node/files")
        (folder / "package-lock.json").write_text(lock)
        return folder

    def _tarballs(self, folder: Path, names: list[str]):
        place, files = folder / "project", folder / "files"
        place.mkdir()
        files.mkdir()
        (place / "package.json").write_text('{"name": "bench", "version": "1.0.0", "private": true}')
        quiet = ["--prefix", str(place), "--cache", str(place / "cache"), "--no-audit", "--no-fund", "--ignore-scripts"]
        self.world.quiet(["npm", "install", *quiet, *names])
        self.world.quiet(["npm", "pack", "--pack-destination", str(folder), "--cache", str(place / "cache"), "npm@9"])
        next(folder.glob("npm-*.tgz")).rename(folder / "npm.tgz")
        lock = json.loads((place / "package-lock.json").read_text())
        for package in lock["packages"].values():
            digest = base64.b64decode(package.get("integrity", "").partition("-")[2]).hex()
            stored = place / "cache/_cacache/content-v2/sha512" / digest[:2] / digest[2:4] / digest[4:]
            # Those of other platforms are not there.
            if digest and stored.exists():
                shutil.copy(stored, files / f"{digest[:32]}.tgz")
                package["resolved"] = f"@URL@/{digest[:32]}.tgz"
        (folder / "lock.json").write_text(json.dumps(lock, indent=1))
        shutil.copy(place / "package.json", folder)
        shutil.rmtree(place)

    # crates.io.

    def rust(self, manifest: str) -> Path:
        """A folder with the `Cargo.lock` of a manifest; a registry of its crates is at `/rust/index`."""
        folder = self.fetch("rust", manifest, lambda folder: self._crates(folder, manifest))
        (folder / "index").mkdir(exist_ok=True)
        (folder / "index/config.json").write_text(json.dumps({"dl": f"{self.url}/rust/files/{{crate}}-{{version}}.crate"}))
        return folder

    def _crates(self, folder: Path, manifest: str):
        place, files = folder / "project", folder / "files"
        (place / "src").mkdir(parents=True)
        files.mkdir()
        (place / "Cargo.toml").write_text(manifest)
        (place / "src/main.rs").write_text("fn main() {}\n")
        cargo = ["env", f"CARGO_HOME={place / 'home'}", "cargo"]
        at = ["--manifest-path", str(place / "Cargo.toml")]
        self.world.quiet([*cargo, "fetch", "--quiet", *at])
        packages = json.loads(self.world.quiet([*cargo, "metadata", "--format-version", "1", *at]))["packages"]
        for crate in (place / "home/registry/cache").glob("*/*.crate"):
            shutil.copy(crate, files)
        for package in packages:
            if package["source"]:
                entry = folder / "index" / _place(package["name"])
                entry.parent.mkdir(parents=True, exist_ok=True)
                with entry.open("a") as lines:
                    digest = hashlib.sha256((files / f"{package['name']}-{package['version']}.crate").read_bytes())
                    lines.write(json.dumps(_entry(package, digest.hexdigest())) + "\n")
        shutil.copy(place / "Cargo.lock", folder)
        shutil.rmtree(place)


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files that may be kept."""

    protocol_version = "HTTP/1.1"

    def end_headers(self):
        if "/files/" in self.path:
            self.send_header("Cache-Control", FILES_LAST)
        super().end_headers()

    def log_message(self, *_):
        """The bench's own output is a table."""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _release(file: Path) -> tuple[str, str]:
    """Name, as an index of Python has it, and version of a wheel or an archive of sources."""
    name, version = file.name.removesuffix(".tar.gz").removesuffix(".whl").split("-")[:2]
    return re.sub(r"[-_.]+", "-", name).lower(), version


def _place(name: str) -> str:
    """Where the index of cargo has a crate."""
    low = name.lower()
    short = {1: "1", 2: "2", 3: f"3/{low[0]}"}.get(len(low))
    return f"{short or f'{low[:2]}/{low[2:4]}'}/{low}"


def _entry(package: dict, digest: str) -> dict:
    """The line of a crate in the index of cargo, from what `cargo metadata` says of it."""
    deps = [{
        "name": dep["rename"] or dep["name"], "package": dep["name"] if dep["rename"] else None, "req": dep["req"],
        "features": dep["features"], "optional": dep["optional"], "default_features": dep["uses_default_features"],
        "target": dep["target"], "kind": dep["kind"] or "normal", "registry": None,
    } for dep in package["dependencies"]]
    return {"name": package["name"], "vers": package["version"], "deps": deps, "cksum": digest, "features": {},
            "features2": package["features"], "v": 2, "yanked": False, "links": package["links"]}
