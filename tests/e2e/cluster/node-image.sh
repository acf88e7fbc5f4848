# Sourced by scripts/cluster: the image of kind's nodes, fetched or built.
# shellcheck shell=sh

NODE_SUITE=bookworm
NODE_PACKAGES=systemd,systemd-sysv,containerd,runc,containernetworking-plugins,conntrack,iptables,ipset,nftables,iproute2
NODE_PACKAGES=$NODE_PACKAGES,ethtool,socat,util-linux,mount,kmod,pigz,jq,procps,hostname,curl,ca-certificates,tcpdump
NODE_PACKAGES=$NODE_PACKAGES,iputils-ping,dbus,libseccomp2
PULL_SECONDS=600

built_node_image() {
    made_of=""
    for part in etcd kind kubernetes; do
        made_of="$made_of tools/$part/go.mod tools/$part/go.sum"
    done
    # shellcheck disable=SC2086  # several files on purpose
    echo "holdfast-node:$(key_of node-image.sh node/* images/* $made_of "$(linker_flags kubernetes)")"
}

has_image() {
    docker image inspect "$1" >/dev/null 2>&1
}

# The image that this release of kind takes by default, named in its source.
stock_node_image() {
    module=$(module_folder kind sigs.k8s.io/kind)
    sed -n 's/^const Image = "\(.*\)"$/\1/p' "$module/pkg/apis/config/defaults/image.go"
}

# Sets $node_image.
ensure_node_image() {
    if [ -n "${HOLDFAST_NODE_IMAGE:-}" ]; then
        node_image=$HOLDFAST_NODE_IMAGE
        has_image "$node_image" || docker pull "$node_image" >&2 || fail "HOLDFAST_NODE_IMAGE=$node_image: no such image"
        return
    fi
    node_image=$(built_node_image)
    ! has_image "$node_image" || return 0
    pull_node_image || build_node_image
}

pull_node_image() {
    if [ ! -f /sys/fs/cgroup/cgroup.controllers ]; then
        say "cgroup v1: kubelets of kind's own node image refuse it"
        return 1
    fi
    stock=$(stock_node_image)
    if ! has_image "$stock"; then
        say "fetching $stock"
        if ! timeout "$PULL_SECONDS" docker pull --quiet "$stock" >&2; then
            say "it cannot be had here"
            return 1
        fi
    fi
    node_image=$stock
}

# ----- built from Debian packages and Go modules -----

build_node_image() {
    say "building the node image $node_image from Debian packages and Go modules"
    need_packages mmdebstrap gcc libc6-dev
    build_tools kubernetes "about 6 minutes on two cores"
    build_tools etcd "half a minute"
    kubernetes=$(tools_of kubernetes)
    scratch=$(mktemp -d "$CACHE/node.XXXXXX")
    base=holdfast-node-base:$(key_of "$NODE_SUITE" "$NODE_PACKAGES")
    import_debian "$base" "$NODE_SUITE" "$NODE_PACKAGES"

    say "making the images of the control plane"
    wanted=$("$kubernetes/kubeadm" config images list --kubernetes-version "$KUBERNETES_VERSION" 2>/dev/null)
    for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
        cp "$kubernetes/$program" "$scratch/"
    done
    cp "$(tools_of etcd)/etcd" "$scratch/"
    gcc -Os -static -Wall -Wextra -Werror -o "$scratch/pause" images/pause.c
    for program in kube-apiserver kube-controller-manager kube-scheduler etcd; do
        build_image "$(image_named "$program")" images/static.Dockerfile "$scratch" --build-arg "PROGRAM=$program"
    done
    build_image "$(image_named kube-proxy)" images/kube-proxy.Dockerfile "$scratch" --build-arg "BASE=$base"
    build_image "$(image_named pause)" images/pause.Dockerfile "$scratch"

    say "making the node's root file system"
    stage_node "$scratch/root"
    build_image "$node_image-empty" node/Dockerfile "$scratch" \
        --build-arg "BASE=$base" --build-arg "PAUSE_IMAGE=$(image_named pause)"
    say "putting the images into the node"
    fill_node "$node_image-empty" "$node_image"
    rm -rf "$scratch"
    # shellcheck disable=SC2046  # several images on purpose
    quietly docker rmi $(node_images)
    remove_older_node_images
}

# Those that no container uses.
remove_older_node_images() {
    for image in $(docker images --format '{{.Repository}}:{{.Tag}}' holdfast-node); do
        case "$image" in
            "$node_image" | "$node_image-empty") ;;
            *) docker rmi "$image" >/dev/null 2>&1 || true ;;
        esac
    done
}

# What kubeadm calls the image of a program.
image_named() {
    echo "$wanted" | grep "/$1:" || fail "kubeadm names no image of $1"
}

node_images() {
    for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy etcd pause; do
        image_named "$name"
    done
}

build_image() {
    image=$1
    file=$2
    context=$3
    shift 3
    cp "$file" "$context/Dockerfile"
    quietly docker build --network host --tag "$image" "$@" "$context"
}

# An image of Debian packages: import_debian IMAGE SUITE PACKAGES
import_debian() {
    ! has_image "$1" || return 0
    say "making $1 of Debian $2's packages"
    archive=$(mktemp "$CACHE/debian.XXXXXX")
    quietly mmdebstrap --variant=minbase --include="$3" --format=tar \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Check-Valid-Until "false"' "$2" "$archive"
    quietly docker import "$archive" "$1"
    rm "$archive"
}

# kind's own files of a node, as its base image takes them, from its module; and Kubernetes' programs.
stage_node() {
    files=$(module_folder kind sigs.k8s.io/kind)/images/base/files
    mkdir -p "$1"
    cp -r "$files/etc" "$files/kind" "$files/usr" "$1/"
    chmod -R u=rwX,go=rX "$1"
    chmod 0755 "$1"/kind/bin/* "$1"/usr/local/bin/*
    mkdir -p "$1/usr/bin"
    for program in kubeadm kubelet kubectl; do
        install -m 0755 "$kubernetes/$program" "$1/usr/bin/"
    done
    echo "$KUBERNETES_VERSION" >"$1/kind/version"
    install -m 0644 node/pod-routes.service "$1/etc/systemd/system/"
}

# fill_node FROM TO: the same node, with the control plane's images in its containerd.
fill_node() {
    container=$(docker run --detach --entrypoint sleep --security-opt seccomp=unconfined "$1" infinity)
    # shellcheck disable=SC2016  # for the shell in the container
    docker exec "$container" sh -c 'containerd >/tmp/containerd.log 2>&1 & echo $! >/tmp/pid
        until ctr version >/dev/null 2>&1; do
            kill -0 $(cat /tmp/pid) || { cat /tmp/containerd.log; exit 1; }
            sleep 0.2
        done' >&2
    # shellcheck disable=SC2046  # several images on purpose
    docker save $(node_images) | quietly_import "$container"
    # shellcheck disable=SC2016  # for the shell in the container
    docker exec "$container" sh -c 'kill $(cat /tmp/pid); while ctr version >/dev/null 2>&1; do sleep 0.1; done
        rm /tmp/pid /tmp/containerd.log' >&2
    quietly docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' "$container" "$2"
    docker rm --force "$container" >/dev/null
}

quietly_import() {
    docker exec -i "$1" ctr --namespace k8s.io images import --all-platforms --digests --no-unpack - >"$CACHE/logs/import" 2>&1 || {
        cat "$CACHE/logs/import" >&2
        fail "the node's containerd refused the control plane's images"
    }
}
