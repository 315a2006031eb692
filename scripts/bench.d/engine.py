"""What the Docker engine says of the builder's container."""

import http.client
import json
import os
import socket


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str):
        super().__init__("engine")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def cpu_ms(builder: str) -> float | None:
    """CPU time of the builder since it was started, with all that runs in it; nothing where nobody can tell."""
    scheme, _, path = os.environ.get("DOCKER_HOST", "").partition("://")
    if scheme != "unix":
        return None
    engine = _Unix(path)
    try:
        engine.request("GET", f"/containers/buildx_buildkit_{builder}0/stats?stream=false&one-shot=true")
        return json.load(engine.getresponse())["cpu_stats"]["cpu_usage"]["total_usage"] / 1e6
    except (OSError, KeyError, ValueError):
        return None
    finally:
        engine.close()
