# shellcheck shell=bash
# Compiling for systems that this one is not: Debian's Rust with the source of its library, and zig as C compiler and
# linker. All lies under one folder of the target directory; nothing is installed, and rustup's toolchains stay as they
# are. Reads packages.sh.

CROSS=$TARGET_DIR/cross
CROSS_LIST=$ROOT/scripts/lib/cross.txt
# From the security archive of Debian bookworm, whose libc is old enough for every machine.
CROSS_PACKAGES=(rustc-web libstd-rust-web-1.96 libstd-rust-web-dev rust-web-src libllvm22)

# has_target TARGET: whether the machine's own Rust compiles for it.
has_target() {
    local folder
    folder=$(rustc --print target-libdir --target "$1" 2>/dev/null) || return 1
    compgen -G "$folder/libstd-*.rlib" >/dev/null
}

# fetch_cross: 270 MB of packages, unless they are there.
fetch_cross() {
    local wanted deb new=$CROSS/rust.new
    wanted="${CROSS_PACKAGES[*]} $(sha256sum <"$CROSS_LIST")"
    if [[ -f $CROSS/list && $(<"$CROSS/list") == "$wanted" ]]; then
        return
    fi
    say "cross: fetching Debian's Rust and zig to $CROSS"
    mkdir -p "$CROSS"
    RIG_DIR=$CROSS write_apt_settings
    printf 'deb [signed-by=%s] %s bookworm-security main\n' \
        "$(debian_keyring)" "$(machine_mirror | sed 's,/*$,-security,')" >"$CROSS/apt/sources.list"
    RIG_DIR=$CROSS apt_get update
    rm -rf "$CROSS/debs" "$new" "$CROSS/rust" "$CROSS/tools"
    mkdir "$CROSS/debs" "$new"
    (cd "$CROSS/debs" && RIG_DIR=$CROSS apt_get download "${CROSS_PACKAGES[@]}")
    for deb in "$CROSS"/debs/*.deb; do
        dpkg -x "$deb" "$new"
    done
    rm -rf "$CROSS/debs"
    python3 -m pip install -q --no-cache-dir --disable-pip-version-check --root-user-action=ignore --no-deps \
        --only-binary :all: --require-hashes --target "$CROSS/tools" -r "$CROSS_LIST"
    # zig's package is a module: cargo-zigbuild looks for a program.
    printf '#!/bin/sh\nexec %q "$@"\n' "$CROSS/tools/ziglang/zig" >"$CROSS/tools/bin/zig"
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' \
        "$CROSS/rust/usr/lib/x86_64-linux-gnu" "$CROSS/rust/usr/bin/rustc" >"$CROSS/tools/bin/rustc-cross"
    chmod +x "$CROSS"/tools/bin/{zig,rustc-cross}
    mv "$new" "$CROSS/rust"
    printf '%s\n' "$wanted" >"$CROSS/list"
}

# cross_cargo COMMAND TARGET ARGS…: cargo for a target that the machine's own Rust does not have.
cross_cargo() {
    local command=$1 target=$2
    shift 2
    PATH=$CROSS/tools/bin:$PATH RUSTC=$CROSS/tools/bin/rustc-cross RUSTC_BOOTSTRAP=1 \
        CARGO_TARGET_DIR=$CROSS/target CARGO_ZIGBUILD_ZIG_PATH=$CROSS/tools/bin/zig \
        "$CROSS/tools/bin/cargo-zigbuild" "$command" --locked --manifest-path "$ROOT/Cargo.toml" \
        -Zbuild-std=std,panic_abort,proc_macro --target "$target" "$@"
}
