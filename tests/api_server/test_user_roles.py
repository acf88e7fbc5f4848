"""The ClusterRoles that the chart has for users, as a real API server understands them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast_testing.api_server import Client, LocalAPIServer
from holdfast_testing.holdfast_objects import virtual_ip, virtual_ips

ROLES = "/apis/rbac.authorization.k8s.io/v1"
TEAM, OTHERS = "team", "others"


@pytest.fixture(scope="module")
def namespaces(api_server: LocalAPIServer) -> Iterator[None]:
    admin = api_server.admin
    for name in (TEAM, OTHERS):
        admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield
    for name in (TEAM, OTHERS):
        admin.delete(f"/api/v1/namespaces/{name}")


def bound(api_server: LocalAPIServer, role: str) -> Client:
    """Somebody whom a RoleBinding in one namespace gives one of the chart's ClusterRoles."""
    name = f"has-{role}"
    admin = api_server.admin
    admin.create(f"/api/v1/namespaces/{TEAM}/serviceaccounts", {"metadata": {"name": name}})
    admin.create(
        f"{ROLES}/namespaces/{TEAM}/rolebindings",
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": TEAM}],
        },
    )
    client = api_server.client(api_server.service_account_token(TEAM, name))
    api_server.wait_for(lambda: client.request("GET", virtual_ips(TEAM)).status == 200, "the role is in force")
    return client


def test_who_edits_makes_virtual_ips_in_that_namespace_and_nowhere_else(
    api_server: LocalAPIServer, namespaces: None
) -> None:
    editor = bound(api_server, "holdfast-edit")
    assert editor.request("POST", virtual_ips(TEAM), virtual_ip("web", TEAM)).status == 201
    assert editor.merge(f"{virtual_ips(TEAM)}/web", {"spec": {"priority": 120}}).status == 200
    assert editor.merge(f"{virtual_ips(TEAM)}/web/status", {"status": {"holder": "n9"}}).status == 403
    assert editor.request("POST", virtual_ips(OTHERS), virtual_ip("web", OTHERS)).status == 403
    assert editor.request("GET", "/apis/holdfast.dev/v1alpha1/speakerconfigs").status == 403
    assert editor.request("DELETE", f"{virtual_ips(TEAM)}/web").status == 200


def test_who_views_reads_virtual_ips_and_writes_none(api_server: LocalAPIServer, namespaces: None) -> None:
    viewer = bound(api_server, "holdfast-view")
    assert viewer.request("POST", virtual_ips(TEAM), virtual_ip("mine", TEAM)).status == 403
    assert viewer.request("GET", virtual_ips(OTHERS)).status == 403
    assert viewer.request("GET", "/apis/holdfast.dev/v1alpha1/speakerconfigs").status == 403
