# shellcheck shell=bash
# The rig's images: the bases in the registry and the stand-in builder image in the engine.

STAND_IN=cachex-rig/builder:latest
STAND_IN_PACKAGES=(ca-certificates git iproute2 iptables jq procps docker.io docker-cli)
# The tag follows from the packages.
STAND_IN_BASE=cachex-rig/sid:$(sha256sum <<<"${STAND_IN_PACKAGES[*]}" | cut -c1-12)
# The browser that pages are looked at with. debootstrap does not know the name under which others depend on dbus-x11.
BROWSER=cachex-rig/browser:latest
BROWSER_PACKAGES=(chromium dbus-x11 fonts-dejavu-core)
# What it does without: languages, icons, and drivers of graphics cards.
BROWSER_WITHOUT=('usr/share/doc' 'usr/share/icons' 'usr/share/locale' 'usr/share/man' 'usr/lib/*/dri' 'usr/lib/*/libLLVM-*' 'usr/lib/*/libz3.*')
BUSYBOX_TOOLS=(sh cat chmod cp dd du echo env false find grep head id ln ls md5sum mkdir mv printf rm sed seq
    sha256sum sleep sort stat tail tar test touch true wc xargs)

registry_host() {
    printf '127.0.0.1:%s\n' "$(<"$RIG_DIR/registry.port")"
}

has_image() {
    docker image inspect "$1" >/dev/null 2>&1
}

image_archive() {
    printf '%s/%s.tar\n' "$RIG_DIR/images" "$(sha256sum <<<"$1" | cut -c1-16)"
}

# keep_image IMAGE: on disk, too: the engine's memory is given back when the rig goes down.
keep_image() {
    local archive
    mountpoint -q "$RIG_STATE" || return 0
    archive=$(image_archive "$1")
    mkdir -p "$RIG_DIR/images"
    docker save -o "$archive.new" "$1"
    mv -f "$archive.new" "$archive"
}

# bring_image IMAGE: whether the engine has it, or has it again.
bring_image() {
    local archive
    ! has_image "$1" || return 0
    archive=$(image_archive "$1")
    [[ -f $archive ]] && docker load -q -i "$archive" >/dev/null
}

# in_registry NAME TAG
in_registry() {
    http_ok "$(<"$RIG_DIR/registry.port")" "/v2/$1/manifests/$2"
}

# push_folder FOLDER NAME TAG: the folder as an image of one layer in the registry.
push_folder() {
    local image
    image=$(registry_host)/$2:$3
    tar -C "$1" --numeric-owner -c . | docker import -c 'CMD ["/bin/sh"]' - "$image" >/dev/null
    docker push -q "$image" >/dev/null
    docker image rm "$image" >/dev/null
}

make_busybox() {
    local folder=$RIG_DIR/busybox.new tool
    ! in_registry base/busybox latest || return 0
    rm -rf "$folder"
    mkdir -p "$folder"/{bin,dev,etc,proc,root,sys,tmp,usr,var}
    chmod 1777 "$folder/tmp"
    cp "$RIG_DIR/packages/bin/busybox" "$folder/bin/busybox"
    for tool in "${BUSYBOX_TOOLS[@]}"; do ln -s busybox "$folder/bin/$tool"; done
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$folder/etc/passwd"
    printf 'root:x:0:\n' >"$folder/etc/group"
    push_folder "$folder" base/busybox latest
    rm -rf "$folder"
}

make_base() {
    ! in_registry base/debian bookworm || return 0
    push_folder "$RIG_STATE/bookworm" base/debian bookworm
    remove_folder "$RIG_STATE/bookworm"
}

# browser_inputs: a digest of what goes into the browser's image.
browser_inputs() {
    sha256sum <<<"${BROWSER_PACKAGES[*]} ${BROWSER_WITHOUT[*]}" | cut -c1-32
}

has_browser() {
    bring_image "$BROWSER" &&
        [[ $(docker image inspect -f '{{.Config.Labels.inputs}}' "$BROWSER") == "$(browser_inputs)" ]]
}

make_browser() {
    ! has_browser || return 0
    tar -C "$RIG_STATE/browser" --numeric-owner "${BROWSER_WITHOUT[@]/#/--exclude=./}" -c . |
        docker import -c "LABEL inputs=$(browser_inputs)" -c 'ENTRYPOINT ["chromium"]' - "$BROWSER" >/dev/null
    keep_image "$BROWSER"
    remove_folder "$RIG_STATE/browser"
}

# stand_in_inputs: a digest of what goes into the stand-in above its base.
stand_in_inputs() {
    { cat "$ROOT"/tests/rig/{Dockerfile,buildkitd,buildctl.rs,runc} && echo "${STAND_IN_PACKAGES[*]} $(link_prefix)"; } |
        sha256sum | cut -c1-32
}

compile_buildctl() {
    need_cargo
    rustc --edition 2024 -O -C strip=symbols -o "$1" "$ROOT/tests/rig/buildctl.rs"
}

make_stand_in() {
    local inputs context=$RIG_DIR/builder.new
    if ! has_image "$STAND_IN_BASE"; then
        tar -C "$RIG_STATE/sid" --numeric-owner -c . | docker import - "$STAND_IN_BASE" >/dev/null
        keep_image "$STAND_IN_BASE"
        remove_folder "$RIG_STATE/sid"
    fi
    bring_image "$STAND_IN" || true
    inputs=$(stand_in_inputs)
    if [[ $(docker image inspect -f '{{.Config.Labels.inputs}}' "$STAND_IN" 2>/dev/null) == "$inputs" ]]; then
        return
    fi
    say "rig: building the stand-in builder image"
    rm -rf "$context"
    mkdir "$context"
    cp "$ROOT"/tests/rig/{Dockerfile,buildkitd,runc} "$context"
    compile_buildctl "$context/buildctl"
    docker buildx build -q --builder default --network none --provenance=false --build-arg BASE="$STAND_IN_BASE" \
        --build-arg LINK="$(link_prefix)" --label inputs="$inputs" -t "$STAND_IN" "$context" >/dev/null
    keep_image "$STAND_IN"
    rm -rf "$context"
}

# take_builder_image: the image that the user named in CACHEX_RIG_BUILDER_IMAGE: an archive of `docker save`, an image
# of the rig's engine, or one that can be pulled.
take_builder_image() {
    local image=$CACHEX_RIG_BUILDER_IMAGE
    if [[ -f $image ]]; then
        image=$(docker load -q -i "$image" | sed -n 's/^Loaded image[^:]*: //p' | head -n 1)
        [[ -n $image ]] || die "no image in $CACHEX_RIG_BUILDER_IMAGE"
    elif ! has_image "$image"; then
        docker pull -q "$image" >/dev/null || die "CACHEX_RIG_BUILDER_IMAGE: $image is no file and cannot be pulled"
    fi
    printf '%s\n' "$image" >"$RIG_DIR/builder-image"
}

uses_stand_in() {
    [[ -z ${CACHEX_RIG_BUILDER_IMAGE:-} || $CACHEX_RIG_BUILDER_IMAGE == "$STAND_IN" ]]
}

# fetch_roots: the Debian systems that are still missing, all at the same time. Each has a process group of its own,
# which ends with this script.
fetch_roots() {
    local jobs=() job
    set -m
    if uses_stand_in && ! bring_image "$STAND_IN_BASE"; then
        make_debian sid "$RIG_STATE/sid" "${STAND_IN_PACKAGES[@]}" &
        jobs+=($!)
    fi
    if ! in_registry base/debian bookworm; then
        make_debian bookworm "$RIG_STATE/bookworm" &
        jobs+=($!)
    fi
    if ! has_browser; then
        make_debian bookworm "$RIG_STATE/browser" "${BROWSER_PACKAGES[@]}" &
        jobs+=($!)
    fi
    set +m
    ((${#jobs[@]} > 0)) || return 0
    # shellcheck disable=SC2064 # the jobs of now
    trap "kill -- ${jobs[*]/#/-} 2>/dev/null || true" EXIT
    say "rig: installing Debian for the images of the base, the builder and the browser (about a minute)"
    for job in "${jobs[@]}"; do
        wait "$job" || die "a Debian system could not be made"
    done
    trap - EXIT
}

make_images() {
    fetch_roots
    make_busybox
    make_base
    make_browser
    if uses_stand_in; then
        make_stand_in
        printf '%s\n' "$STAND_IN" >"$RIG_DIR/builder-image"
    else
        take_builder_image
    fi
}
