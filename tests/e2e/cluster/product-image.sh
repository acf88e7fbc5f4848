# Sourced by scripts/cluster: Holdfast's own image, and its base image where that cannot be fetched.
# shellcheck shell=sh

# Another tree, to try upgrades from it.
PRODUCT_FOLDER=${HOLDFAST_SOURCE:-../../..}
PRODUCT_SUITE=trixie
PRODUCT_PACKAGES=python3,python3-venv,python3-pip,ca-certificates,netbase,tzdata

run_image() {
    dockerfile=$PRODUCT_FOLDER/Dockerfile
    [ -f "$dockerfile" ] || fail "there is no Dockerfile at the top of the tree, so no image to build"
    mkdir -p "$CACHE/logs"
    ensure_engine
    ensure_base_image
    build_product
    load_product
}

ensure_base_image() {
    base_image=$(sed -n 's/^ARG BASE_IMAGE=//p' "$dockerfile" | head -n 1)
    [ -n "$base_image" ] || fail "Dockerfile: no line 'ARG BASE_IMAGE=IMAGE' says what it stands on"
    ! has_image "$base_image" || return 0
    say "fetching $base_image"
    if timeout "$PULL_SECONDS" docker pull --quiet "$base_image" >&2; then
        return
    fi
    say "it cannot be had here; Debian's packages stand in for it"
    need_packages mmdebstrap
    stand_in=holdfast-base:$(key_of "$PRODUCT_SUITE" "$PRODUCT_PACKAGES" product-image.sh)
    import_debian "$stand_in-packages" "$PRODUCT_SUITE" "$PRODUCT_PACKAGES"
    scratch=$(mktemp -d "$CACHE/base.XXXXXX")
    build_image "$base_image" product/base.Dockerfile "$scratch" --build-arg "BASE=$stand_in-packages"
    rm -rf "$scratch"
}

# What this machine's pip is told (index, certificates) goes into the stage that installs, and not into the image:
# Dockerfile's ARG BUILD_IMAGE is for that.
build_product() {
    say "building $PRODUCT_IMAGE"
    scratch=$(mktemp -d "$CACHE/pip.XXXXXX")
    set -- --build-arg "BASE_IMAGE=$base_image"
    if pip_settings >"$scratch/pip.conf"; then
        build_image holdfast-pip:e2e product/pip.Dockerfile "$scratch" --build-arg "BASE=$base_image"
        if grep -q '^ARG BUILD_IMAGE' "$dockerfile"; then
            set -- "$@" --build-arg BUILD_IMAGE=holdfast-pip:e2e
        else
            set -- --build-arg BASE_IMAGE=holdfast-pip:e2e
        fi
    fi
    docker build --network host --tag "$PRODUCT_IMAGE" "$@" "$PRODUCT_FOLDER" >&2 ||
        fail "docker build failed; the lines above say why"
    rm -rf "$scratch"
    say "$PRODUCT_IMAGE has $(($(docker image inspect --format '{{.Size}}' "$PRODUCT_IMAGE") / 1000000)) MB"
}

# This machine's pip configuration, with its certificates beside it; false when there is none.
pip_settings() {
    python=../../../.venv/bin/python
    [ -x "$python" ] || python=python3
    "$python" product/pip_settings.py "$scratch/certificates.pem"
}

load_product() {
    [ -n "$(node_containers)" ] ||
        fail "$PRODUCT_IMAGE is built, but no cluster runs to load it into; scripts/cluster up starts one"
    load_images "$PRODUCT_IMAGE"
}

# load_images IMAGE...: every node has its own containerd; one archive is enough for all of them.
load_images() {
    # On a node: which build of them was loaded last.
    mark=/etc/holdfast-image-$(echo "$1" | tr / :)
    loaded="$* $(docker image inspect --format '{{.Id}}' "$@" | tr '\n' ' ' | sed 's/ $//')"
    nodes=""
    for node in $(node_containers); do
        [ "$(docker exec "$node" cat "$mark" 2>/dev/null)" = "$loaded" ] || nodes="$nodes $node"
    done
    if [ -n "$nodes" ]; then
        say "loading $*:$nodes"
        archive=$(mktemp "$CACHE/image.XXXXXX")
        docker save --output "$archive" "$@"
        for node in $nodes; do
            load_on "$node" &
        done
        wait
        rm "$archive"
    fi
    for node in $(node_containers); do
        docker exec "$node" grep -qsFx "$loaded" "$mark" || {
            cat "$CACHE/logs/load-$node" >&2
            fail "$node has no $*; the lines above say why"
        }
    done
    say "$loaded: on every node"
}

load_on() {
    docker exec -i "$1" ctr --namespace k8s.io images import --digests - <"$archive" >"$CACHE/logs/load-$1" 2>&1 &&
        echo "$loaded" | node_file "$1" "$mark"
}
