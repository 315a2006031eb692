#!/bin/sh
# Installs docker-cachex for this user, from its releases: in a POSIX shell, with curl or any wget, BusyBox's too.
#
#   wget -qO- https://github.com/OWNER/docker-cachex/releases/latest/download/install.sh | sh -s -- --alias
set -eu

# The release puts its own repository here.
base=${CACHEX_INSTALL_URL:-https://github.com/OWNER/docker-cachex/releases}
version=
folder=
alias=
work=
new=

usage() {
    cat <<'END'
Usage: install.sh [--version VERSION] [--dir FOLDER] [--alias]

Puts docker-cachex into ${DOCKER_CONFIG:-~/.docker}/cli-plugins, so that `docker cachex` works. Nothing is installed
whose checksum is not that of the release, or that does not run.

  --version VERSION   another version than the latest
  --dir FOLDER        another folder
  --alias             docker buildx, docker build and compose reach it, too: docker cachex alias on

Settings (environment): CACHEX_INSTALL_URL, where the releases are.
END
}

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

clean_up() {
    [ -z "$work" ] || rm -rf "$work"
    [ -z "$new" ] || rm -f "$new"
}

is_there() {
    command -v "$1" >/dev/null 2>&1
}

need_tools() {
    is_there curl || is_there wget || die 'neither curl nor wget is there'
    is_there sha256sum || is_there shasum || die 'neither sha256sum nor shasum is there'
}

# fetch URL FILE
fetch() {
    if is_there curl; then
        curl -fsSL --retry 3 -o "$2" "$1"
    else
        wget -q -O "$2" "$1"
    fi || die "cannot fetch $1"
}

sum_of() {
    if is_there sha256sum; then
        sha256sum "$1"
    else
        shasum -a 256 "$1"
    fi | cut -d ' ' -f 1
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --version=?*) version=${1#*=} ;;
        --dir=?*) folder=${1#*=} ;;
        --version | --dir)
            [ -n "${2:-}" ] || die "$1 needs a value"
            [ "$1" = --dir ] || version=$2
            [ "$1" = --version ] || folder=$2
            shift
            ;;
        --alias) alias=yes ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
        esac
        shift
    done
}

# choose_folder: where docker looks for this user's plugins, unless a folder was named.
choose_folder() {
    [ -z "$folder" ] || return 0
    if [ -n "${DOCKER_CONFIG:-}" ]; then
        folder=$DOCKER_CONFIG/cli-plugins
    elif [ -n "${HOME:-}" ]; then
        folder=$HOME/.docker/cli-plugins
    else
        die 'HOME is not set: name a folder with --dir, such as /usr/local/lib/docker/cli-plugins'
    fi
}

choose_platform() {
    case $(uname -s) in
    Linux) os=linux ;;
    Darwin) os=darwin ;;
    *) die "there is no release for $(uname -s)" ;;
    esac
    case $(uname -m) in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) die "there is no release for $(uname -m)" ;;
    esac
}

# fetch_program: the program of the release is in $work/$file, and is what the release says.
fetch_program() {
    # The list of checksums says which version is the latest, and which files it has.
    if [ -n "$version" ]; then
        from=$base/download/v${version#v}
    else
        from=$base/latest/download
    fi
    fetch "$from/checksums.txt" "$work/checksums.txt"
    line=$(grep -E "^[0-9a-f]{64}  docker-cachex-v[0-9A-Za-z.+-]+-$os-$arch\$" "$work/checksums.txt" | head -n 1)
    [ -n "$line" ] || die "$from/checksums.txt has no program for $os on $arch"
    wanted=${line%% *}
    file=${line##* }
    fetch "$from/$file" "$work/$file"
    found=$(sum_of "$work/$file")
    [ "$found" = "$wanted" ] || die "$file has the checksum $found instead of $wanted: nothing is installed"
}

# put_program: it appears in the folder at once or not at all, for docker may be calling the old one.
put_program() {
    [ ! -d "$folder/docker-cachex" ] || die "$folder/docker-cachex is a folder: nothing is installed"
    mkdir -p "$folder" || die "cannot make the folder $folder: nothing is installed"
    new=$folder/.docker-cachex.$$
    { cp "$work/$file" "$new" && chmod 0755 "$new"; } || die "cannot write to $folder: nothing is installed"
    "$new" version >/dev/null ||
        die "$file does not run in $folder: nothing is installed (is that file system mounted with noexec?)"
    mv -f "$new" "$folder/docker-cachex" || die "cannot write to $folder: nothing is installed"
    new=
}

# All is read before anything is done, so that a script of which only a part has arrived does nothing.
main() {
    read_arguments "$@"
    choose_folder
    choose_platform
    need_tools
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
    work=$(mktemp -d) || die 'cannot make a folder for temporary files'
    fetch_program
    put_program
    printf 'installed %s as %s\n' "$file" "$folder/docker-cachex"
    if [ -n "$alias" ]; then
        "$folder/docker-cachex" alias on
    fi
}

main "$@"
