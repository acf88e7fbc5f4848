# Sourced by scripts/cluster: a docker engine that answers.
# shellcheck shell=sh

ENGINE_LOG=$CACHE/dockerd.log
ENGINE_PID=$CACHE/dockerd.pid
# docker's command in Debian has no buildx.
export DOCKER_BUILDKIT=0

engine_answers() {
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# CAP_SYS_RESOURCE is capability 24 (linux/capability.h). Without it in the bounding set nobody can hand it to a
# privileged container, which is what a node is.
may_raise_limits() {
    bounding=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
    [ $((0x$bounding >> 24 & 1)) -eq 1 ]
}

ensure_engine() {
    if command -v docker >/dev/null && engine_answers; then
        return
    fi
    is_root || fail "no docker engine answers, and only root can start one"
    command -v dockerd >/dev/null || need_packages docker.io
    if [ -d /run/systemd/system ]; then
        say "starting the docker engine as a service"
        quietly systemctl start docker
    else
        start_engine
    fi
    say "docker engine $(docker version --format '{{.Server.Version}}')"
}

start_engine() {
    mkdir -p "$CACHE"
    set --
    if ! may_raise_limits; then
        say "root without CAP_SYS_RESOURCE: containers do without it, too"
        install -m 0755 engine/runc-without-sys-resource "$CACHE/runc-without-sys-resource"
        set -- --add-runtime "runc-without-sys-resource=$CACHE/runc-without-sys-resource" \
            --default-runtime runc-without-sys-resource
    fi
    say "starting the docker engine; its log is $ENGINE_LOG"
    setsid dockerd "$@" >"$ENGINE_LOG" 2>&1 </dev/null &
    echo $! >"$ENGINE_PID"
    tries=0
    until engine_answers; do
        tries=$((tries + 1))
        if [ "$tries" -gt 60 ] || ! kill -0 "$(cat "$ENGINE_PID")" 2>/dev/null; then
            tail -n 20 "$ENGINE_LOG" >&2
            fail "the docker engine did not start; the lines above and $ENGINE_LOG say why"
        fi
        sleep 0.5
    done
}

# Only the engine that this script started, and only when nobody else has containers in it.
stop_engine() {
    [ -f "$ENGINE_PID" ] || return 0
    pid=$(cat "$ENGINE_PID")
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; then
        if [ -n "$(docker ps -q)" ]; then
            say "the docker engine has other containers, so it goes on running"
            return
        fi
        say "stopping the docker engine"
        kill "$pid"
        while [ -d "/proc/$pid" ]; do sleep 0.2; done
    fi
    rm "$ENGINE_PID"
}
