"""What the operator's token may do, and what its thief may not: RBAC, asked of a real API server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast_testing.api_server import JSON, MERGE, Client, LocalAPIServer
from holdfast_testing.holdfast_objects import (
    API,
    NAMESPACE,
    OPERATOR,
    SPEAKER,
    SPEAKER_CONFIGS,
    entry,
    speaker_config,
    virtual_ip,
    virtual_ip_status,
    virtual_ips,
)

WEB = f"{virtual_ips()}/planned"
ROLES = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
def operator(api_server: LocalAPIServer) -> Client:
    return api_server.client(api_server.service_account_token(NAMESPACE, OPERATOR))


@pytest.fixture
def web(api_server: LocalAPIServer) -> Iterator[str]:
    """A VirtualIP's path."""
    api_server.admin.create(virtual_ips(), virtual_ip("planned"))
    yield WEB
    api_server.admin.delete(WEB)


def test_the_operator_writes_statuses_and_what_nodes_run(operator: Client, web: str) -> None:
    assert operator.apply(f"{web}/status", virtual_ip_status("planned", {"state": "Held"}), OPERATOR).message == ""
    try:
        body = speaker_config("n1", spec={"nodeName": "n1"})
        assert operator.apply(f"{SPEAKER_CONFIGS}/n1", body, OPERATOR).message == ""
    finally:
        operator.delete(f"{SPEAKER_CONFIGS}/n1")


def test_the_operator_cannot_write_what_users_want(api_server: LocalAPIServer, operator: Client, web: str) -> None:
    before = api_server.admin.get(web)
    answers = [
        operator.apply(web, virtual_ip("planned", priority=200), OPERATOR),
        operator.merge(web, {"spec": {"priority": 200}}, OPERATOR),
        operator.request("PUT", web, {**before, "spec": {"addresses": ["192.0.2.9/32"]}}),
        operator.request("POST", virtual_ips(), virtual_ip("another")),
        operator.request("DELETE", web),
    ]
    assert [answer.status for answer in answers] == [403] * len(answers)
    # Through the status nothing else is written, whatever the patch has.
    operator.merge(f"{web}/status", {"spec": {"priority": 200}, "metadata": {"labels": {"a": "b"}}}, OPERATOR)
    after = api_server.admin.get(web)
    assert after["spec"] == before["spec"]
    assert "labels" not in after["metadata"]


def test_the_operator_cannot_write_who_may_have_which_addresses(api_server: LocalAPIServer, operator: Client) -> None:
    path = f"{API}/addresspools"
    pool = {
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "AddressPool",
        "metadata": {"name": "office"},
        "spec": {"addresses": ["192.0.2.0/28"], "namespaces": {"names": ["shop"]}},
    }
    before = api_server.admin.create(path, pool)
    wider = {"addresses": ["0.0.0.0/0"]}
    try:
        answers = [
            operator.apply(f"{path}/office", {**pool, "spec": wider}, OPERATOR),
            operator.merge(f"{path}/office", {"spec": wider}, OPERATOR),
            operator.request("PUT", f"{path}/office", {**before, "spec": wider}),
            operator.request("POST", path, {**pool, "metadata": {"name": "mine"}, "spec": wider}),
            operator.request("DELETE", f"{path}/office"),
        ]
        assert [answer.status for answer in answers] == [403] * len(answers)
        told = operator.merge(f"{path}/office/status", {"status": {"capacity": 14}, "spec": wider}, OPERATOR)
        assert told.status == 200
        after = api_server.admin.get(f"{path}/office")
        assert after["status"]["capacity"] == 14
        assert after["spec"] == before["spec"]
    finally:
        api_server.admin.delete(f"{path}/office")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/secrets", None),
        ("GET", "/api/v1/configmaps", None),
        ("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "x"}}),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", {"metadata": {"name": "x"}}),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{SPEAKER}/token", {"spec": {}}),
        ("PATCH", "/api/v1/nodes/n1", {"metadata": {"labels": {"a": "b"}}}),
        ("PATCH", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{SPEAKER}", {"spec": {"paused": True}}),
        ("PATCH", f"{ROLES}/clusterroles/{OPERATOR}", {"rules": []}),
        ("PATCH", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualips.holdfast.dev", {"spec": {}}),
        ("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualips.holdfast.dev", None),
        ("DELETE", f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{SPEAKER}", None),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", None),
    ],
)
def test_the_operator_cannot_do_anything_else(operator: Client, method: str, path: str, body: object) -> None:
    answer = operator.request(method, path, body, content_type=MERGE if method == "PATCH" else JSON)
    assert answer.status == 403, answer.message


def test_the_operator_takes_the_entry_of_a_departed_node_away(
    api_server: LocalAPIServer, operator: Client, web: str
) -> None:
    body = virtual_ip_status("planned", {"nodes": [entry("n1")]})
    assert api_server.admin.apply(f"{web}/status", body, "holdfast-agent-n1").status == 200
    patch = [
        {"op": "test", "path": "/status/nodes/0", "value": entry("n1")},
        {"op": "remove", "path": "/status/nodes/0"},
    ]
    assert operator.json_patch(f"{web}/status", patch, OPERATOR).message == ""
    assert api_server.admin.get(web)["status"].get("nodes", []) == []


def test_a_node_that_leaves_does_not_stay_among_the_owners(
    api_server: LocalAPIServer, operator: Client, web: str
) -> None:
    """As the operator's writer does it: applied with the agent's field manager, and without a status."""
    bare = {name: value for name, value in virtual_ip_status("planned", {}).items() if name != "status"}
    assert operator.apply(f"{web}/status", virtual_ip_status("planned", {"state": "Held"}), OPERATOR).status == 200
    for name in ("n1", "n2", "n3"):
        body = virtual_ip_status("planned", {"nodes": [entry(name)]})
        assert api_server.admin.apply(f"{web}/status", body, f"holdfast-agent-{name}").status == 200
    empty = virtual_ip_status("planned", {})
    assert operator.apply(f"{web}/status", empty, "holdfast-agent-n2").status == 200
    assert "holdfast-agent-n2" in managers(api_server, web), "as operators of 0.1 left it"
    for name in ("n1", "n2"):
        assert operator.apply(f"{web}/status", bare, f"holdfast-agent-{name}").message == ""
    assert managers(api_server, web) & {f"holdfast-agent-{name}" for name in ("n1", "n2", "n3")} == {
        "holdfast-agent-n3"
    }
    assert [one["nodeName"] for one in api_server.admin.get(web)["status"]["nodes"]] == ["n3"]


def managers(api_server: LocalAPIServer, path: str) -> set[str]:
    return {one["manager"] for one in api_server.admin.get(path)["metadata"]["managedFields"]}
