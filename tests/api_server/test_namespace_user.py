"""What a user of one namespace may do to VirtualIPs there, and what not: asked of a real API server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast_api.cluster import agent_field_manager
from holdfast_testing.api_server import JSON, MERGE, Client, LocalAPIServer
from holdfast_testing.holdfast_objects import (
    API,
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

SHOP = "shop"
WEB = f"{virtual_ips(SHOP)}/web"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
EDIT = "holdfast-edit"
"""The chart's ClusterRole for users."""


@pytest.fixture(scope="module")
def user(api_server: LocalAPIServer) -> Iterator[Client]:
    """The token of somebody whom a RoleBinding in the namespace shop gives the chart's ClusterRole."""
    admin = api_server.admin
    if admin.request("GET", f"/api/v1/namespaces/{SHOP}").status == 404:
        admin.create("/api/v1/namespaces", {"metadata": {"name": SHOP}})
    admin.create(f"/api/v1/namespaces/{SHOP}/serviceaccounts", {"metadata": {"name": "developer"}})
    binding = {
        "metadata": {"name": "developer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": EDIT},
        "subjects": [{"kind": "ServiceAccount", "name": "developer", "namespace": SHOP}],
    }
    admin.create(f"{ROLES}/namespaces/{SHOP}/rolebindings", binding)
    developer = api_server.client(api_server.service_account_token(SHOP, "developer"))
    api_server.wait_for(lambda: developer.request("GET", virtual_ips(SHOP)).status == 200, "the role is in force")
    yield developer
    admin.delete(f"{ROLES}/namespaces/{SHOP}/rolebindings/developer")
    admin.delete(f"/api/v1/namespaces/{SHOP}/serviceaccounts/developer")


@pytest.fixture
def web(api_server: LocalAPIServer, user: Client) -> Iterator[str]:
    """The user's VirtualIP, of which operator and one agent have told."""
    user.create(virtual_ips(SHOP), virtual_ip("web", SHOP))
    for manager, status in (
        (OPERATOR, {"state": "Held", "holder": "n1"}),
        ("holdfast-agent-n1", {"nodes": [entry("n1")]}),
    ):
        body = virtual_ip_status("web", status, SHOP)
        assert api_server.admin.apply(f"{WEB}/status", body, manager).status == 200
    yield WEB
    api_server.admin.delete(WEB)


@pytest.fixture(scope="module")
def agent(api_server: LocalAPIServer) -> Client:
    """The agent of n1."""
    api_server.make_pod(NAMESPACE, "of-n1", SPEAKER, "n1")
    return api_server.client(api_server.service_account_token(NAMESPACE, SPEAKER, "of-n1"))


def owners(user: Client) -> list[Object]:
    managed = user.get(WEB)["metadata"].get("managedFields", [])
    return [each for each in managed if each.get("subresource") == "status"]


def test_a_user_writes_a_virtual_ip_in_every_way(user: Client, web: str) -> None:
    assert user.apply(web, virtual_ip("web", SHOP, priority=120), "kubectl").message == ""
    assert user.merge(web, {"spec": {"priority": 121}, "metadata": {"labels": {"a": "b"}}}).message == ""
    assert user.json_patch(web, [{"op": "replace", "path": "/spec/priority", "value": 122}]).message == ""
    stored = user.get(web)
    stored["spec"]["priority"] = 123
    assert user.request("PUT", web, stored).message == ""
    # As a file has it that was written with `kubectl get -o yaml`, and as tools send it that throw managedFields away.
    stored["metadata"] = {key: user.get(web)["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
    stored["spec"]["priority"] = 124
    assert user.request("PUT", web, stored).message == ""
    assert user.get(web)["status"]["holder"] == "n1"
    user.delete(web)


def test_a_user_cannot_write_a_status(user: Client, web: str) -> None:
    before = user.get(web)["status"]
    answers = [
        user.apply(f"{web}/status", virtual_ip_status("web", {"holder": "n9"}, SHOP), "kubectl"),
        user.merge(f"{web}/status", {"status": {"holder": "n9"}}),
        user.json_patch(f"{web}/status", [{"op": "remove", "path": "/status"}]),
        user.request("PUT", f"{web}/status", user.get(web)),
    ]
    assert [answer.status for answer in answers] == [403] * len(answers)
    user.merge(web, {"status": {"holder": "n9"}})
    assert user.get(web)["status"] == before


def test_a_user_cannot_make_a_virtual_ip_with_a_status(user: Client) -> None:
    made = user.create(
        virtual_ips(SHOP), virtual_ip("born", SHOP) | {"status": {"holder": "n9", "nodes": [entry("n9")]}}
    )
    try:
        assert made.get("status", {}).get("holder") is None
        assert "nodes" not in made.get("status", {})
    finally:
        user.delete(f"{virtual_ips(SHOP)}/born")


FORGED: list[Object] = [
    {"f:status": {"f:holder": {}, "f:state": {}}},
    {"f:status": {"f:nodes": {'k:{"nodeName":"n2"}': {".": {}, "f:nodeName": {}}}}},
    {"f:status": {"f:nodes": {'k:{"nodeName":"n1"}': {".": {}}, 'k:{"nodeName":"n2"}': {".": {}}}}},
    {"f:status": {"f:nodes": {".": {}}}},
    {"f:spec": {"f:addresses": {}}, "f:status": {"f:nodes": {'k:{"nodeName":"n1"}': {".": {}}}}},
]


@pytest.mark.parametrize("fields", FORGED)
def test_a_user_cannot_have_an_agent_remove_what_is_not_its_own(
    user: Client, agent: Client, web: str, fields: Object
) -> None:
    before = owners(user)
    forged = {
        "manager": agent_field_manager("n1"),
        "operation": "Apply",
        "apiVersion": "holdfast.dev/v1alpha1",
        "fieldsType": "FieldsV1",
        "subresource": "status",
        "time": "2026-01-01T00:00:00Z",
        "fieldsV1": fields,
    }
    managed = [one for one in user.get(web)["metadata"]["managedFields"] if one["manager"] != forged["manager"]]
    stored = user.get(web)
    stored["metadata"]["managedFields"] = [*managed, forged]
    born = virtual_ip("born", SHOP)
    born["metadata"]["managedFields"] = [forged]
    operation = {"op": "add", "path": "/metadata/managedFields/-", "value": forged}
    for answer in (
        user.merge(web, {"metadata": {"managedFields": [*managed, forged]}}),
        user.merge(web, {"metadata": {"managedFields": [forged]}}),
        user.json_patch(web, [operation]),
        user.request("PUT", web, stored),
    ):
        assert answer.status in (403, 422), answer.message
    made = user.request("POST", virtual_ips(SHOP), born)
    if made.status == 201:  # without what no request for a status can write, it was the agent's own entry
        (owned,) = (one for one in made.body["metadata"]["managedFields"] if one["manager"] == forged["manager"])
        assert list(owned["fieldsV1"]) == ["f:status"]
        assert list(owned["fieldsV1"]["f:status"]) == ["f:nodes"]
        assert list(owned["fieldsV1"]["f:status"]["f:nodes"]) == ['k:{"nodeName":"n1"}']
    user.delete(f"{virtual_ips(SHOP)}/born")
    assert owners(user) == before
    says = virtual_ip_status("web", {"nodes": [entry("n1", message="news")]}, SHOP)
    assert agent.apply(f"{web}/status", says, agent_field_manager("n1")).message == ""
    assert user.get(web)["status"]["holder"] == "n1"


def test_what_a_backup_tool_restores_of_owners_is_taken(user: Client, agent: Client, web: str) -> None:
    """Such a tool makes the object without them, and patches them in."""
    managed = user.get(web)["metadata"]["managedFields"]
    user.delete(web)
    user.create(virtual_ips(SHOP), virtual_ip("web", SHOP))
    assert user.merge(web, {"metadata": {"managedFields": managed}}).message == ""
    says = virtual_ip_status("web", {"nodes": [entry("n1")]}, SHOP)
    assert agent.apply(f"{web}/status", says, agent_field_manager("n1")).message == ""


def test_a_user_who_makes_the_api_server_forget_the_owners_takes_nothing_from_them(
    api_server: LocalAPIServer, user: Client, agent: Client, web: str
) -> None:
    assert user.merge(web, {"metadata": {"managedFields": [{}]}}).message == ""
    assert owners(user) == []
    says = virtual_ip_status("web", {"nodes": [entry("n1", message="news")]}, SHOP)
    assert agent.apply(f"{web}/status", says, agent_field_manager("n1")).message == ""
    told = virtual_ip_status("web", {"state": "Held", "holder": "n1"}, SHOP)
    assert api_server.admin.apply(f"{web}/status", told, OPERATOR).message == ""
    # Beside them the API server makes an owner of all that was there: what the operator says no more it patches away.
    assert {one["manager"] for one in owners(user)} >= {OPERATOR, agent_field_manager("n1")}
    assert user.get(web)["status"]["nodes"] == [entry("n1", message="news")]


def test_a_user_cannot_write_in_another_namespace(user: Client) -> None:
    assert user.request("POST", virtual_ips(), virtual_ip("web")).status == 403
    assert user.request("GET", virtual_ips()).status == 403


def test_a_user_cannot_write_or_read_what_nodes_run(user: Client) -> None:
    assert user.request("GET", SPEAKER_CONFIGS).status == 403
    assert user.request("POST", SPEAKER_CONFIGS, speaker_config("n1", spec={"nodeName": "n1"})).status == 403


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_user_cannot_write_who_may_have_which_addresses(user: Client, method: str) -> None:
    pool = {
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "AddressPool",
        "metadata": {"name": "mine"},
        "spec": {"addresses": ["0.0.0.0/0"]},
    }
    path = f"{API}/addresspools" + ("" if method == "POST" else "/mine")
    answer = user.request(method, path, pool, content_type=MERGE if method == "PATCH" else JSON)
    assert answer.status == 403


@pytest.mark.parametrize(
    "path", ["/api/v1/secrets", "/api/v1/nodes", f"/api/v1/namespaces/{NAMESPACE}/pods", "/api/v1/namespaces/shop/pods"]
)
def test_a_user_cannot_read_anything_else_by_that_role(user: Client, path: str) -> None:
    assert user.request("GET", path).status == 403
