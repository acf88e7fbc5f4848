# Sourced by scripts/cluster: Kubernetes' own end-to-end tests of the release that is pinned, and what their pods run.
# shellcheck shell=sh

# What the tests start in pods of agnhost beside the program itself: sh, curl, nc, and a wget that does not try again.
AGNHOST_PACKAGES=curl,iproute2,netcat-openbsd,wget

run_kubernetes_e2e() {
    mkdir -p "$CACHE/logs"
    [ "$(version_of kubernetes-e2e k8s.io/kubernetes)" = "$KUBERNETES_VERSION" ] ||
        fail "tools/kubernetes-e2e/go.mod has another Kubernetes than tools/kubernetes/go.mod, $KUBERNETES_VERSION"
    build_kubernetes_e2e
    build_tools coredns "about 2 minutes on two cores"
    ensure_engine
    [ -n "$(node_containers)" ] || fail "no cluster runs to load images into; scripts/cluster up starts one"
    build_kubernetes_e2e_images
    load_images "$agnhost_image" "$pause_image" "$(coredns_image)"
}

# The tests are a test binary, which `go build` does not make.
build_kubernetes_e2e() {
    folder=$(tools_of kubernetes-e2e)
    [ ! -d "$folder" ] || return 0
    ensure_go
    say "building Kubernetes' own tests with $($go env GOVERSION) (about 6 minutes on two cores)"
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    flags=$(linker_flags kubernetes-e2e)
    (
        cd tools/kubernetes-e2e
        export CGO_ENABLED=0 GOTOOLCHAIN=local
        nice -n 19 "$go" test -c -vet=off -mod=readonly -trimpath -buildvcs=false -ldflags "$flags" \
            -o "$folder.new/e2e.test" k8s.io/kubernetes/test/e2e &&
            nice -n 19 "$go" build -mod=readonly -trimpath -buildvcs=false -ldflags "$flags" \
                -o "$folder.new/agnhost" k8s.io/kubernetes/test/images/agnhost
    ) >&2 || fail "building tools/kubernetes-e2e failed; the lines above say why"
    mv "$folder.new" "$folder"
}

# Under the names that the tests ask for, so that no node looks for them in a registry. Sets $agnhost_image and
# $pause_image.
build_kubernetes_e2e_images() {
    programs=$(tools_of kubernetes-e2e)
    names=$("$programs/e2e.test" --list-images 2>/dev/null)
    agnhost_image=$(echo "$names" | grep '/e2e-test-images/agnhost:') || fail "e2e.test names no image of agnhost"
    pause_image=$(echo "$names" | grep '/pause:') || fail "e2e.test names no image of pause"
    key=$(key_of "$(tools_of kubernetes-e2e)" "$(tools_of coredns)" kubernetes-e2e.sh kubernetes-e2e/* images/pause.*)
    [ "$(cat "$CACHE/kubernetes-e2e-images" 2>/dev/null)" != "$key" ] ||
        { has_image "$agnhost_image" && has_image "$pause_image" && has_image "$(coredns_image)" && return; }
    need_packages mmdebstrap gcc libc6-dev
    base=holdfast-agnhost-base:$(key_of "$NODE_SUITE" "$AGNHOST_PACKAGES")
    import_debian "$base" "$NODE_SUITE" "$AGNHOST_PACKAGES"
    say "making the images that Kubernetes' own tests ask for"
    scratch=$(mktemp -d "$CACHE/e2e.XXXXXX")
    cp "$programs/agnhost" "$(tools_of coredns)/coredns" "$scratch/"
    gcc -Os -static -Wall -Wextra -Werror -o "$scratch/pause" images/pause.c
    build_image "$agnhost_image" kubernetes-e2e/agnhost.Dockerfile "$scratch" --label dev.holdfast.stand-in= --build-arg "BASE=$base"
    build_image "$pause_image" images/pause.Dockerfile "$scratch" --label dev.holdfast.stand-in=
    build_image "$(coredns_image)" images/static.Dockerfile "$scratch" --build-arg PROGRAM=coredns
    rm -rf "$scratch"
    echo "$key" >"$CACHE/kubernetes-e2e-images"
}

coredns_image() {
    echo "holdfast-coredns:$(version_of coredns github.com/coredns/coredns)"
}
