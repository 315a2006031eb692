# shellcheck shell=bash
# Background processes of the rig, each with a pid file. A process is known by its number and its start time, so a
# number that the system has given to somebody else is never taken for ours.

# start_time PID: the process's start in clock ticks since boot; fails when there is no such process.
start_time() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # The second field is the program's name in brackets and may hold spaces; the start is field 22.
    stat=${stat##*) }
    local fields
    read -ra fields <<<"$stat"
    [[ ${fields[0]} != Z ]] || return 1
    printf '%s\n' "${fields[19]}"
}

# running NAME: prints the pid of the rig's process, fails when it is not running.
running() {
    local pid started
    [[ -f $RIG_RUN/$1.pid ]] || return 1
    read -r pid started <"$RIG_RUN/$1.pid" || return 1
    [[ $(start_time "$pid") == "$started" ]] || return 1
    printf '%s\n' "$pid"
}

# start NAME COMMAND…: starts it in a session of its own, its output in the log folder.
start() {
    local name=$1 pid
    shift
    setsid "$@" </dev/null >>"$RIG_LOG/$name.log" 2>&1 9>&- &
    pid=$!
    printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$RIG_RUN/$name.pid"
}

# stop NAME SECONDS: asks the process to end, and kills it when it has not ended in time.
stop() {
    local pid tries=$(($2 * 20))
    if pid=$(running "$1"); then
        kill "$pid" 2>/dev/null || true
        while running "$1" >/dev/null && ((tries-- > 0)); do sleep 0.05; done
        if running "$1" >/dev/null; then
            say "$1 (pid $pid) did not end in $2 s and is killed"
            kill -9 "$pid" 2>/dev/null || true
            while running "$1" >/dev/null; do sleep 0.05; done
        fi
    fi
    rm -f "$RIG_RUN/$1.pid"
}

# wait_until SECONDS NAME COMMAND…: until the command succeeds; fails early when the process NAME ends.
wait_until() {
    local tries=$(($1 * 20)) name=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        running "$name" >/dev/null || return 1
        ((tries-- > 0)) || return 1
        sleep 0.05
    done
}

# rig_processes: the pids of all processes that run a program from the rig's folder.
rig_processes() {
    local link
    for link in /proc/[0-9]*/exe; do
        if [[ $(readlink "$link" 2>/dev/null) == "$RIG_DIR/packages/"* ]]; then
            link=${link#/proc/}
            printf '%s\n' "${link%/exe}"
        fi
    done
}

# end_left_processes: containers whose engine is gone: first what their shims started, then the shims.
end_left_processes() {
    local pid children
    for pid in $(rig_processes); do
        read -ra children 2>/dev/null <"/proc/$pid/task/$pid/children" || true
        ((${#children[@]} == 0)) || kill -9 "${children[@]}" 2>/dev/null || true
        kill -9 "$pid" 2>/dev/null || true
    done
}

MANIFEST_TYPES='application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*'

# free_port: a TCP port on the loopback that nobody listens on, below the range the kernel gives to clients.
free_port() {
    local port tries
    for tries in {1..50}; do
        port=$((20000 + (RANDOM * 32768 + RANDOM + tries) % 10000))
        if ! port_taken "$port"; then
            printf '%s\n' "$port"
            return
        fi
    done
    die "no free port on the loopback"
}

# port_taken PORT: whether somebody listens on it.
port_taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# http_ok PORT PATH: whether an HTTP server on the loopback answers 200.
http_ok() (
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || exit 1
    printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: %s\r\n\r\n' "$2" "$MANIFEST_TYPES" >&3
    read -r -t 5 -u 3 _ status _ || exit 1
    [[ $status == 200 ]]
)
