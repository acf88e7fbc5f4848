# Sourced by scripts/cluster: names that every part uses, progress, Debian packages.
# shellcheck shell=sh disable=SC2034

CLUSTER=holdfast
NETWORK=holdfast
SUBNET=${HOLDFAST_SUBNET:-172.30.77}
PRODUCT_IMAGE=${HOLDFAST_IMAGE:-holdfast:e2e}
CACHE=${HOLDFAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/holdfast}
KUBECONFIG=$CACHE/kubeconfig
BEGUN=$(date +%s)
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export KUBECONFIG PATH

say() {
    echo "cluster: $(($(date +%s) - BEGUN)) s: $*" >&2
}

fail() {
    echo "cluster: $*" >&2
    exit 1
}

# Run what tells much and matters only when it fails.
quietly() {
    mkdir -p "$CACHE/logs"
    quiet_log=$(mktemp "$CACHE/logs/step.XXXXXX")
    if ! "$@" >"$quiet_log" 2>&1 </dev/null; then
        cat "$quiet_log" >&2
        rm "$quiet_log"
        fail "failed: $*"
    fi
    rm "$quiet_log"
}

# A name for what these files and words lead to; unchanged as long as they are.
key_of() {
    for input in "$@"; do
        if [ -f "$input" ]; then sha256sum <"$input"; else echo "$input"; fi
    done | sha256sum | cut -c1-12
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# Debian packages that are not installed yet.
need_packages() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || fail "this machine has no apt-get; install by hand what provides:$missing"
    is_root || fail "not root, and these Debian packages are missing:$missing"
    say "installing Debian packages:$missing"
    quietly apt-get -q update
    # shellcheck disable=SC2086  # several words on purpose
    DEBIAN_FRONTEND=noninteractive quietly apt-get -q install -y --no-install-recommends $missing
}
