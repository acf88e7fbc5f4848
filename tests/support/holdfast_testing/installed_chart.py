"""The chart's definitions, service accounts, roles and admission policies in a kube-apiserver that runs by itself."""

from __future__ import annotations

from typing import Any

import yaml

from holdfast_testing.api_server import MERGE, Client, LocalAPIServer, Programs
from holdfast_testing.holdfast_objects import API, NAMESPACE, OPERATOR
from holdfast_testing.kind_cluster import ROOT, run

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


def render_chart(programs: Programs) -> list[Object]:
    """The chart with its default values."""
    said = run([str(programs.helm), "template", "holdfast", str(CHART), "--namespace", NAMESPACE])
    return [each for each in yaml.safe_load_all(said) if each]


def install_chart(server: LocalAPIServer, rendered: list[Object]) -> None:
    """Returns when definitions are served and policies in force. Raises APIServerError."""
    admin = server.admin
    admin.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for each in rendered:
        kind = each["kind"]
        if kind in CLUSTER_SCOPED:
            admin.create(CLUSTER_SCOPED[kind], each)
        elif kind in NAMESPACED:
            admin.create(NAMESPACED[kind].format(each["metadata"]["namespace"]), each)
    for plural in ("virtualips", "speakerconfigs", "addresspools"):
        server.wait_for(lambda plural=plural: _is_served(admin, plural), f"{plural} are served")
    _wait_for_policies(server)


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
