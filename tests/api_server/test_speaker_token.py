"""What a speaker's token may write, and what its thief may not: asked of a real API server, with a pod's real token."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast_api.cluster import agent_field_manager
from holdfast_testing.api_server import STRATEGIC, Answer, Client, LocalAPIServer
from holdfast_testing.holdfast_objects import (
    NAMESPACE,
    OPERATOR,
    SPEAKER,
    SPEAKER_CONFIGS,
    Object,
    entry,
    speaker_config,
    virtual_ip,
    virtual_ip_status,
    virtual_ips,
)

WEB = f"{virtual_ips()}/web"
STATUS = f"{WEB}/status"
CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Held",
    "message": "n1 holds it",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
TOLD: Object = {"state": "Held", "holder": "n1", "moves": 2, "conditions": [CONDITION]}
"""What the operator has said of the VirtualIP."""


def speaker_of(server: LocalAPIServer, node: str) -> Client:
    """An agent on that node."""
    name = f"speaker-{node}"[:63].rstrip(".-")
    if server.admin.request("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}").status == 404:
        server.make_pod(NAMESPACE, name, SPEAKER, node)
    return server.client(server.service_account_token(NAMESPACE, SPEAKER, name))


@pytest.fixture(scope="module")
def n1(api_server: LocalAPIServer) -> Client:
    """The token of the speaker of node n1."""
    return speaker_of(api_server, "n1")


@pytest.fixture(scope="module")
def n2(api_server: LocalAPIServer) -> Client:
    return speaker_of(api_server, "n2")


@pytest.fixture
def web(api_server: LocalAPIServer, n1: Client, n2: Client) -> Iterator[str]:
    """A VirtualIP that the operator and two agents have said something about, as they do; the path of its status."""
    admin = api_server.admin
    admin.create(virtual_ips(), virtual_ip("web"))
    try:
        assert admin.apply(STATUS, virtual_ip_status("web", TOLD), OPERATOR).status == 200
        for node, agent in (("n1", n1), ("n2", n2)):
            assert say(agent, node).message == ""
        yield STATUS
    finally:
        admin.delete(WEB)


@pytest.fixture
def configs(api_server: LocalAPIServer) -> Iterator[str]:
    """The SpeakerConfigs of n1 and n2."""
    admin = api_server.admin
    for node in ("n1", "n2"):
        body = speaker_config(node, spec={"nodeName": node})
        assert admin.apply(f"{SPEAKER_CONFIGS}/{node}", body, OPERATOR).status < 300
    try:
        yield SPEAKER_CONFIGS
    finally:
        for node in ("n1", "n2"):
            admin.delete(f"{SPEAKER_CONFIGS}/{node}")


def say(agent: Client, node: str, manager: str = "", **fields: Any) -> Answer:
    """The agent of a node applies its entry."""
    body = virtual_ip_status("web", {"nodes": [entry(node, **fields)]})
    return agent.apply(STATUS, body, manager or agent_field_manager(node))


def applied(agent: Client, status: Object, manager: str = "holdfast-agent-n1") -> Answer:
    return agent.apply(STATUS, virtual_ip_status("web", status), manager)


def owners(server: LocalAPIServer) -> dict[str, Object]:
    """What each manager owns of the status."""
    managed = server.admin.get(WEB)["metadata"]["managedFields"]
    return {each["manager"]: each["fieldsV1"]["f:status"] for each in managed if each.get("subresource") == "status"}


# ----- what it may -----


def test_a_speaker_writes_the_entry_of_its_own_node(api_server: LocalAPIServer, n1: Client, web: str) -> None:
    assert say(n1, "n1", state="Master", message="news").message == ""
    nodes = api_server.admin.get(WEB)["status"]["nodes"]
    assert nodes == [entry("n1", state="Master", message="news"), entry("n2")]


def test_a_speaker_takes_its_entry_away(api_server: LocalAPIServer, n1: Client, web: str) -> None:
    assert applied(n1, {"nodes": []}).message == ""
    assert api_server.admin.get(WEB)["status"] == {**TOLD, "nodes": [entry("n2")]}


def test_a_speaker_writes_the_status_of_its_own_speaker_config(n1: Client, configs: str) -> None:
    body = speaker_config("n1", status={"observedGeneration": 1, "links": [{"name": "eth0"}]})
    assert n1.apply(f"{configs}/n1/status", body, "holdfast-agent-n1").message == ""
    body = speaker_config("n1", status={"observedGeneration": 2})
    assert n1.apply(f"{configs}/n1/status", body, "holdfast-agent-n1").message == ""
    assert n1.get(f"{configs}/n1")["status"] == {"observedGeneration": 2}


def test_a_speaker_takes_over_its_own_entry_from_who_wrote_it_by_hand(
    api_server: LocalAPIServer, n1: Client, web: str
) -> None:
    by_hand = {"status": {"nodes": [entry("n1", message="by hand"), entry("n2")]}}
    assert api_server.admin.merge(web, by_hand, "kubectl-edit").status == 200
    assert say(n1, "n1", message="news").message == ""


def test_a_speaker_of_a_node_with_a_very_long_name_writes_its_entry(api_server: LocalAPIServer, web: str) -> None:
    node = ".".join(["rack-12-of-a-data-centre-with-long-names"] * 5)
    agent = speaker_of(api_server, node)
    assert say(agent, node).message == ""
    assert say(agent, node, message="news").message == ""
    manager = agent_field_manager(node)
    another = manager[:-16] + "0123456789abcdef"
    assert "may use one field manager" in say(agent, node, another, message="news").message
    before = owners(api_server)
    for status in ({}, {"nodes": []}):
        applied(agent, status, another)
    assert owners(api_server) == before
    assert "must use its own" in say(agent, node, "holdfast-agent-" + "x" * 96 + "-0123456789abcdef").message


def test_with_as_many_entries_as_there_may_be_a_speaker_still_writes_its_own(
    api_server: LocalAPIServer, n1: Client, web: str
) -> None:
    long = {"message": "m" * 1024, "healthMessage": "h" * 1024}
    for number in range(3, 65):
        name = f"other-{number}"
        body = virtual_ip_status("web", {"nodes": [entry(name, **long)]})
        assert api_server.admin.apply(web, body, agent_field_manager(name)).status == 200
    assert say(n1, "n1", message="news").message == ""
    assert len(api_server.admin.get(WEB)["status"]["nodes"]) == 64
    assert applied(n1, {**TOLD, "nodes": [entry("n1")]}).status == 403


# ----- what it may not: others' words -----

NEWS = "news of a thief"
OTHERS: list[tuple[Object, str]] = [
    ({"nodes": [entry("n1"), entry("n2", message=NEWS)]}, "no entry of status.nodes but its own"),
    ({"nodes": [entry("n1"), entry("n3")]}, "no entry of status.nodes but its own"),
    ({"nodes": [entry("n1")], "holder": "n2"}, "nothing of a VirtualIP's status but its entry"),
    ({"nodes": [entry("n1")], "moves": 3}, "nothing of a VirtualIP's status but its entry"),
    ({"nodes": [entry("n1")], "conditions": [{**CONDITION, "status": "False"}]}, "nothing of a VirtualIP's status"),
]


@pytest.mark.parametrize(("status", "says"), OTHERS)
def test_a_speaker_cannot_write_what_others_say_by_server_side_apply(
    n1: Client, web: str, status: Object, says: str
) -> None:
    answer = applied(n1, status)
    assert answer.status == 403
    assert says in answer.message


@pytest.mark.parametrize(
    "status",
    [
        *(status for status, _ in OTHERS),
        {"nodes": [entry("n1")]},
        {"nodes": None},
        {"nodes": []},
        {"holder": None},
        {"conditions": None},
    ],
)
def test_a_speaker_cannot_write_or_remove_what_others_say_by_merge_patch(
    api_server: LocalAPIServer, n1: Client, web: str, status: Object
) -> None:
    before = api_server.admin.get(WEB)
    answer = n1.merge(web, {"status": status}, "holdfast-agent-n1")
    assert answer.status == 403, answer.message
    assert api_server.admin.get(WEB) == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/status/holder", "value": "n2"},
        {"op": "remove", "path": "/status/holder"},
        {"op": "remove", "path": "/status/nodes/1"},
        {"op": "replace", "path": "/status/nodes/1/state", "value": "Master"},
        {"op": "add", "path": "/status/nodes/-", "value": entry("n3")},
        {"op": "remove", "path": "/status"},
    ],
)
def test_a_speaker_cannot_write_what_others_say_by_json_patch(
    api_server: LocalAPIServer, n1: Client, web: str, operation: Object
) -> None:
    before = api_server.admin.get(WEB)
    answer = n1.json_patch(web, [operation], "holdfast-agent-n1")
    assert answer.status == 403, answer.message
    assert api_server.admin.get(WEB) == before


def test_a_speaker_cannot_patch_strategically_or_put_or_post(api_server: LocalAPIServer, n1: Client, web: str) -> None:
    stored = api_server.admin.get(WEB)
    body = {"status": {"nodes": [entry("n1")]}}
    assert n1.request("PATCH", web, body, content_type=STRATEGIC).status == 415
    assert n1.request("PUT", web, stored).status == 403
    assert n1.request("POST", web, stored).status in (403, 405)
    assert api_server.admin.get(WEB) == stored


# ----- what it may not: to own what is not its own -----


@pytest.mark.parametrize(
    "status",
    [
        {"nodes": [entry("n1")], "holder": "n1"},
        {"nodes": [entry("n1")], "state": "Held"},
        {"nodes": [entry("n1")], "moves": 2},
        {"nodes": [entry("n1")], "conditions": [CONDITION]},
        {"nodes": [entry("n1"), entry("n2")]},
        {
            "nodes": [
                entry("n1"),
                {
                    "nodeName": "n2",
                    "state": "Backup",
                    "since": entry("n2")["since"],
                    "priority": 100,
                    "health": "Healthy",
                },
            ]
        },
        {"holder": "n1"},
        {"nodes": [entry("n2")]},
    ],
)
def test_a_speaker_cannot_own_what_others_said_by_applying_the_same(
    api_server: LocalAPIServer, n1: Client, web: str, status: Object
) -> None:
    before = api_server.admin.get(WEB)
    answer = applied(n1, status)
    assert answer.status == 403, answer.message
    assert api_server.admin.get(WEB) == before


def test_so_what_the_operator_leaves_out_goes(api_server: LocalAPIServer, n1: Client, web: str) -> None:
    applied(n1, {"nodes": [entry("n1")], "holder": "n1"})
    api_server.admin.apply(web, virtual_ip_status("web", {"state": "Unheld"}), OPERATOR)
    assert "holder" not in api_server.admin.get(WEB)["status"]


@pytest.mark.parametrize(
    "manager", ["", "thief", "holdfast-operator", "holdfast-agent-n2", "holdfast-agent-n1x", "holdfast-agent-"]
)
def test_a_speaker_cannot_use_another_field_manager(
    api_server: LocalAPIServer, n1: Client, web: str, manager: str
) -> None:
    before = owners(api_server)
    news = {"nodes": [entry("n1", message=NEWS)]}
    answers = [n1.merge(web, {"status": {**news, "nodes": [*news["nodes"], entry("n2")]}}, manager)]
    if manager:
        answers.append(applied(n1, news, manager))
        answers.append(n1.apply(web, virtual_ip_status("web", news), manager, force=False))
    for answer in answers:
        assert answer.status in (403, 409), answer.message
    assert owners(api_server) == before


def test_managed_fields_do_not_grow_whatever_a_speaker_sends(api_server: LocalAPIServer, n1: Client, web: str) -> None:
    before = set(owners(api_server))
    for number in range(20):
        say(n1, "n1", f"thief-{number}", message=str(number))
        applied(n1, {}, f"thief-{number}")
        applied(n1, {"nodes": []}, f"thief-{number}")
        n1.merge(web, {"status": {"nodes": [entry("n1", message=str(number)), entry("n2")]}}, f"thief-{number}")
        n1.merge(web, {"status": {"nodes": [entry("n1", message=str(number)), entry("n2")]}}, "holdfast-agent-n1")
    assert set(owners(api_server)) == before
    managed = api_server.admin.get(WEB)["metadata"]["managedFields"]
    assert len(managed) == len({each["manager"] for each in managed})


@pytest.mark.parametrize("managed", [[], [{}], None])
def test_a_speaker_cannot_forget_who_owns_what(
    api_server: LocalAPIServer, n1: Client, web: str, managed: object
) -> None:
    before = owners(api_server)
    for status in ({}, {"status": {"nodes": [entry("n1", message=NEWS), entry("n2")]}}):
        n1.merge(web, {"metadata": {"managedFields": managed}, **status}, "holdfast-agent-n1")
        n1.json_patch(web, [{"op": "add", "path": "/metadata/managedFields", "value": managed}], "holdfast-agent-n1")
    assert owners(api_server) == before


def test_a_speaker_cannot_rewrite_who_owns_what(api_server: LocalAPIServer, n1: Client, web: str) -> None:
    before = owners(api_server)
    stored = api_server.admin.get(WEB)["metadata"]["managedFields"]
    for index, field in itertools.product(range(len(stored)), ("manager", "fieldsV1")):
        value = {"f:status": {"f:holder": {}}} if field == "fieldsV1" else "holdfast-agent-n1"
        operation = {"op": "replace", "path": f"/metadata/managedFields/{index}/{field}", "value": value}
        n1.json_patch(web, [operation], "holdfast-agent-n1")
    one = {**stored[0], "manager": "thief", "subresource": "status", "fieldsV1": {"f:status": {"f:holder": {}}}}
    n1.json_patch(web, [{"op": "add", "path": "/metadata/managedFields/-", "value": one}], "holdfast-agent-n1")
    n1.merge(web, {"metadata": {"managedFields": [*stored, one]}}, "holdfast-agent-n1")
    assert owners(api_server) == before


# ----- what it may not: other objects, and anything but status -----


def test_a_speaker_cannot_write_the_status_of_another_speaker_config(n1: Client, configs: str) -> None:
    answer = n1.apply(f"{configs}/n2/status", speaker_config("n2", status={"warnings": ["x"]}), "holdfast-agent-n1")
    assert answer.status == 403
    assert "no SpeakerConfig but its own" in answer.message
    assert "status" not in n1.get(f"{configs}/n2")


def test_a_speaker_cannot_write_what_it_runs(api_server: LocalAPIServer, n1: Client, configs: str) -> None:
    before = api_server.admin.get(f"{configs}/n1")
    routers = [{"name": "default/web", "addresses": ["192.0.2.1/32"], "virtualRouterID": 7}]
    body = speaker_config("n1", spec={"nodeName": "n1", "virtualRouters": routers})
    for path in (f"{configs}/n1", f"{configs}/n1/status"):
        n1.apply(path, body, "holdfast-agent-n1")
        n1.merge(path, {"spec": {"virtualRouters": routers}}, "holdfast-agent-n1")
        n1.merge(
            path, {"metadata": {"annotations": {"holdfast.dev/x": "y"}, "labels": {"a": "b"}}}, "holdfast-agent-n1"
        )
        n1.request("PUT", path, {**before, "spec": body["spec"]})
    assert n1.request("POST", configs, speaker_config("n9", spec={"nodeName": "n9"})).status == 403
    assert n1.request("DELETE", f"{configs}/n1").status == 403
    after = api_server.admin.get(f"{configs}/n1")
    assert after["spec"] == before["spec"]
    assert after["metadata"].get("labels") == before["metadata"].get("labels")
    assert after["metadata"].get("annotations") == before["metadata"].get("annotations")


def test_a_speaker_cannot_write_a_virtual_ip(api_server: LocalAPIServer, n1: Client, web: str) -> None:
    before = api_server.admin.get(WEB)
    for path in (WEB, web):
        n1.merge(path, {"spec": {"priority": 200}}, "holdfast-agent-n1")
        n1.merge(path, {"metadata": {"labels": {"a": "b"}, "finalizers": ["x/y"]}}, "holdfast-agent-n1")
        n1.request("PUT", path, {**before, "spec": {"addresses": ["192.0.2.9/32"]}})
    n1.merge(f"{WEB}/scale", {"spec": {"replicas": 0}}, "holdfast-agent-n1")
    assert n1.request("POST", virtual_ips(), virtual_ip("another")).status == 403
    assert n1.request("DELETE", WEB).status == 403
    assert n1.request("DELETE", virtual_ips()).status == 403
    after = api_server.admin.get(WEB)
    assert {key: after[key] for key in ("spec", "status")} == {key: before[key] for key in ("spec", "status")}
    assert "labels" not in after["metadata"]
    assert "finalizers" not in after["metadata"]


def test_whatever_rbac_may_let_it_write_one_day_the_policy_refuses(
    api_server: LocalAPIServer, n1: Client, web: str
) -> None:
    roles = "/apis/rbac.authorization.k8s.io/v1"
    everything = {
        "metadata": {"name": "too-much"},
        "rules": [{"apiGroups": ["holdfast.dev"], "resources": ["*"], "verbs": ["*"]}],
    }
    binding = {
        "metadata": {"name": "too-much"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "too-much"},
        "subjects": [{"kind": "ServiceAccount", "name": SPEAKER, "namespace": NAMESPACE}],
    }
    api_server.admin.create(f"{roles}/clusterroles", everything)
    api_server.admin.create(f"{roles}/clusterrolebindings", binding)
    try:
        api_server.wait_for(
            lambda: "may write nothing but the status" in n1.request("DELETE", WEB).message, "the policy's refusal"
        )
        answers = [
            n1.request("POST", virtual_ips(), virtual_ip("another")),
            n1.request("PUT", WEB, api_server.admin.get(WEB)),
            n1.merge(WEB, {"spec": {"priority": 200}}, "holdfast-agent-n1"),
            n1.request("POST", SPEAKER_CONFIGS, speaker_config("n9", spec={"nodeName": "n9"})),
        ]
        for answer in answers:
            assert answer.status == 403
            assert "may write nothing but the status" in answer.message
        put = n1.request(
            "PUT", web, {**api_server.admin.get(WEB), "status": {}}, query={"fieldManager": "holdfast-agent-n1"}
        )
        assert put.status == 403
    finally:
        api_server.admin.delete(f"{roles}/clusterrolebindings/too-much")
        api_server.admin.delete(f"{roles}/clusterroles/too-much")


def test_a_token_that_is_bound_to_no_pod_writes_nothing(api_server: LocalAPIServer, web: str) -> None:
    unbound = api_server.client(api_server.service_account_token(NAMESPACE, SPEAKER))
    answer = say(unbound, "n1")
    assert answer.status == 403
    assert "bound to its pod" in answer.message


def test_the_token_of_a_pod_that_is_gone_opens_nothing(api_server: LocalAPIServer, web: str) -> None:
    api_server.make_pod(NAMESPACE, "short", SPEAKER, "n1")
    token = api_server.client(api_server.service_account_token(NAMESPACE, SPEAKER, "short"))
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/short"
    api_server.admin.request("DELETE", path, {"gracePeriodSeconds": 0})
    api_server.wait_for(lambda: token.request("GET", WEB).status == 401, "the token is refused")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/secrets",
        "/api/v1/configmaps",
        "/api/v1/nodes",
        "/api/v1/services",
        "/apis/apps/v1/daemonsets",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/coordination.k8s.io/v1/leases",
    ],
)
def test_a_speaker_cannot_read_anything_else(n1: Client, path: str) -> None:
    assert n1.request("GET", path).status == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "x"}}),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{OPERATOR}/token", {"spec": {}}),
        ("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/speaker-n2", None),
        ("PATCH", "/api/v1/nodes/n1", {"metadata": {"labels": {"a": "b"}}}),
        ("POST", "/apis/events.k8s.io/v1/namespaces/default/events", {"metadata": {"name": "x"}}),
    ],
)
def test_a_speaker_cannot_write_anything_else(n1: Client, n2: Client, method: str, path: str, body: object) -> None:
    content = "application/merge-patch+json" if method == "PATCH" else "application/json"
    assert n1.request(method, path, body, content_type=content).status == 403


# ----- what it may not: to say what nobody can read -----


@pytest.mark.parametrize(
    "since",
    [
        "2026-01-01T00:00:00." + "1" * 45 + "Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T00:00:00+23:59",
        "2026-01-01T00:00:60Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01t00:00:00z",
        "2026-01-01 00:00:00Z",
        "now",
        "",
    ],
)
def test_a_speaker_cannot_say_since_when_in_words_that_cannot_be_read(n1: Client, web: str, since: str) -> None:
    answer = say(n1, "n1", since=since)
    assert answer.status == 422, answer.message
    assert "since" in answer.message


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": "Sabotage"},
        {"state": "Emperor"},
        {"health": "Splendid"},
        {"obstacles": ["Sabotage"]},
        {"obstacles": ["LinkDown"] * 17},
        {"priority": 256},
        {"priority": -1},
        {"silentMilliseconds": -1},
        {"message": "m" * 1025},
        {"healthMessage": "m" * 1025},
        {"interface": "i" * 16},
    ],
)
def test_a_speaker_cannot_say_what_the_schema_does_not_know(n1: Client, web: str, fields: Object) -> None:
    answer = say(n1, "n1", **fields)
    assert answer.status in (422, 500), answer.message
    assert next(iter(fields)) in answer.message


@pytest.mark.parametrize(
    "status",
    [
        {"warnings": ["x"] * 33},
        {"warnings": ["x" * 1025]},
        {"links": [{"name": f"eth{number}"} for number in range(65)]},
        {"links": [{"name": "eth0", "addresses": ["192.0.2.1/24"] * 65}]},
        {"links": [{"name": "eth0", "foreignVirtualRouterIDs": [7] * 256}]},
        {"conditions": [{**CONDITION, "type": f"Type{number}"} for number in range(9)]},
        {"engineVersion": "v" * 65},
        {"virtualRouters": [{"name": f"a/v{number}", "virtualRouterID": 7} for number in range(1001)]},
        {"virtualRouters": [{"name": "n" * 318, "virtualRouterID": 7}]},
        {"plannedFrom": "u" * 65},
    ],
)
def test_a_speaker_cannot_fill_its_speaker_config_without_end(n1: Client, configs: str, status: Object) -> None:
    answer = n1.apply(f"{configs}/n1/status", speaker_config("n1", status=status), "holdfast-agent-n1")
    assert answer.status == 422, answer.message
