# shellcheck shell=bash
# Shared by all scripts: where things are, and how a script speaks.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034 # used by the scripts that read this file
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "${0##*/}: $*"
    exit 1
}

need_cargo() {
    if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    command -v cargo >/dev/null ||
        die "cargo is not there: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml") or later (https://rustup.rs)"
    command -v cc >/dev/null ||
        die "a C compiler and linker is not there: apt-get install gcc libc6-dev"
}

# put_plugin BINARY FOLDER: the binary appears as FOLDER/docker-cachex at once or not at all.
put_plugin() {
    mkdir -p "$2"
    local new
    new=$(mktemp "$2/.docker-cachex.XXXXXX")
    if ! { cp "$1" "$new" && chmod 0755 "$new" && mv -f "$new" "$2/docker-cachex"; }; then
        rm -f "$new"
        die "cannot install the plugin in $2"
    fi
}
