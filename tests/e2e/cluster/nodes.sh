# Sourced by scripts/cluster: the cluster itself, and what it is told about.
# shellcheck shell=sh

READY_SECONDS=180

# ----- commands -----

run_up() {
    mkdir -p "$CACHE/logs"
    ensure_engine
    build_tools kind "seconds"
    if [ -n "$(node_containers)" ] && ! start_nodes; then
        say "a node of this cluster does not start again; making the cluster anew"
        delete_cluster
    fi
    if [ -n "$(node_containers)" ]; then
        take_over_cluster
    else
        ensure_node_image
        extract_kubectl
        ensure_network
        create_cluster
    fi
    build_tools helm "about 3 minutes on two cores"
    run_network
    wait_for_nodes
    say "the cluster is up: export KUBECONFIG=$KUBECONFIG PATH=$(tools_of kind):$(tools_of helm):$(kubectl_folder):\$PATH"
}

# What tests/api_server needs. Where the node image is built, all of it but helm is built for that anyway.
run_tools() {
    mkdir -p "$CACHE/logs"
    build_tools kubernetes "about 7 minutes on two cores"
    build_tools etcd "about half a minute"
    build_tools helm "about 3 minutes on two cores"
    fetch_gateway_api
}

run_down() {
    delete_cluster
    stop_engine
}

delete_cluster() {
    if engine_answers; then
        if [ -n "$(node_containers)" ]; then
            build_tools kind "seconds"
            say "deleting the cluster"
            quietly kind_command delete cluster --name "$CLUSTER"
        fi
        if docker network inspect "$NETWORK" >/dev/null 2>&1; then
            quietly docker network rm "$NETWORK"
        fi
    fi
    rm -f "$KUBECONFIG"
}

run_delete_cache() {
    delete_cluster
    if engine_answers; then
        for image in $(built_images | sort -u); do
            quietly docker rmi --force "$image"
        done
    fi
    stop_engine
    say "deleting $CACHE"
    rm -rf "$CACHE"
}

# What a Dockerfile here stands on in place of an image that could not be fetched has a label.
built_images() {
    docker images --filter label=dev.holdfast.stand-in --format '{{.Repository}}:{{.Tag}}' | sed '/<none>/d'
    docker images --format '{{.Repository}}:{{.Tag}}' | sed -n "/<none>/d; /^$CLUSTER[-:]/p"
}

run_status() {
    if ! engine_answers; then
        echo "no docker engine answers; scripts/cluster up starts one"
        return 1
    fi
    echo "docker engine $(docker version --format '{{.Server.Version}}')"
    if [ -z "$(node_containers)" ]; then
        echo "no cluster; scripts/cluster up starts one"
        return 1
    fi
    docker ps --all --filter "label=io.x-k8s.kind.cluster=$CLUSTER" --format 'table {{.Names}}\t{{.Image}}\t{{.Status}}'
    kubectl get nodes --output wide
    print_paths
}

print_paths() {
    echo "kubeconfig=$KUBECONFIG"
    echo "kubectl=$(kubectl_folder)/kubectl"
    echo "helm=$(tools_of helm)/helm"
    echo "kind=$(tools_of kind)/kind"
    echo "kube-apiserver=$(tools_of kubernetes)/kube-apiserver"
    echo "etcd=$(tools_of etcd)/etcd"
    echo "e2e.test=$(tools_of kubernetes-e2e)/e2e.test"
    echo "coredns-image=$(coredns_image)"
    echo "gateway-api=$(tools_of gateway-api)"
    echo "network=$NETWORK"
}

# ----- parts -----

kind_command() {
    KIND_EXPERIMENTAL_DOCKER_NETWORK=$NETWORK "$(tools_of kind)/kind" "$@"
}

kubectl() {
    "$(kubectl_folder)/kubectl" "$@"
}

# Every node's container, running or not.
node_containers() {
    docker ps --all --filter "label=io.x-k8s.kind.cluster=$CLUSTER" --format '{{.Names}}' | sort
}

kubectl_folder() {
    echo "$CACHE/kubectl"
}

# The node image has the kubectl of its own release.
extract_kubectl() {
    id=$(docker image inspect --format '{{.Id}}' "$node_image")
    [ "$(cat "$(kubectl_folder)/of" 2>/dev/null)" != "$id" ] || return 0
    mkdir -p "$(kubectl_folder)"
    container=$(docker create "$node_image")
    docker cp "$container:/usr/bin/kubectl" "$(kubectl_folder)/kubectl" >&2
    docker rm "$container" >/dev/null
    echo "$id" >"$(kubectl_folder)/of"
}

# A network of our own: its lower half is for containers, its upper half for the tests' virtual addresses.
ensure_network() {
    ! docker network inspect "$NETWORK" >/dev/null 2>&1 || return 0
    number=$(printf '%s' "$SUBNET" | cksum | cut -d ' ' -f 1)
    quietly docker network create --driver bridge --opt com.docker.network.bridge.name=br-holdfast \
        --subnet "$SUBNET.0/24" --gateway "$SUBNET.1" --ip-range "$SUBNET.0/25" \
        --ipv6 --subnet "$(printf 'fd77:%x:%x::/64' $((number / 65536 % 65536)) $((number % 65536)))" "$NETWORK"
}

has_default_cni() {
    docker run --rm --entrypoint test "$node_image" -f /kind/manifests/default-cni.yaml
}

create_cluster() {
    say "creating the cluster of $node_image"
    config=$(mktemp "$CACHE/kind.XXXXXX")
    if has_default_cni; then
        cp kind.yaml "$config"
    else
        sed 's/^networking:$/&\n  disableDefaultCNI: true/' kind.yaml >"$config"
    fi
    if ! may_raise_limits; then
        # A pod's sandbox that may not lower its OOM score would not start.
        cat >>"$config" <<END
containerdConfigPatches:
  - |
    [plugins."io.containerd.grpc.v1.cri"]
      restrict_oom_score_adj = true
END
    fi
    kind_command create cluster --name "$CLUSTER" --image "$node_image" --config "$config" >&2 ||
        fail "kind could not create the cluster; the lines above say why"
    rm "$config"
}

# The containers of nodes, those first that ask for an address of their own (tests/support: kill_node): started later,
# they would find that docker has given it to another one ("Address already in use").
containers_to_start() {
    for node in $(node_containers); do
        asked=$(docker inspect --format "{{with (index .NetworkSettings.Networks \"$NETWORK\")}}{{.IPAMConfig}}{{end}}" "$node")
        case "$asked" in
            *[0-9]*) echo "1 $node" ;;
            *) echo "2 $node" ;;
        esac
    done | sort | cut -d ' ' -f 2
}

# Fails where a node cannot be started.
start_nodes() {
    for node in $(containers_to_start); do
        [ "$(docker inspect --format '{{.State.Paused}}' "$node")" = false ] || docker unpause "$node" >/dev/null
        if [ "$(docker inspect --format '{{.State.Running}}' "$node")" = false ]; then
            say "starting $node again"
            docker start "$node" >/dev/null || return 1
        fi
    done
}

take_over_cluster() {
    quietly kind_command export kubeconfig --name "$CLUSTER"
    node_image=$(docker inspect --format '{{.Config.Image}}' "$CLUSTER-control-plane")
    extract_kubectl
    case "$node_image" in
        "$(built_node_image)" | "${HOLDFAST_NODE_IMAGE:-}") ;;
        holdfast-node:*) say "the nodes run an older image; for the present one, first: scripts/cluster down" ;;
    esac
}

# Where the image brings no pod network: on each node a bridge for its own pods, and a route to those of every other.
run_network() {
    engine_answers || fail "no docker engine answers"
    [ -n "$(node_containers)" ] || fail "no cluster; scripts/cluster up starts one"
    ! docker exec "$CLUSTER-control-plane" test -f /kind/manifests/default-cni.yaml || return 0
    wanted_routes=$(wait_for_pod_networks)
    for node in $(node_containers); do
        own=$(echo "$wanted_routes" | sed -n "s/^$node \([^ ]*\) .*/\1/p")
        others=$(echo "$wanted_routes" | sed -n "/^$node /!s/^[^ ]* \([^ ]*\) \(.*\)/route replace \1 via \2/p")
        conflist "$own" | node_file "$node" /etc/cni/net.d/10-bridge.conflist
        echo "$others" | node_file "$node" /etc/pod-routes
        docker exec "$node" ip -batch /etc/pod-routes
    done
}

# Lines of NODE POD-NETWORK ADDRESS, as soon as every node has all of it.
wait_for_pod_networks() {
    deadline=$(($(date +%s) + READY_SECONDS))
    count=$(node_containers | wc -l)
    while :; do
        # shellcheck disable=SC2016  # kubectl's own language
        found=$(kubectl get nodes --output jsonpath='{range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}' 2>&1) || true
        [ "$(echo "$found" | grep -c '^[^ ]* [0-9./]* [0-9.]*$')" -lt "$count" ] || break
        [ "$(date +%s)" -lt "$deadline" ] || fail "no pod network for every node after $READY_SECONDS s: $found"
        sleep 0.5
    done
    echo "$found"
}

# Pods ask nobody outside of the nodes, who have a route to each of them. With ipMasq a pod would see those of other
# nodes with their node's address.
conflist() {
    cat <<END
{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "pods",
      "isGateway": true,
      "ipMasq": false,
      "hairpinMode": true,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "$1"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
END
}

node_file() {
    docker exec -i "$1" sh -c "cat >$2.new && mv $2.new $2"
}

wait_for_nodes() {
    say "waiting for the nodes"
    quietly kubectl wait --for=condition=Ready node --all "--timeout=${READY_SECONDS}s"
}
