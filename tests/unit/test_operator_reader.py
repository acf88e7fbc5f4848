"""What the planner is shown."""

from __future__ import annotations

import pytest

from holdfast_api.errors import EnvironmentFailure
from holdfast_kube.api_server import APIFailure
from holdfast_operator.planner.cluster.view import ClusterRules
from holdfast_operator.reader import node_view
from holdfast_testing.operator_world import play, populate, put_virtual_ip


def node(spec=None, **status):
    return {"metadata": {"name": "n1", "labels": {"edge": "true"}}, "spec": spec or {}, "status": status}


def taint(key, effect):
    return {"taints": [{"key": key, "effect": effect}]}


def test_a_node_has_its_name_its_labels_and_its_internal_addresses():
    addresses = [
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "Hostname", "address": "n1"},
        {"type": "InternalIP", "address": "fd00::1"},
    ]
    view = node_view(node(addresses=addresses))
    assert (view.name, view.labels, view.internal_addresses) == ("n1", {"edge": "true"}, ("10.0.0.1", "fd00::1"))
    assert not view.is_cordoned


@pytest.mark.parametrize(
    ("spec", "is_cordoned"),
    [
        ({"unschedulable": True}, True),
        (taint("maintenance", "NoExecute"), True),
        (taint("node.kubernetes.io/out-of-service", "NoExecute"), True),
        (taint("node-role.kubernetes.io/control-plane", "NoSchedule"), False),
        (taint("dedicated", "PreferNoSchedule"), False),
        (taint("ToBeDeletedByClusterAutoscaler", "NoSchedule"), True),
        (taint("DeletionCandidateOfClusterAutoscaler", "PreferNoSchedule"), False),
        (taint("karpenter.sh/disrupted", "NoSchedule"), True),
        (taint("karpenter.sh/disruption", "NoSchedule"), True),
        (taint("node.cloudprovider.kubernetes.io/shutdown", "NoSchedule"), True),
        # Whether a node that the control plane does not hear goes on holding is for the protocol to decide.
        (taint("node.kubernetes.io/not-ready", "NoExecute"), False),
        (taint("node.kubernetes.io/unreachable", "NoExecute"), False),
    ],
)
def test_what_empties_a_node_makes_it_cordoned(spec, is_cordoned):
    assert node_view(node(spec)).is_cordoned is is_cordoned


@pytest.mark.parametrize(
    ("conditions", "is_ready"),
    [
        ([{"type": "Ready", "status": "True"}], True),
        ([{"type": "Ready", "status": "False"}], False),
        ([{"type": "Ready", "status": "Unknown"}], False),
        ([{"type": "MemoryPressure", "status": "True"}], False),
        ([], False),
    ],
)
def test_a_node_is_ready_when_the_control_plane_says_so(conditions, is_ready):
    assert node_view(node(conditions=conditions)).is_ready is is_ready


def test_every_object_is_there_by_its_name():
    async def scene(bench):
        populate(bench.fake, ("shop/web", "blog/web"))
        await bench.once()
        cluster = await bench.reader.read()
        assert cluster.virtual_ips.keys() == {"shop/web", "blog/web"}
        view = cluster.view(ClusterRules())
        assert view.speakers.keys() == {"n1", "n2"}
        assert view.speakers["n1"].metadata.generation == 1
        assert [node.name for node in view.nodes] == ["n1", "n2"]

    play(scene)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 500}, "GET /api/v1/nodes: fault"),
        ({"status": 403}, "GET /api/v1/nodes: fault"),
        ({"drop": True}, "GET /api/v1/nodes: the API server cannot be reached"),
    ],
)
def test_a_list_that_fails_says_which(fault, words):
    async def scene(bench):
        populate(bench.fake)
        bench.fake.fail("GET", "/api/v1/nodes", **fault)
        with pytest.raises(APIFailure, match=words):
            await bench.reader.read()

    play(scene)


def test_what_one_agent_says_holds_up_nobody():
    """Of the status that can be read is read; only a specification of another version holds everything."""

    async def scene(bench):
        populate(bench.fake)
        await bench.once()
        conditions = [{"type": "Applied", "status": "Perhaps", "reason": "R", "message": "", "lastTransitionTime": ""}]
        links = [{"name": "eth0", "addresses": ["10.0.0.9/24"]}, {"name": "far too long for an interface"}, "nonsense"]
        told = {"observedGeneration": 1, "links": links, "conditions": conditions, "engineVersion": ["2"]}
        bench.fake.set_status("speakerconfigs", "n1", told, manager="holdfast-agent-n1")
        status = (await bench.reader.read()).view(ClusterRules()).speakers["n1"].status
        assert status.observed_generation == 1
        assert [link.name for link in status.links] == ["eth0"]
        assert (status.conditions, status.engine_version) == ([], "")

    play(scene)


def test_an_api_server_that_went_back_to_a_backup_ends_the_process():
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        backup = bench.fake.back_up()
        put_virtual_ip(bench.fake, "shop/mail")
        await bench.once()
        bench.fake.restore(backup)
        with pytest.raises(EnvironmentFailure, match="gone back to an earlier state"):
            await bench.reader.read()

    play(scene)
