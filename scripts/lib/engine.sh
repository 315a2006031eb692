# shellcheck shell=bash
# The rig's containerd, dockerd and registry. Sockets, state and settings lie under the rig's folder; the network of
# the machine (bridges, iptables, forwarding) is left alone, so rigs and other engines can live side by side.

# mount_state: the engine's files in memory, where there is enough of it. Builders come and go all the time, and ext4 is
# slow for minutes at giving out inodes again after thousands were deleted. A state that is there stays where it is.
mount_state() {
    local size=${CACHEX_RIG_MEMORY:-}
    mkdir -p "$RIG_STATE"
    if [[ -z $size ]]; then
        size=$(awk '$1 == "MemTotal:" { half = int($2 / 2); print (half >= 7 * 1024 * 1024 ? half "k" : 0) }' /proc/meminfo)
    fi
    [[ $size != 0 && -z $(ls -A "$RIG_STATE") ]] || return 0
    mount -t tmpfs -o "mode=0711,size=$size" cachex-rig "$RIG_STATE" || die "cannot mount $size of memory: try CACHEX_RIG_MEMORY=0"
}

write_engine_settings() {
    cat >"$RIG_DIR/containerd.toml" <<END
version = 3
root = "$RIG_STATE/containerd"
state = "$RIG_RUN/containerd"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
[grpc]
address = "$RIG_RUN/containerd.sock"
[ttrpc]
address = "$RIG_RUN/containerd.ttrpc.sock"
END
    cat >"$RIG_DIR/dockerd.json" <<END
{
  "hosts": ["unix://$RIG_RUN/docker.sock"],
  "pidfile": "$RIG_RUN/dockerd-own.pid",
  "data-root": "$RIG_STATE/docker",
  "exec-root": "$RIG_RUN/docker",
  "containerd": "$RIG_RUN/containerd.sock",
  "features": {"containerd-snapshotter": true},
  "init-path": "$RIG_DIR/packages/usr/bin/tini-static",
  "insecure-registries": ["127.0.0.0/8"],
  "bridge": "$(link_prefix)",
  "iptables": false,
  "ip6tables": false,
  "ip-forward": false,
  "shutdown-timeout": 5
}
END
}

# link_prefix: the name of this rig's network interface; its builders' interfaces have a b and a number after it.
link_prefix() {
    printf 'cx%s\n' "$(sha256sum <<<"$RIG_DIR" | cut -c1-4)"
}

rig_ip() {
    "$RIG_DIR/packages/bin/busybox" ip "$@"
}

# make_link: the bridge of the engine. It is not for traffic: without a bridge of its own (`"bridge": "none"`) dockerd
# deletes the interface docker0, which is another engine's.
make_link() {
    local name subnet
    name=$(link_prefix)
    [[ ! -e /sys/class/net/$name ]] || return 0
    subnet=198.18.$((RANDOM % 256))
    while rig_ip -4 route | grep -qF "$subnet."; do subnet=198.18.$((RANDOM % 256)); done
    rig_ip link add "$name" type bridge
    rig_ip addr add "$subnet.1/24" dev "$name"
    rig_ip link set "$name" up
}

# delete_links: the bridge of the engine, and those of builders that were killed.
delete_links() {
    local name
    for name in /sys/class/net/"$(link_prefix)"{,b*}; do
        [[ ! -e $name ]] || rig_ip link del "${name##*/}"
    done
}

start_containerd() {
    ! running containerd >/dev/null || return 0
    start containerd containerd --config "$RIG_DIR/containerd.toml"
    wait_until 20 containerd test -S "$RIG_RUN/containerd.sock" ||
        die "containerd does not start, see $RIG_LOG/containerd.log"
}

start_dockerd() {
    ! running dockerd >/dev/null || return 0
    # A pid file that is left from a crash may name somebody else's process by now.
    rm -f "$RIG_RUN/dockerd-own.pid" "$RIG_RUN/docker.sock"
    make_link
    start dockerd dockerd --config-file "$RIG_DIR/dockerd.json"
}

wait_for_dockerd() {
    wait_until 60 dockerd docker version || die "dockerd does not start, see $RIG_LOG/dockerd.log"
}

registry_answers() {
    http_ok "$(<"$RIG_DIR/registry.port")" /v2/
}

# start_registry: on the port it had before, or on another one when that is taken by now.
start_registry() {
    local port
    ! running registry >/dev/null || return 0
    for _ in 1 2 3 4 5; do
        if [[ ! -s $RIG_DIR/registry.port ]] || port_taken "$(<"$RIG_DIR/registry.port")"; then
            free_port >"$RIG_DIR/registry.port"
        fi
        port=$(<"$RIG_DIR/registry.port")
        cat >"$RIG_DIR/registry.yml" <<END
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $RIG_DIR/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
END
        # The collector of traces that the registry looks for by default is not there.
        start registry env OTEL_TRACES_EXPORTER=none docker-registry serve "$RIG_DIR/registry.yml"
        if wait_until 10 registry registry_answers; then
            return
        fi
        stop registry 2
        rm -f "$RIG_DIR/registry.port"
    done
    die "the registry does not start, see $RIG_LOG/registry.log"
}

stop_services() {
    stop registry 5
    stop dockerd 20
    stop containerd 10
    end_left_processes
    delete_links
}
