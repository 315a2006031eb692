# shellcheck shell=bash
# What they read is set by scripts/package.
# shellcheck disable=SC2153,SC2154
# The formats of a release. Every file in them has the time SOURCE_DATE_EPOCH and belongs to root, so that the same
# program gives the same packages.

PLUGIN_DIR=usr/libexec/docker/cli-plugins

# make_tree BINARY FOLDER: the files that every package has: program, manual pages, completions, licence.
make_tree() {
    local binary=$1 tree=$2 runner=$1
    mkdir -p "$tree"/{man1,completions}
    install -m 0755 "$binary" "$tree/docker-cachex"
    cp "$ROOT/README.md" "$ROOT/LICENSE" "$tree"
    # A program of another system cannot be asked for its manual: the machine's own build is.
    if ! "$binary" version >/dev/null 2>&1; then
        runner=${CACHEX_PACKAGE_RUNNER:?names a program of this version that runs here}
    fi
    "$runner" man "$tree/man1"
    "$runner" completion bash >"$tree/completions/docker-cachex.bash"
    "$runner" completion zsh >"$tree/completions/_docker-cachex"
    "$runner" completion fish >"$tree/completions/docker-cachex.fish"
    chmod -R u=rwX,go=rX "$tree"
}

make_archive() {
    python3 "$ROOT/scripts/package.d/archive.py" "$work/tree" "$name" "$out/$name.tar.gz"
}

# system_tree FOLDER: the files where a system has them.
system_tree() {
    local root=$1 page
    install -Dm 0755 "$work/tree/docker-cachex" "$root/$PLUGIN_DIR/docker-cachex"
    install -Dm 0644 -t "$root/usr/share/doc/docker-cachex" "$work/tree/README.md"
    install -Dm 0644 "$work/tree/LICENSE" "$root/usr/share/doc/docker-cachex/copyright"
    install -d "$root/usr/share/man/man1"
    for page in "$work"/tree/man1/*.1; do
        gzip -9nc "$page" >"$root/usr/share/man/man1/${page##*/}.gz"
    done
    install -Dm 0644 "$work/tree/completions/docker-cachex.bash" "$root/usr/share/bash-completion/completions/docker-cachex"
    install -Dm 0644 "$work/tree/completions/_docker-cachex" "$root/usr/share/zsh/vendor-completions/_docker-cachex"
    install -Dm 0644 -t "$root/usr/share/fish/vendor_completions.d" "$work/tree/completions/docker-cachex.fish"
    chmod -R u=rwX,go=rX "$root"
    find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
}

summary() {
    sed -n 's/^description = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"
}

make_deb() {
    local root=$work/deb size
    system_tree "$root"
    size=$(du -sk --apparent-size "$root" | cut -f 1)
    mkdir "$root/DEBIAN"
    cat >"$root/DEBIAN/control" <<END
Package: docker-cachex
Version: $version
Architecture: $arch
Maintainer: The docker-cachex authors <noreply@example.com>
Installed-Size: $size
Recommends: docker-ce-cli | docker-cli | docker.io
Section: admin
Priority: optional
Description: $(summary)
 It is called as "docker cachex" and takes the flags and the builders of docker buildx.
END
    (cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    find "$root/DEBIAN" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$root" "$out/docker-cachex_${version}_$arch.deb" >/dev/null
}

make_rpm() {
    command -v rpmbuild >/dev/null || die "rpmbuild is not there: apt-get install rpm"
    system_tree "$work/rpm-root"
    mkdir "$work/rpm"
    cat >"$work/rpm/docker-cachex.spec" <<END
Name: docker-cachex
Version: ${version//-/\~}
Release: 1
Summary: $(summary)
License: Apache-2.0
AutoReqProv: no
Recommends: docker-ce-cli
%define __os_install_post %{nil}
%define _build_id_links none
%define source_date_epoch_from_changelog 0
%define use_source_date_epoch_as_buildtime 1
%define clamp_mtime_to_source_date_epoch 1
%description
It is called as "docker cachex" and takes the flags and the builders of docker buildx.
%install
cp -a "$work/rpm-root/." "%{buildroot}/"
%files
$(cd "$work/rpm-root" && find . -type f -printf '/%P\n' | LC_ALL=C sort)
END
    rpmbuild --quiet -bb --target "$rpm_arch" --define "_topdir $work/rpm" --define "_rpmdir $work/rpm/out" \
        --define "_buildhost localhost" --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
        "$work/rpm/docker-cachex.spec" >/dev/null
    cp "$work"/rpm/out/*.rpm "$out"
}

# make_sbom: the crates that the program is made of, from cargo's own graph.
make_sbom() {
    cargo metadata --locked --format-version 1 --manifest-path "$ROOT/Cargo.toml" --filter-platform "$target" |
        python3 "$ROOT/scripts/package.d/sbom.py" >"$out/$name.cdx.json"
}
