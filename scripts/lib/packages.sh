# shellcheck shell=bash
# Debian packages, downloaded by apt with lists and cache of the rig's own and unpacked under its folder. Nothing is
# installed, and the machine's apt sources stay as they are.

# machine_mirror: the Debian archive that this machine's apt uses.
machine_mirror() {
    local etc=/etc/apt uri
    if [[ -n ${CACHEX_RIG_MIRROR:-} ]]; then
        printf '%s\n' "$CACHEX_RIG_MIRROR"
        return
    fi
    uri=$(
        shopt -s nullglob
        # "URI suite" for each source of packages, from either form of file.
        {
            awk -v RS='' '{
                uris = suites = types = ""; on = 1
                count = split($0, lines, "\n")
                for (i = 1; i <= count; i++) {
                    line = lines[i]
                    if (line ~ /^#/) continue
                    if (line !~ /^[ \t]/) { key = tolower(line); sub(/[ \t]*:.*/, "", key); sub(/^[^:]*:/, "", line) }
                    if (key == "uris") uris = uris " " line
                    else if (key == "suites") suites = suites " " line
                    else if (key == "types") types = types " " line " "
                    else if (key == "enabled" && line ~ /no|false|0/) on = 0
                }
                if (!on || types !~ /[ \t]deb[ \t]/) next
                n = split(uris, u, " "); m = split(suites, s, " ")
                for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print u[i], s[j]
            }' "$etc"/sources.list.d/*.sources /dev/null
            sed -nE 's/^[ \t]*deb[ \t]+(\[[^]]*\][ \t]*)?//p' "$etc"/sources.list.d/*.list /dev/null
            [[ ! -f $etc/sources.list ]] || sed -nE 's/^[ \t]*deb[ \t]+(\[[^]]*\][ \t]*)?//p' "$etc/sources.list"
        } | awk '$2 ~ /^(bookworm|trixie|forky|sid|unstable|testing|stable|oldstable)$/ { print $1; exit }'
    )
    [[ -n $uri ]] || die "no Debian mirror in $etc/sources.list*: name one in CACHEX_RIG_MIRROR"
    if [[ $uri == mirror+file:* ]]; then
        uri=$(awk '!/^#/ && NF { print $1; exit }' "${uri#mirror+file:}")
    fi
    printf '%s\n' "${uri%/}"
}

debian_keyring() {
    local ring
    for ring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        if [[ -f $ring ]]; then
            printf '%s\n' "$ring"
            return
        fi
    done
    die "the keys of the Debian archive are not there (package debian-archive-keyring)"
}

# apt_get ARGS…: apt-get with the rig's own sources, lists and cache. The machine's proxies and credentials count.
apt_get() {
    apt-get -qq -c "$RIG_DIR/apt/apt.conf" "$@"
}

write_apt_settings() {
    local apt=$RIG_DIR/apt mirror keyring
    mirror=$(machine_mirror)
    keyring=$(debian_keyring)
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" bookworm "$keyring" "$mirror" sid >"$apt/sources.list"
    # The hooks of the machine's settings clean up the machine's own folders: not for us. A mirror that stands still
    # serves, too: the signature counts, its age does not.
    cat >"$apt/apt.conf" <<END
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Pre-Invoke;
#clear Acquire::IndexTargets::deb::DEP-11;
APT::Sandbox::User "root";
Acquire::Check-Date "false";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$apt/lists";
Dir::Cache "$apt/cache";
END
}

# fetch_packages FOLDER PACKAGES…: a folder with what these packages hold, unless it is there: of the newest list that
# the rig has of the archive.
fetch_packages() {
    local folder=$1 new=$1.new debs=$1.debs deb
    shift
    if [[ -f $folder/.list && $(<"$folder/.list") == "$*" ]]; then
        return
    fi
    say "unpacking $# Debian packages to $folder"
    write_apt_settings
    apt_get update
    rm -rf "$new" "$debs"
    mkdir -p "$new" "$debs"
    (cd "$debs" && apt_get download "$@")
    for deb in "$debs"/*.deb; do
        dpkg -x "$deb" "$new"
    done
    rm -rf "$debs" "$folder"
    printf '%s\n' "$*" >"$new/.list"
    mv "$new" "$folder"
}

# make_debian SUITE FOLDER PACKAGES…: a minimal Debian in the folder.
make_debian() {
    local suite=$1 folder=$2 include
    shift 2
    include=$(IFS=, && printf '%s' "$*")
    remove_folder "$folder"
    PATH=$ROOT/tests/rig/bin:$PATH RIG_APT_CONF=$RIG_DIR/apt/apt.conf \
        DEBOOTSTRAP_DIR=$RIG_DIR/packages/usr/share/debootstrap \
        "$RIG_DIR/packages/usr/sbin/debootstrap" --variant=minbase --keyring="$(debian_keyring)" \
        ${include:+--include="$include"} "$suite" "$folder" "$(machine_mirror)" >>"$RIG_LOG/debootstrap-$suite.log" 2>&1 </dev/null ||
        die "debootstrap of $suite failed, see $RIG_LOG/debootstrap-$suite.log"
    rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/* "$folder"/debootstrap
}
