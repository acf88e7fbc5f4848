"""Services of type LoadBalancer: whose addresses they get, and what their clients feel of all that happens to them."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from holdfast_testing.cluster_client import Probing
from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import KindCluster
from holdfast_testing.kubernetes_services import (
    PORTS,
    Backends,
    LoadBalancer,
    MakeService,
    ask,
    nodes_of,
)
from holdfast_testing.kubernetes_vips import BOUND_MS, INTERVAL_MS, SLACK_MS, SYSTEM, Holdfast, address_pools
from holdfast_testing.load_client import Load, LoadResult

pytestmark = pytest.mark.kind

TEAM = "team"
QUICK = "quick"
OF_QUICK = {"holdfast.dev/pool": QUICK}
KUBELET = 10250
"""What a node answers on by itself, on every address that it has."""
NEWCOMERS = 20
ANSWERED_MS = 1000
"""From the API server's answer to the first connection, in the middle of so many."""
UNDER_WAY_MS = 300
"""How long a request may take on this machine when it is busy. What is under way when the address moves is reset: the
record of an open connection is on the node that had the address (conntrack). What is asked later is not."""

Pools = dict[str, list[str]]


@pytest.fixture(scope="module")
def pools(running_cluster: KindCluster, installed: Holdfast) -> Iterator[Pools]:
    """One for every Service in `default`, one for those that name it, one for the namespace `team`.

    An interval of 1 s, but for those that name `quick`: a machine that others use as well stands still for longer than
    three intervals of 100 ms now and then.
    """
    cluster = running_cluster
    found = {name: cluster.free_addresses(count) for name, count in {"services": 8, QUICK: 4, TEAM: 2}.items()}
    if cluster.segment().subnet_v6 is not None:
        found["services"].append(cluster.free_address_v6())
    specs: list[tuple[str, dict[str, Any]]] = [
        ("services", {"autoAssign": True, "namespaces": {"names": ["default"]}}),
        (QUICK, {"virtualIPTemplate": {"advertisementIntervalMilliseconds": INTERVAL_MS}}),
        (TEAM, {"autoAssign": True, "namespaces": {"names": [TEAM]}}),
    ]
    cluster.kubectl("create", "namespace", TEAM)
    try:
        with address_pools(
            cluster,
            *[(name, {"addresses": found[name], **spec}) for name, spec in specs],
        ):
            yield found
    finally:
        cluster.kubectl("delete", "namespace", TEAM)
        cluster.give_back(address for addresses in found.values() for address in addresses)


@pytest.fixture(scope="module")
def lines(running_cluster: KindCluster, installed: Holdfast) -> Iterator[Backends]:
    """A pod on each worker."""
    with Backends(running_cluster, "lines").running() as backends:
        yield backends


@pytest.fixture
def make_service(cluster: KindCluster, pools: Pools) -> Iterator[MakeService]:
    """Services before the pods of `lines`, unless told otherwise; deleted after the test."""
    made: list[LoadBalancer] = []

    def make(name: str, **fields: Any) -> LoadBalancer:
        made.append(LoadBalancer(cluster, name, **{"app": "lines", **fields}))
        return made[-1].apply()

    yield make
    for service in made:
        service.delete()


def local(**spec: Any) -> dict[str, Any]:
    return {"externalTrafficPolicy": "Local", **spec}


def is_answered(probing: Probing) -> bool:
    return probing.result().is_answered


def is_let_in(address: str, port: int) -> bool:
    """Whether anything answers there, and be it with a refusal."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def two_hundred_clients(cluster: KindCluster, make_service: MakeService, kill: Callable[[str], object]) -> LoadResult:
    """What the clients of a Service feel when `kill` is done to the node that has its address."""
    service = make_service("crowded", annotations=OF_QUICK)
    address = service.address()
    service.answered()
    holder = service.held_by_one()
    with Load(address, service.port, clients=200, period_ms=500) as load:
        time.sleep(3)
        kill(holder)
        cluster.wait_for(lambda: cluster.holders(address) not in ([], [holder]), 30, "another holder")
        time.sleep(3)
    return load.result()


def test_a_service_gets_an_address_of_the_pool_that_is_its_own_and_answers(
    cluster: KindCluster, make_service: MakeService, pools: Pools, lines: Backends
) -> None:
    automatic = make_service("automatic")
    named = make_service("named", annotations=OF_QUICK)
    wanted = pools["services"][7]
    exact = make_service("exact", annotations={"holdfast.dev/addresses": wanted})
    of_team = make_service("of-team", namespace=TEAM)
    foreign = make_service("foreign", spec={"loadBalancerClass": "example.com/other"})
    assert automatic.address() in pools["services"]
    assert named.address() in pools[QUICK]
    assert exact.address() == wanted
    assert of_team.address() in pools[TEAM]
    for service in (automatic, named, exact, of_team):
        assert [entry["ipMode"] for entry in service.ingress] == ["VIP"]
        holder = service.held_by_one()
        assert [vip["status"].get("holder") for vip in service.virtual_ips()] == [holder]
    for service in (automatic, named, exact):
        service.answered()
    assert foreign.object["status"] == {"loadBalancer": {}}
    assert "finalizers" not in foreign.object["metadata"]
    assert foreign.virtual_ips() == []


def test_a_service_s_address_is_no_door_into_the_node(
    cluster: KindCluster, make_service: MakeService, lines: Backends
) -> None:
    service = make_service("shut")
    address = service.address()
    service.answered()
    assert is_let_in(str(cluster.node(service.held_by_one()).address), KUBELET), "this machine reaches the node's own"
    assert not is_let_in(address, KUBELET)
    assert service.answer(), "and the Service's own port goes on"


def test_services_with_one_sharing_key_have_one_address_until_the_last_of_them_goes(
    cluster: KindCluster, make_service: MakeService, lines: Backends
) -> None:
    key = {"holdfast.dev/sharing-key": "web"}
    first = make_service("shared-first", annotations=key)
    second = make_service("shared-second", annotations=key, port=81, target_port=PORTS[1])
    address = first.address()
    assert second.address() == address
    clashing = make_service("shared-clashing", annotations=key, port=81)
    first.answered()
    second.answered()
    assert first.virtual_ips()[0]["metadata"]["name"] == second.virtual_ips()[0]["metadata"]["name"]
    refused = cluster.wait_for(lambda: clashing.conditions.get("AddressAssigned"), 30, "the third is told why")
    assert refused is not None
    assert (refused["status"], refused["reason"]) == ("False", "SharingConflict")
    assert clashing.ingress == []
    holder = second.held_by_one()
    with Load(address, 81, clients=5) as load:
        first.delete()
        time.sleep(2)
    assert load.result().failed == 0, load.result()
    assert second.address() == address
    assert second.held_by_one() == holder
    clashing.delete()
    second.delete()
    assert cluster.holders(address) == [], "a Service is not gone before its address is off the nodes"


def test_a_service_that_changes_its_type_lets_go_of_its_address(
    cluster: KindCluster, make_service: MakeService, lines: Backends
) -> None:
    service = make_service("changing")
    address = service.address()
    service.held_by_one()
    service.patch(
        type="ClusterIP", loadBalancerClass=None, externalTrafficPolicy=None, allocateLoadBalancerNodePorts=None
    )
    cluster.wait_for(service.is_released, 30, "nothing is left of the load balancer")
    assert cluster.holders(address) == []
    assert service.virtual_ips() == []
    service.apply()
    assert service.address()
    service.answered()


def test_with_local_the_address_is_where_the_endpoints_are_and_clients_keep_theirs(
    cluster: KindCluster, make_service: MakeService, figures: Figures, installed: Holdfast
) -> None:
    here, there, _ = [node.name for node in cluster.workers()]
    pods = [Backends(cluster, "local", replicas=1, node=here), Backends(cluster, "local", replicas=0, node=there)]
    with contextlib.ExitStack() as stack:
        for backends in pods:
            stack.enter_context(backends.running())
        service = make_service("local", app="local", spec=local())
        cluster.wait_for(
            lambda: service.held_by_one() == here, 30, f"{here}, which has the endpoint, holds the address"
        )
        address = service.address()
        service.answered()
        with Load(address, service.port, clients=10) as load:
            pods[1].replicas = 1
            pods[1].apply()
            time.sleep(2)
            assert service.held_by_one() == here, "a second endpoint is no reason to move"
            pods[0].scale(0)
            cluster.wait_for(lambda: cluster.holders(address) == [there], 30, f"{there} holds it")
            time.sleep(1)
        figures.add(
            "Service with Local, its last endpoint on the holder goes: failed requests", "", load.result().failed
        )
        assert load.result().failing_ms <= UNDER_WAY_MS, load.result()
        assert load.result().failed <= 10, "each client has one request under way at most"
        assert load.result().seen_as == (str(cluster.segment().gateway),), "it is this machine that asks"
        pods[1].scale(0)
        cluster.wait_for(lambda: not service.answer(), 60, "nobody answers any more")
        assert service.address() == address, "it stays the Service's own"
        pods[0].replicas = 1
        pods[0].apply()
        service.answered()
        cluster.wait_for(lambda: cluster.holders(address) == [here], 30, f"{here} holds it again")


def test_a_rolling_update_of_the_pods_costs_no_request_with_either_policy(
    cluster: KindCluster, make_service: MakeService, lines: Backends, figures: Figures
) -> None:
    services = {"Cluster": make_service("rolling"), "Local": make_service("rolling-local", spec=local())}
    for service in services.values():
        service.answered()
        service.held_by_one()
    before = set(nodes_of(cluster, [lines]))
    with contextlib.ExitStack() as stack:
        loads = {
            policy: stack.enter_context(Load(service.address(), service.port, clients=10))
            for policy, service in services.items()
        }
        lines.apply(version=str(time.time_ns()))
        cluster.wait_for(lambda: not before & set(nodes_of(cluster, [lines])), 60, "every pod is another one")
    for policy, load in loads.items():
        result = load.result()
        figures.add(f"rolling update behind a Service with {policy}: failed of {result.requests}", "", result.failed)
        assert result.failed == 0, (policy, result)


def test_a_service_keeps_its_address_while_the_operator_is_replaced(
    cluster: KindCluster, make_service: MakeService, lines: Backends
) -> None:
    service = make_service("kept")
    address = service.address()
    holder = service.held_by_one()
    service.answered()
    cluster.wait_for(lambda: service.virtual_ips()[0]["status"].get("holder") == holder, 30, "its status is settled")
    before = service.object["metadata"]["resourceVersion"], service.virtual_ips()[0]["metadata"]["uid"]
    with Load(address, service.port, clients=5) as load:
        cluster.kubectl("rollout", "restart", "deployment/holdfast-operator", "-n", SYSTEM)
        cluster.kubectl("rollout", "status", "deployment/holdfast-operator", "-n", SYSTEM, "--timeout=120s")
        # Whoever plans now plans for the others, too.
        newcomer = make_service("newcomer")
        assert newcomer.address() != address
    assert load.result().failed == 0, load.result()
    assert service.held_by_one() == holder
    assert (service.object["metadata"]["resourceVersion"], service.virtual_ips()[0]["metadata"]["uid"]) == before


def test_two_hundred_clients_of_a_service_whose_holder_s_engine_dies(
    cluster: KindCluster, make_service: MakeService, lines: Backends, figures: Figures
) -> None:
    result = two_hundred_clients(
        cluster, make_service, lambda node: cluster.node_exec(node, "pkill", "-KILL", "-f", "holdfast_speaker.host")
    )
    figures.add(f"200 clients of a Service, engine killed: failed of {result.requests} requests", "", result.failed)
    figures.add("200 clients of a Service, engine killed: nobody is answered", "ms", result.silence_ms)
    figures.add("200 clients of a Service, engine killed: longest wait of one that was", "ms", result.longest_wait_ms)
    assert result.silence_ms < BOUND_MS + SLACK_MS, result
    assert result.failing_ms <= UNDER_WAY_MS, result
    assert result.failed <= 200, "each client has one request under way at most"


@pytest.mark.full
def test_two_hundred_clients_of_a_service_whose_holder_is_powered_off(
    cluster: KindCluster, make_service: MakeService, lines: Backends, figures: Figures
) -> None:
    result = two_hundred_clients(cluster, make_service, cluster.kill_node)
    # A third of the requests goes to the dead node's pod until the Service leaves that out: Kubernetes' share.
    figures.add(f"200 clients of a Service, holder killed: failed of {result.requests} requests", "", result.failed)
    figures.add("200 clients of a Service, holder killed: nobody is answered", "ms", result.silence_ms)
    assert result.silence_ms < BOUND_MS + SLACK_MS, result


@pytest.mark.full
def test_a_service_keeps_its_address_over_the_api_server_s_absence(
    cluster: KindCluster, make_service: MakeService, lines: Backends
) -> None:
    service = make_service("unattended")
    address = service.address()
    holder = service.held_by_one()
    service.answered()
    with Load(address, service.port, clients=5) as load, cluster.without_api_server():
        time.sleep(5)
    assert load.result().failed == 0, load.result()
    newcomer = make_service("newcomer")
    assert newcomer.address(60) != address
    assert service.address() == address
    assert service.held_by_one() == holder


@pytest.mark.full
def test_a_node_that_is_excluded_from_external_load_balancers_hands_over(
    cluster: KindCluster, make_service: MakeService, lines: Backends, figures: Figures
) -> None:
    service = make_service("excluding")
    address = service.address()
    service.answered()
    holder = service.held_by_one()
    label = "node.kubernetes.io/exclude-from-external-load-balancers"
    with Load(address, service.port, clients=20) as load:
        cluster.kubectl("label", "node", holder, f"{label}=")
        try:
            cluster.wait_for(lambda: cluster.holders(address) not in ([], [holder]), 30, "another holder")
            time.sleep(2)
            successor = service.held_by_one()
        finally:
            cluster.kubectl("label", "node", holder, f"{label}-")
        time.sleep(3)
    figures.add("holder excluded from external load balancers: failed requests", "", load.result().failed)
    assert load.result().failed == 0, load.result()
    assert service.held_by_one() == successor, "it stays where it went"


def test_a_service_of_two_families_gains_and_loses_the_second_address(
    cluster: KindCluster, make_service: MakeService, lines: Backends
) -> None:
    if len(cluster.get("servicecidr", "kubernetes")["spec"]["cidrs"]) < 2:
        pytest.skip("this cluster's Services have one family: tests/api_server tries two")
    service = make_service("families", spec={"ipFamilyPolicy": "SingleStack"})
    first = service.address()
    service.answered()
    service.patch(ipFamilyPolicy="PreferDualStack")
    both = service.addresses(2)
    assert both[0] == first
    service.answered(address=both[1])
    service.patch(ipFamilyPolicy="SingleStack", ipFamilies=None, clusterIPs=None)
    assert service.addresses(1) == [first]
    cluster.wait_for(lambda: cluster.holders(both[1]) == [], 30, "the second address is off the nodes")
    assert ask(first, service.port)


@pytest.mark.full
def test_a_new_service_is_answered_soon(
    cluster: KindCluster, make_service: MakeService, pools: Pools, lines: Backends, figures: Figures
) -> None:
    held, answered = [], []
    hosts = {node.name: node.mac for node in cluster.nodes()}
    with cluster.api() as api:
        for number in range(NEWCOMERS):
            address = pools[QUICK][number % 4]
            service = LoadBalancer(
                cluster, f"soon-{number}", app="lines", annotations={"holdfast.dev/addresses": address}
            )
            with Probing(address, hosts=hosts) as pings, Probing(address, service.port) as connections:
                api("POST", "/api/v1/namespaces/default/services", service.manifest)
                for probing in (pings, connections):
                    probing.begin()
                try:
                    cluster.wait_for(partial(is_answered, connections), 30, "an answer")
                finally:
                    service.delete()
            held.append(pings.result().gaps[0].milliseconds)
            answered.append(connections.result().gaps[0].milliseconds)
    figures.add("a new Service: its address is held after", "ms", *held)
    figures.add("a new Service: its first connection is answered after", "ms", *answered)
    assert statistics.median(answered) <= ANSWERED_MS
