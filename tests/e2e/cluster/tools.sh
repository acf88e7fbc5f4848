# Sourced by scripts/cluster: a Go toolchain, and the programs that are built with it from tools/*/go.mod.
# shellcheck shell=sh

# golang.org/toolchain of this version is fetched where no Go is new enough for tools/*/go.mod.
GO_VERSION=1.26.8
GO_AT_LEAST=1.26

# ----- Go -----

is_new_go() {
    version=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    [ "$(printf '%s\n' "go$GO_AT_LEAST" "$version" | sort -V | head -n 1)" = "go$GO_AT_LEAST" ]
}

# Sets $go.
ensure_go() {
    for go in "$(command -v go || true)" /usr/local/go/bin/go "$CACHE/go-$GO_VERSION/bin/go"; do
        if [ -n "$go" ] && is_new_go "$go"; then
            return
        fi
    done
    fetch_go
}

# Any Go can fetch modules, and newer toolchains are modules (https://go.dev/ref/mod, "Module downloads" of
# golang.org/toolchain). One older than 1.21 does not know that their programs are to be executable.
fetch_go() {
    old_go=$(command -v go || true)
    if [ -z "$old_go" ]; then
        need_packages golang-go
        old_go=$(command -v go)
    fi
    say "fetching Go $GO_VERSION ($("$old_go" version) is older than $GO_AT_LEAST)"
    folder=$CACHE/go-$GO_VERSION
    machine=$("$old_go" env GOOS)-$("$old_go" env GOARCH)
    scratch=$(mktemp -d "$CACHE/go.XXXXXX")
    echo "module holdfast.dev/tests/e2e/cluster/go" >"$scratch/go.mod"
    (cd "$scratch" && GOTOOLCHAIN=local "$old_go" mod download -json \
        "golang.org/toolchain@v0.0.1-go$GO_VERSION.$machine") >"$scratch/answer" || fail "$(cat "$scratch/answer")"
    module=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p' "$scratch/answer")
    rm -rf "$folder" "$scratch"
    cp -r "$module" "$folder.new"
    chmod -R u+w "$folder.new"
    chmod +x "$folder.new"/bin/* "$folder.new"/pkg/tool/*/*
    mv "$folder.new" "$folder"
    go=$folder/bin/go
}

# ----- programs -----

version_of() {
    sed -n "s#^\(require \)\{0,1\}[[:space:]]*$2 \(v[^ ]*\).*#\2#p" "tools/$1/go.mod"
}

KUBERNETES_VERSION=$(version_of kubernetes k8s.io/kubernetes)

linker_flags() {
    case "$1" in
        kubernetes | kubernetes-e2e)
            # kubeadm compares its own version with the one it is to install; the tests tell theirs.
            minor=${KUBERNETES_VERSION#v1.}
            minor=${minor%%.*}
            variables=k8s.io/component-base/version
            echo "-s -w -X $variables.gitVersion=$KUBERNETES_VERSION -X $variables.gitTreeState=clean" \
                "-X $variables.gitMajor=1 -X $variables.gitMinor=$minor"
            ;;
        helm) echo "-s -w -X helm.sh/helm/v4/internal/version.version=$(version_of helm helm.sh/helm/v4)" ;;
        *) echo "-s -w" ;;
    esac
}

# Where the programs of tools/$1 are.
tools_of() {
    echo "$CACHE/tools/$1-$(key_of "tools/$1/go.mod" "tools/$1/go.sum" "$(linker_flags "$1")")"
}

tool_packages() {
    sed -n '/^tool (/,/^)/ s/^[[:space:]]\{1,\}//p; s/^tool \([^(]\)/\1/p' "tools/$1/go.mod"
}

# Build every program of tools/$1, unless that was done.
build_tools() {
    folder=$(tools_of "$1")
    [ ! -d "$folder" ] || return 0
    ensure_go
    say "building $1 with $($go env GOVERSION) ($2)"
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    flags=$(linker_flags "$1")
    packages=$(tool_packages "$1")
    # shellcheck disable=SC2086  # several packages on purpose
    (cd "tools/$1" && CGO_ENABLED=0 GOTOOLCHAIN=local nice -n 19 "$go" build -mod=readonly -trimpath -buildvcs=false \
        -ldflags "$flags" -o "$folder.new/" $packages) >&2 || fail "building tools/$1 failed; the lines above say why"
    # Go names a program after the last part of its path, less the version of the module.
    [ ! -e "$folder.new/server" ] || mv "$folder.new/server" "$folder.new/etcd"
    mv "$folder.new" "$folder"
}

# The folder of a module that tools/$1 depends on, in Go's module cache.
module_folder() {
    ensure_go
    (cd "tools/$1" && export GOTOOLCHAIN=local && "$go" mod download "$2" && "$go" list -mod=readonly -m -f '{{.Dir}}' "$2")
}

# Set the Gateway API's definitions beside the programs: tests/api_server holds examples/kubernetes/gateway against them.
fetch_gateway_api() {
    folder=$(tools_of gateway-api)
    [ ! -d "$folder" ] || return 0
    say "fetching the definitions of the Gateway API (seconds)"
    module=$(module_folder gateway-api sigs.k8s.io/gateway-api) || fail "fetching the Gateway API's module failed"
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    cp "$module"/config/crd/standard/*.yaml "$folder.new/"
    chmod -R u+w "$folder.new"
    mv "$folder.new" "$folder"
}
