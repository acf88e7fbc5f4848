"""What a plan looks at beside VirtualIPs, SpeakerConfigs and Nodes, and that it may be absent or forbidden."""

from __future__ import annotations

import asyncio
import logging

import pytest

from holdfast_api.cluster import POOLS_REQUIRED_ANNOTATION
from holdfast_operator.planner.cluster.view import ClusterRules
from holdfast_operator.reader import node_view
from holdfast_operator.surroundings import ready_on
from holdfast_testing.fake_api import FakeAPI
from holdfast_testing.operator_world import WATCHES, operator, play, populate, put_speaker_pod, until

RULES = ClusterRules(pools_required=True, service_networks=("10.96.0.0/12",))
POOL = {"metadata": {"name": "edge"}, "spec": {"addresses": ["10.0.0.0/28"]}}
SLICE = {
    "metadata": {
        "namespace": "default",
        "name": "kubernetes",
        "labels": {"kubernetes.io/service-name": "kubernetes"},
    },
    "endpoints": [{"addresses": ["10.0.0.7"]}, {"addresses": ["10.0.0.6"]}],
}


async def view_of(bench):
    return (await bench.reader.read()).view(RULES)


def annotations(bench, name="n1"):
    return bench.fake.get("speakerconfigs", name)["metadata"].get("annotations", {})


def test_pools_namespaces_service_networks_and_the_api_servers_addresses_are_seen():
    async def scene(bench):
        populate(bench.fake)
        bench.fake.put("addresspools", POOL)
        bench.fake.put("namespaces", {"metadata": {"name": "shop", "labels": {"tier": "front"}}})
        bench.fake.put("servicecidrs", {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}})
        bench.fake.put("endpointslices", SLICE)
        bench.fake.put("endpointslices", {**SLICE, "metadata": {**SLICE["metadata"], "name": "other", "labels": {}}})
        view = await view_of(bench)
        assert [pool["metadata"]["name"] for pool in view.pools] == ["edge"]
        assert view.namespaces == {"shop": {"tier": "front"}}
        assert view.service_networks == ("10.96.0.0/16",)
        assert view.api_server_addresses == ("10.0.0.6", "10.0.0.7")
        assert view.rules is RULES

    play(scene)


def test_a_node_has_its_external_addresses_and_the_networks_of_its_pods():
    node = {
        "metadata": {"name": "n1"},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
        "status": {
            "addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "10.0.0.1"}]
        },
    }
    view = node_view(node)
    assert view.external_addresses == ("192.0.2.1",)
    assert view.pod_networks == ("10.244.1.0/24", "fd00:1::/64")
    assert node_view({**node, "spec": {"podCIDR": "10.244.1.0/24"}}).pod_networks == ("10.244.1.0/24",)
    assert node_view({**node, "spec": {}}).pod_networks == ()


def test_a_node_is_heard_while_its_speakers_pod_is_ready():
    async def scene(bench):
        populate(bench.fake, nodes=("n1", "n2", "n3"))
        put_speaker_pod(bench.fake, "n1")
        put_speaker_pod(bench.fake, "n2", is_ready=False)
        bench.fake.put(
            "pods",
            {
                "metadata": {"namespace": "shop", "name": "x", "labels": {"app.kubernetes.io/component": "speaker"}},
                "spec": {"nodeName": "n3"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            },
        )
        assert (await view_of(bench)).heard == {"n1"}

    play(scene)


@pytest.mark.parametrize(
    "pod",
    [
        {},
        {"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"spec": {"nodeName": "n1"}, "status": {}},
        {"spec": {"nodeName": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
        {"spec": {"nodeName": "n1"}, "status": {"conditions": [{"type": "Initialized", "status": "True"}]}},
    ],
)
def test_a_pod_that_does_not_say_that_it_is_ready_speaks_for_no_node(pod):
    assert ready_on(pod) == ""


@pytest.mark.parametrize(("status", "level"), [(404, logging.INFO), (403, logging.WARNING)])
def test_what_is_absent_or_forbidden_is_as_if_there_were_none_and_told_once(status, level, caplog):
    async def scene(bench):
        populate(bench.fake)
        paths = ("/api/v1/namespaces", "/servicecidrs", "/endpointslices", "/pods")
        if status == 404:
            paths += ("/addresspools",)
        faults = [bench.fake.fail("GET", path, status=status) for path in paths]
        with caplog.at_level(logging.INFO):
            view = await view_of(bench)
            await view_of(bench)
        assert (view.pools, view.namespaces, view.service_networks, view.api_server_addresses) == ((), {}, (), ())
        assert view.heard is None
        told = [record for record in caplog.records if "cannot be read" in record.getMessage()]
        assert len(told) == len(paths)
        assert {record.levelno for record in told} == {level}
        for fault in faults:
            bench.fake.faults.remove(fault)
        assert (await view_of(bench)).heard == frozenset()

    play(scene)


@pytest.mark.parametrize("status", [503, 500, 403])
def test_an_api_server_that_does_not_tell_of_pools_is_no_cluster_without_pools(status):
    async def scene(bench):
        populate(bench.fake)
        bench.fake.fail("GET", "/addresspools", status=status)
        assert not await bench.once()
        assert bench.written() == []

    play(scene)


def test_that_there_was_a_pool_outlives_the_pool_and_the_operator():
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        assert POOLS_REQUIRED_ANNOTATION not in annotations(bench)
        assert not (await view_of(bench)).pools_ever
        bench.fake.put("addresspools", POOL)
        assert await bench.once()
        assert annotations(bench)[POOLS_REQUIRED_ANNOTATION] == "true"
        bench.fake.remove("addresspools", "edge")
        assert (await view_of(bench)).pools_ever
        bench.fake.put("nodes", {"metadata": {"name": "n3"}})
        assert await bench.once()
        assert annotations(bench, "n3")[POOLS_REQUIRED_ANNOTATION] == "true"
        bench.written()
        assert await bench.once()
        assert bench.written() == []
        # What remembers it goes, too.
        for name in ("n1", "n2", "n3"):
            bench.fake.remove("speakerconfigs", name)
        assert (await view_of(bench)).pools_ever
        await bench.settle()
        assert annotations(bench)[POOLS_REQUIRED_ANNOTATION] == "true"

    play(scene)


def test_the_addresses_that_services_have_inside_of_the_cluster_are_known():
    async def scene(bench):
        populate(bench.fake)
        for number, spec in enumerate(
            ({"clusterIPs": ["10.96.0.10", "fd00:10::a"]}, {"clusterIP": "10.96.0.1"}, {"clusterIP": "None"}, {})
        ):
            bench.fake.put("services", {"metadata": {"namespace": "shop", "name": f"s{number}"}, "spec": spec})
        assert (await view_of(bench)).service_addresses == ("10.96.0.1", "10.96.0.10", "fd00:10::a")

    play(scene)


def test_what_a_plan_looks_at_causes_one_and_the_rest_does_not():
    async def scene(fake):
        populate(fake)
        put_speaker_pod(fake, "n1")
        fake.put("addresspools", POOL)
        fake.put("namespaces", {"metadata": {"name": "shop"}})
        fake.put("servicecidrs", {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}})
        fake.put("endpointslices", SLICE)
        async with operator(fake, "a") as made:

            def seen(resource):
                return made.metrics.registry.get_sample_value(
                    "holdfast_operator_watch_events_total", {"resource": resource}
                )

            await until(lambda: fake.watch_count == WATCHES)
            before = {name: seen(name) for name in ("addresspools", "namespaces", "pods", "endpointslices")}
            assert set(before.values()) == {1}
            fake.set_status("addresspools", "edge", {"capacity": 16}, manager="somebody")
            fake.put("namespaces", {"metadata": {"name": "shop", "annotations": {"a": "b"}}})
            pod = fake.get("pods", "holdfast-system/speaker-n1")
            pod["status"]["conditions"].append({"type": "Initialized", "status": "True"})
            fake.put("pods", pod)
            # What comes later on the same watch is seen later: so the former was passed over.
            fake.put("addresspools", {**POOL, "spec": {"addresses": ["10.0.0.0/29"]}})
            fake.put("namespaces", {"metadata": {"name": "shop", "labels": {"tier": "front"}}})
            put_speaker_pod(fake, "n1", is_ready=False)
            fake.remove("endpointslices", "default/kubernetes")
            await until(lambda: all(seen(name) == 2 for name in before))

    async def run():
        async with FakeAPI() as fake:
            await scene(fake)

    asyncio.run(run())


def service(name, *, kind="LoadBalancer", **metadata):
    ports = [{"port": 80, "protocol": "TCP"}]
    return {"metadata": {"namespace": "shop", "name": name, **metadata}, "spec": {"type": kind, "ports": ports}}


FINALIZERS = ["service.kubernetes.io/load-balancer-cleanup"]


def test_services_are_seen_that_have_to_do_with_load_balancers_and_of_them_what_a_plan_looks_at():
    async def scene(bench):
        populate(bench.fake)
        tools = {"holdfast.dev/pool": "edge", "kubectl.kubernetes.io/last-applied-configuration": "{...}"}
        bench.fake.put("services", service("web", annotations=tools, managedFields=[{"manager": "kubectl"}]))
        bench.fake.put("services", service("inside", kind="ClusterIP"))
        bench.fake.put("services", service("was", kind="ClusterIP", finalizers=FINALIZERS))
        condition = {"type": "holdfast.dev/x", "status": "True", "reason": "R", "message": "", "lastTransitionTime": ""}
        told = {**service("told", kind="ClusterIP"), "status": {"loadBalancer": {}, "conditions": [condition]}}
        bench.fake.put("services", told)
        view = await view_of(bench)
        seen = {one["metadata"]["name"]: one for one in view.services}
        assert seen.keys() == {"web", "was", "told"}
        web = seen["web"]
        assert web["metadata"]["annotations"] == {"holdfast.dev/pool": "edge"}
        assert web["metadata"]["uid"] == bench.fake.get("services", "shop/web")["metadata"]["uid"]
        assert "managedFields" not in web["metadata"]
        assert web["spec"] == {"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}]}
        assert seen["was"]["metadata"]["finalizers"] == FINALIZERS
        assert seen["told"]["status"]["conditions"] == [condition]

    play(scene)


@pytest.mark.parametrize("status", [403, 404])
def test_where_services_cannot_be_read_they_are_none_of_ours(status):
    async def scene(bench):
        populate(bench.fake)
        assert (await view_of(bench)).services == []
        bench.fake.fail("GET", "/api/v1/services", status=status)
        assert (await view_of(bench)).services is None
        assert await bench.once()

    play(scene)


def test_services_that_are_not_to_be_looked_at_are_not_even_asked_for():
    async def scene(fake):
        populate(fake)
        fake.put("services", service("web"))
        async with operator(fake, "a", services=False):
            await until(lambda: fake.watch_count == WATCHES - 1 and fake.get("virtualips", "shop/web").get("status"))
        assert [request for request in fake.requests if request.path == "/api/v1/services"] == []

    async def run():
        async with FakeAPI() as fake:
            await scene(fake)

    asyncio.run(run())


def test_a_service_is_news_when_it_is_another_one_and_not_when_it_was_told_something():
    async def scene(fake):
        populate(fake)
        fake.put("services", service("inside", kind="ClusterIP"))
        async with operator(fake, "a") as made:

            def seen():
                return made.metrics.registry.get_sample_value(
                    "holdfast_operator_watch_events_total", {"resource": "services"}
                )

            await until(lambda: fake.watch_count == WATCHES)
            fake.put("services", service("inside", kind="ClusterIP", annotations={"holdfast.dev/pool": "edge"}))
            fake.put("services", service("web"))
            await until(lambda: seen() == 1)
            fake.put("services", service("web", finalizers=FINALIZERS, annotations={"a": "b"}))
            fake.set_status("services", "shop/web", {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}, manager="x")
            fake.put("services", service("web", annotations={"holdfast.dev/pool": "edge"}))
            await until(lambda: seen() == 2)
            fake.put("services", {**service("web", kind="ClusterIP", finalizers=[]), "status": {}})
            await until(lambda: seen() == 3)

    async def run():
        async with FakeAPI() as fake:
            await scene(fake)

    asyncio.run(run())
