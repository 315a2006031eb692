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

usage() {
    cat <<'END'
Usage: install.sh [--version VERSION] [--dir FOLDER] [--alias]

Puts docker-cachex into ${DOCKER_CONFIG:-~/.docker}/cli-plugins, so that `docker cachex` works. Nothing is installed
whose checksum is not that of the release.

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

# fetch URL FILE
fetch() {
    if command -v curl >/dev/null 2>&1; then
        curl -fsSL --retry 3 -o "$2" "$1"
    elif command -v wget >/dev/null 2>&1; then
        wget -q -O "$2" "$1"
    else
        die 'neither curl nor wget is there'
    fi
}

sum_of() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1"
    else
        shasum -a 256 "$1"
    fi | cut -d ' ' -f 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --version) version=${2:?--version needs a version} && shift ;;
    --version=*) version=${1#*=} ;;
    --dir) folder=${2:?--dir needs a folder} && shift ;;
    --dir=*) folder=${1#*=} ;;
    --alias) alias=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

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

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# The list of checksums says which version is the latest, and which files it has.
if [ -n "$version" ]; then
    from=$base/download/v${version#v}
else
    from=$base/latest/download
fi
fetch "$from/checksums.txt" "$work/checksums.txt" || die "cannot fetch $from/checksums.txt"
line=$(grep "  docker-cachex-v[^ ]*-$os-$arch\$" "$work/checksums.txt" | head -n 1) ||
    die "the release has no file for $os on $arch"
wanted=${line%% *}
file=${line##* }
fetch "$from/$file" "$work/$file" || die "cannot fetch $from/$file"
found=$(sum_of "$work/$file")
[ "$found" = "$wanted" ] || die "$file has the checksum $found instead of $wanted: nothing is installed"

folder=${folder:-${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins}
mkdir -p "$folder"
# At once or not at all: docker may be calling the old one.
new=$folder/.docker-cachex.$$
cp "$work/$file" "$new"
chmod 0755 "$new"
mv -f "$new" "$folder/docker-cachex"
printf 'installed %s as %s\n' "$file" "$folder/docker-cachex"
if [ -n "$alias" ]; then
    "$folder/docker-cachex" alias on
fi
