"""A kube-apiserver with Holdfast's definitions, roles and admission policies, as the chart renders them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast_testing.api_server import (
    MERGE,
    Client,
    LocalAPIServer,
    Programs,
    build_programs,
    find_programs,
    local_api_server,
)
from holdfast_testing.holdfast_objects import API, NAMESPACE, OPERATOR
from holdfast_testing.kind_cluster import ROOT, run
from holdfast_testing.required import absent, is_required

CHART = ROOT / "charts" / "holdfast"
CLUSTER_SCOPED = {
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}
NAMESPACED = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}
"""What of the chart is installed: everything that says who may do what."""

Object = dict[str, Any]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder has the marker, or it would start a server in each of several processes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.api_server)


@pytest.fixture(scope="session")
def programs() -> Programs:
    found = find_programs()
    if found is None and is_required("kind"):
        found = build_programs()
    if found is None:
        absent("kind", "kube-apiserver, etcd and helm are not built: `scripts/cluster tools` does that")
    return found


@pytest.fixture(scope="session")
def bare_api_server(programs: Programs) -> Iterator[LocalAPIServer]:
    """Nothing of Holdfast is installed, as long as nobody asks for `api_server`."""
    with local_api_server(programs) as server:
        yield server


@pytest.fixture(scope="session")
def rendered(programs: Programs) -> list[Object]:
    """The chart with its default values."""
    said = run([str(programs.helm), "template", "holdfast", str(CHART), "--namespace", NAMESPACE])
    return [each for each in yaml.safe_load_all(said) if each]


@pytest.fixture(scope="session")
def api_server(bare_api_server: LocalAPIServer, rendered: list[Object]) -> LocalAPIServer:
    """Holdfast's definitions, service accounts, roles and policies are in force. Tests share it: clean up."""
    admin = bare_api_server.admin
    admin.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for each in rendered:
        kind = each["kind"]
        if kind in CLUSTER_SCOPED:
            admin.create(CLUSTER_SCOPED[kind], each)
        elif kind in NAMESPACED:
            admin.create(NAMESPACED[kind].format(each["metadata"]["namespace"]), each)
    for plural in ("virtualips", "speakerconfigs", "addresspools"):
        bare_api_server.wait_for(lambda plural=plural: _is_served(admin, plural), f"{plural} are served")
    _wait_for_policies(bare_api_server)
    return bare_api_server


def _wait_for_policies(server: LocalAPIServer) -> None:
    """They are in force a moment after they are there: until then the operator may write a Service's labels."""
    admin, path = server.admin, "/api/v1/namespaces/default/services"
    operator = server.client(server.service_account_token(NAMESPACE, OPERATOR))
    admin.create(path, {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})
    wanted = {"metadata": {"labels": {"a": "b"}}}

    def is_refused() -> bool:
        answer = operator.request(
            "PATCH", f"{path}/a/status", wanted, content_type=MERGE, query={"dryRun": "All", "fieldManager": OPERATOR}
        )
        return "ValidatingAdmissionPolicy" in answer.message

    server.wait_for(is_refused, "the admission policies are in force")
    admin.delete(f"{path}/a")


def _is_served(admin: Client, plural: str) -> bool:
    return admin.request("GET", f"{API}/{plural}").status == 200
