#!/bin/sh
# Stands for the installation of dependencies: many files, much time, and no network, so that the example runs anywhere.
set -eu
mkdir -p "$1"
cp -a /usr/lib /usr/share "$1"
find "$1" -type f -exec sha256sum {} + | sort >"$1/index"
tar -C "$1" -c lib share | gzip -9 >"$1/packages.tar.gz"
