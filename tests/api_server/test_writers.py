"""What operator and agents write, as they write it, on a real API server: who owns it, and what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast_api.cluster import SpeakerConfigSpec, VirtualIPState, VirtualIPStatus, agent_field_manager
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_kube.api_server import APIServer, load_configuration
from holdfast_operator.metrics import Metrics
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_operator.process import PATIENCE
from holdfast_operator.reader import Reader
from holdfast_operator.surroundings import speaker_pods
from holdfast_operator.writer import Writer as OperatorsWriter
from holdfast_speaker.agent.ledger import Ledger
from holdfast_speaker.agent.writer import Writer as AgentsWriter
from holdfast_speaker.agent.writer import virtual_ip_form
from holdfast_testing.api_server import Client, LocalAPIServer
from holdfast_testing.holdfast_objects import (
    NAMESPACE,
    OPERATOR,
    SPEAKER,
    SPEAKER_CONFIGS,
    Object,
    entry,
    virtual_ip,
    virtual_ip_status,
    virtual_ips,
)

WEB = f"{virtual_ips()}/written"
KEY = "default/written"
SPEAKER_PODS = "app.kubernetes.io/component=speaker"
NODE = "n1"
HELD = VirtualIPStatus(state=VirtualIPState.HELD, holder="n1", moves=3, last_move="2026-01-01T00:00:00.000Z")
UNHELD = VirtualIPStatus(state=VirtualIPState.UNHELD)

Scene = Callable[[APIServer], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture
def web(api_server: LocalAPIServer) -> Iterator[Client]:
    """A VirtualIP; the administrator."""
    api_server.admin.create(virtual_ips(), virtual_ip("written"))
    yield api_server.admin
    api_server.admin.delete(WEB)


def with_token(server: LocalAPIServer, token: str, kubeconfig: Path) -> Play:
    """Runs a scene with the client that operator and agents have, and that token."""
    kubeconfig.write_text(server.kubeconfig(token), encoding="utf-8")

    def play(scene: Scene) -> None:
        async def run() -> None:
            async with APIServer(await load_configuration(str(kubeconfig)), "holdfast-operator/test", PATIENCE) as api:
                await scene(api)

        asyncio.run(run())

    return play


@pytest.fixture
def operator(api_server: LocalAPIServer, tmp_path: Path) -> Play:
    """With the operator's token."""
    return with_token(api_server, api_server.service_account_token(NAMESPACE, OPERATOR), tmp_path / "operator")


@pytest.fixture
def agent(api_server: LocalAPIServer, tmp_path: Path) -> Play:
    """With the token of the speaker on n1."""
    if api_server.admin.request("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/writes").status == 404:
        api_server.make_pod(NAMESPACE, "writes", SPEAKER, NODE)
    return with_token(api_server, api_server.service_account_token(NAMESPACE, SPEAKER, "writes"), tmp_path / "agent")


def tell(status: VirtualIPStatus, departed: tuple[str, ...] = ()) -> Scene:
    """The operator writes this, and takes away what those nodes have said."""

    async def scene(api: APIServer) -> None:
        plan = ClusterPlan(speakers={}, statuses={KEY: status}, departed={KEY: departed}, notices=[])
        cluster = await Reader(api, speaker_pods(NAMESPACE, SPEAKER_PODS)).read()
        writer = OperatorsWriter(api, lambda: True, Metrics())
        await writer.configure(plan, cluster, {"n1"})
        assert await writer.say(plan, cluster) == frozenset()

    return scene


def owners(admin: Client) -> dict[str, Object]:
    """What each manager owns of the status."""
    managed = admin.get(WEB)["metadata"]["managedFields"]
    return {each["manager"]: each["fieldsV1"]["f:status"] for each in managed if each.get("subresource") == "status"}


def status_of(admin: Client) -> Object:
    found: Object = admin.get(WEB)["status"]
    return found


def test_the_operators_token_reads_all_that_a_plan_is_made_of(
    api_server: LocalAPIServer, operator: Play, caplog: pytest.LogCaptureFixture
) -> None:
    """What is forbidden is passed over with a warning: nobody would miss a right that the chart forgot."""

    async def scene(api: APIServer) -> None:
        await Reader(api, speaker_pods(NAMESPACE, SPEAKER_PODS)).read()

    operator(scene)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("holdfast")] == []


def test_what_the_operator_says_no_more_is_gone(web: Client, operator: Play) -> None:
    operator(tell(HELD))
    assert status_of(web)["holder"] == "n1"
    operator(tell(UNHELD))
    assert status_of(web) == {"state": "Unheld", "moves": 0}


def test_what_the_operator_says_no_more_is_gone_though_somebody_else_owns_it_too(web: Client, operator: Play) -> None:
    operator(tell(HELD))
    condition = {
        "type": "Haunted",
        "status": "True",
        "reason": "ByHand",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    # As a speaker of the first release could, and as `kubectl edit --subresource=status` does.
    same = {**msgspec.to_builtins(HELD), "conditions": [condition]}
    assert web.apply(f"{WEB}/status", virtual_ip_status("written", same), "thief").message == ""
    operator(tell(UNHELD))
    assert status_of(web) == {"state": "Unheld", "moves": 0}


def test_a_status_that_is_told_is_not_written_again(web: Client, operator: Play) -> None:
    operator(tell(HELD))
    version = web.get(WEB)["metadata"]["resourceVersion"]
    operator(tell(HELD))
    assert web.get(WEB)["metadata"]["resourceVersion"] == version


def test_a_configuration_that_somebody_edited_by_hand_is_put_right(
    api_server: LocalAPIServer, web: Client, operator: Play
) -> None:
    path = f"{SPEAKER_CONFIGS}/n1"
    assert web.request("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}}).status in (201, 409)
    routers = [
        VirtualRouterConfiguration(name=f"default/{name}", addresses=[address], virtual_router_id=number)
        for number, (name, address) in enumerate({"a": "192.0.2.1/32", "b": "192.0.2.2/32"}.items(), start=1)
    ]
    spec = SpeakerConfigSpec(node_name="n1", virtual_routers=routers)

    async def write(api: APIServer) -> None:
        cluster = await Reader(api, speaker_pods(NAMESPACE, SPEAKER_PODS)).read()
        plan = ClusterPlan(speakers={"n1": spec}, statuses={}, departed={}, notices=[])
        writer = OperatorsWriter(api, lambda: True, Metrics())
        await writer.configure(plan, cluster, {"n1"})
        assert await writer.say(plan, cluster) == frozenset()

    operator(write)
    right = web.get(path)["spec"]
    try:
        mine = {"name": "default/mine", "addresses": ["192.0.2.9/32"], "virtualRouterID": 9}
        first = {**right["virtualRouters"][0], "draining": True, "priority": 60}
        by_hand = {"virtualRouters": [mine, first, right["virtualRouters"][1]], "nodeAddresses": ["192.0.2.7"]}
        by_hand["tracking"] = [{"virtualIP": "default/mine"}]
        assert web.merge(path, {"spec": by_hand}, "kubectl-edit").message == ""
        operator(write)
        assert web.get(path)["spec"] == right
    finally:
        web.delete(path)


def test_what_the_operator_says_leaves_the_agents_entries_alone(web: Client, operator: Play) -> None:
    body = virtual_ip_status("written", {"nodes": [entry("n1"), entry("n2")]})
    assert web.apply(f"{WEB}/status", body, "agents").message == ""
    for status in (HELD, UNHELD, HELD):
        operator(tell(status))
        assert status_of(web)["nodes"] == [entry("n1"), entry("n2")]


def test_the_entries_of_departed_nodes_go_whoever_owns_them(web: Client, operator: Play) -> None:
    for node in ("n1", "n2", "n3", "n4"):
        body = virtual_ip_status("written", {"nodes": [entry(node)]})
        assert web.apply(f"{WEB}/status", body, agent_field_manager(node)).message == ""
    shared = virtual_ip_status("written", {"nodes": [entry("n1"), entry("n3")]})
    assert web.apply(f"{WEB}/status", shared, "somebody").message == ""
    operator(tell(HELD, departed=("n1", "n3")))
    assert status_of(web)["nodes"] == [entry("n2"), entry("n4")]
    assert set(owners(web)) == {OPERATOR, "holdfast-agent-n2", "holdfast-agent-n4"}


def test_managed_fields_are_as_they_were_after_fifty_nodes_came_and_went(web: Client, operator: Play) -> None:
    operator(tell(HELD))
    before = owners(web)
    for number in range(50):
        node = f"came-and-went-{number}"
        body = virtual_ip_status("written", {"nodes": [entry(node)]})
        assert web.apply(f"{WEB}/status", body, agent_field_manager(node)).message == ""
        if number % 10 == 9:
            operator(tell(HELD, departed=tuple(f"came-and-went-{one}" for one in range(number + 1))))
    assert owners(web) == before
    assert "nodes" not in status_of(web) or status_of(web)["nodes"] == []


def test_an_agents_entry_comes_and_goes_and_leaves_nobody_behind(web: Client, operator: Play, agent: Play) -> None:
    operator(tell(HELD))
    before = owners(web)

    async def scene(api: APIServer) -> None:
        ledger = Ledger((), asyncio.get_running_loop().time)
        writer = AgentsWriter(api, NODE, ledger, virtual_ip_form(NODE))
        ledger.see(KEY, "1", None)
        for fields in (entry(NODE), entry(NODE, state="Master", obstacles=[]), None):
            ledger.want(KEY, fields)
            assert await writer.write_all()
            assert ledger.there(KEY) == fields
        assert writer.results == {"applied": 3}

    agent(scene)
    assert owners(web) == before


def test_an_agent_writes_when_nobody_has_said_anything_yet(web: Client, agent: Play) -> None:
    async def scene(api: APIServer) -> None:
        ledger = Ledger((), asyncio.get_running_loop().time)
        writer = AgentsWriter(api, NODE, ledger, virtual_ip_form(NODE))
        ledger.see(KEY, "1", None)
        for fields in (entry(NODE), None, entry(NODE)):
            ledger.want(KEY, fields)
            assert await writer.write_all()
        assert writer.results == {"applied": 3}

    agent(scene)
    assert status_of(web)["nodes"] == [entry(NODE)]


def test_an_agent_that_one_virtual_ip_forbids_to_write_writes_the_others(web: Client, agent: Play) -> None:
    policies = "/apis/admissionregistration.k8s.io/v1"
    policy = {
        "metadata": {"name": "hostile"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["holdfast.dev"],
                        "apiVersions": ["*"],
                        "operations": ["UPDATE"],
                        "resources": ["virtualips/status"],
                    }
                ]
            },
            "validations": [{"expression": "object.metadata.name != 'hostile'", "reason": "Forbidden"}],
        },
    }
    binding = {"metadata": {"name": "hostile"}, "spec": {"policyName": "hostile", "validationActions": ["Deny"]}}
    web.create(virtual_ips(), virtual_ip("hostile"))
    web.create(f"{policies}/validatingadmissionpolicies", policy)
    web.create(f"{policies}/validatingadmissionpolicybindings", binding)

    async def scene(api: APIServer) -> None:
        ledger = Ledger((), asyncio.get_running_loop().time)
        writer = AgentsWriter(api, NODE, ledger, virtual_ip_form(NODE))
        for key in ("default/hostile", KEY):
            ledger.see(key, "1", None)
            ledger.want(key, entry(NODE))
        while not writer.results["failed"]:  # until the policy is in force
            ledger.see_gone("default/hostile")
            ledger.see("default/hostile", "1", None)
            ledger.want("default/hostile", entry(NODE, message=str(writer.results.total())))
            await writer.write_all()
        assert ledger.there(KEY) == entry(NODE)
        assert ledger.due() == []

    try:
        agent(scene)
    finally:
        web.delete(f"{policies}/validatingadmissionpolicybindings/hostile")
        web.delete(f"{policies}/validatingadmissionpolicies/hostile")
        web.delete(f"{virtual_ips()}/hostile")
    assert status_of(web)["nodes"] == [entry(NODE)]
