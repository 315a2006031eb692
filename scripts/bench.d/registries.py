"""The registries of a bench: one store, seen near, from far away, and from far away with a login."""

import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from model import Failed

ROUND_TRIP_MS, BYTES_PER_SECOND = 30, 200_000_000 // 8
PLAIN, WITH_TLS = 1, 2  # round trips until a connection can be used


class Proxy:
    """A counting proxy before a server on the loopback; far away where the round trips of a connection are given."""

    def __init__(self, program: Path, port: int, round_trips: int | None = None):
        line = (ROUND_TRIP_MS, BYTES_PER_SECOND, round_trips) if round_trips else ()
        self.process = subprocess.Popen([program, f"127.0.0.1:{port}", *map(str, line)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.host = f"127.0.0.1:{self.process.stdout.readline().strip()}"

    def counters(self) -> tuple[int, int, int]:
        """Requests, bytes to the registry, and bytes from it, since the start."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        requests, up, down = map(int, self.process.stdout.readline().split())
        return requests, up, down

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Registries:
    """`near`, `far` and `login` are names of hosts that have the same repositories. `login` wants a token, as a public
    registry does of users without a password. All that waits before it does TLS is waited for, and no TLS is done:
    what that costs is the same for all clients."""

    def __init__(self, folder: Path, helpers: Path):
        self.folder, self.proxy = folder, helpers / "proxy"
        self.closing, self.proxies = contextlib.ExitStack(), []
        try:
            self._start_all()
        except BaseException:
            self.closing.close()
            raise

    def _start_all(self):
        port = self._start("registry", {})
        self.near = self._stand_before(port)
        self.far = self._stand_before(port, PLAIN)
        tokens = self._stand_before(self._start_tokens(), WITH_TLS)
        asked = self._start("login", {"auth": {"silly": {"realm": f"http://{tokens}/token", "service": "bench"}}})
        self.login = self._stand_before(asked, WITH_TLS)

    def copy(self, ref: str, copy: str):
        """Makes a repository what another one is."""
        repositories = self.folder / "registry/docker/registry/v2/repositories"
        shutil.copytree(*(repositories / path_of(name) for name in (ref, copy)))

    def counters(self) -> tuple[int, ...]:
        """Requests to all of them, bytes to them, and bytes from them."""
        return tuple(map(sum, zip(*(proxy.counters() for proxy in self.proxies))))

    def close(self):
        self.closing.close()

    def _stand_before(self, port: int, round_trips: int | None = None) -> str:
        proxy = Proxy(self.proxy, port, round_trips)
        self.closing.callback(proxy.close)
        self.proxies.append(proxy)
        return proxy.host

    def _start(self, name: str, settings: dict) -> int:
        program = Path(os.environ["CACHEX_RIG_DIR"]) / "packages/usr/bin/docker-registry"
        port = free_port()
        path, log = self.folder / f"{name}.yml", self.folder / f"{name}.log"
        # JSON is YAML.
        path.write_text(json.dumps({
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "registry")}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{port}"},
            **settings}))
        with log.open("w") as out:
            process = subprocess.Popen([program, "serve", path], stdout=out, stderr=out,
                                       env={**os.environ, "OTEL_TRACES_EXPORTER": "none"})
        self.closing.callback(process.wait)
        self.closing.callback(process.terminate)
        if not answers(port):
            raise Failed(f"the registry does not start: {log.read_text()}")
        return port

    def _start_tokens(self) -> int:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.closing.callback(server.shutdown)
        return server.server_port


class Tokens(http.server.BaseHTTPRequestHandler):
    """A token server that knows nobody and trusts everybody."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({"token": "anybody", "expires_in": 300}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The bench's own output is a table."""


def path_of(ref: str) -> str:
    """The repository of a reference without its host."""
    return ref.partition("/")[2].rpartition(":")[0]


def free_port() -> int:
    """A port of the loopback that nobody has."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def answers(port: int) -> bool:
    """Waits until a registry answers, even if only with a refusal."""
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1).close()
            return True
        except urllib.error.HTTPError:
            return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False
