"""What must be there before anything is measured: the plugin, the helpers, the rig."""

import os
import subprocess
from pathlib import Path

from model import Failed

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ("meter", "proxy")


def _shell(script: str, **options) -> subprocess.CompletedProcess:
    """Runs shell lines with the functions that all scripts share."""
    lines = f'set -euo pipefail\nsource "$0/scripts/lib/common.sh"\n{script}'
    return subprocess.run(["bash", "-c", lines, str(ROOT)], check=False, **options)


def _need(done: subprocess.CompletedProcess, what: str):
    if done.returncode != 0:
        raise Failed(f"{what} failed")


def plugin() -> Path:
    """Builds the plugin with its release profile."""
    _need(_shell('need_cargo\ncargo build --locked --release --bin docker-cachex --manifest-path "$ROOT/Cargo.toml" '
                 '--target-dir "$TARGET_DIR"', stdout=subprocess.DEVNULL), "cargo build")
    return target() / "release" / "docker-cachex"


def helpers() -> Path:
    """Compiles the programs that measure and count; returns their folder."""
    for name in HELPERS:
        _need(_shell(f'need_cargo\nmkdir -p "$TARGET_DIR/bench"\n'
                     f'rustc --edition 2024 -O -o "$TARGET_DIR/bench/{name}" "$ROOT/scripts/bench.d/{name}.rs"'),
              f"rustc {name}.rs")
    return target() / "bench"


def rig() -> None:
    """Starts the rig and takes its settings into this process."""
    _need(_shell('"$ROOT/scripts/rig" status >/dev/null || "$ROOT/scripts/rig" up'), "scripts/rig up")
    done = _shell('lines=$("$ROOT/scripts/rig" env)\neval "$lines"\nenv -0', stdout=subprocess.PIPE, text=True)
    _need(done, "scripts/rig env")
    settings = dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    os.environ.clear()
    os.environ.update(settings)


def buildah() -> Path:
    """The folder that buildah is unpacked to; the rig must be up."""
    done = _shell('exec "$ROOT/scripts/bench.d/fetch-buildah"', stdout=subprocess.PIPE, text=True)
    _need(done, "scripts/bench.d/fetch-buildah")
    return Path(done.stdout.strip())


def target() -> Path:
    """The folder of what is built."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
