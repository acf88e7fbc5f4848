"""The API server that the tests of this folder ask is a real one, and knows who asks."""

from __future__ import annotations

from holdfast_testing.api_server import LocalAPIServer
from holdfast_testing.holdfast_objects import NAMESPACE, OPERATOR, SPEAKER, entry, virtual_ip, virtual_ip_status
from holdfast_testing.holdfast_objects import virtual_ips as path_of


def test_a_token_that_is_bound_to_a_pod_tells_its_node(api_server: LocalAPIServer) -> None:
    api_server.make_pod(NAMESPACE, "bound", SPEAKER, "a-node")
    token = api_server.service_account_token(NAMESPACE, SPEAKER, "bound")
    said = api_server.client(token).create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    who = said["status"]["userInfo"]
    assert who["username"] == f"system:serviceaccount:{NAMESPACE}:{SPEAKER}"
    assert who["extra"]["authentication.kubernetes.io/node-name"] == ["a-node"]


def test_roles_are_obeyed(api_server: LocalAPIServer) -> None:
    operator = api_server.client(api_server.service_account_token(NAMESPACE, OPERATOR))
    assert operator.request("GET", "/api/v1/nodes").status == 200
    assert operator.request("GET", "/api/v1/secrets").status == 403


def test_what_is_applied_is_stored_and_has_its_owner(api_server: LocalAPIServer) -> None:
    admin = api_server.admin
    made = admin.create(path_of(), virtual_ip("applied"))
    try:
        assert made["spec"]["priority"] == 100
        status = virtual_ip_status("applied", {"nodes": [entry("n1")]})
        path = f"{path_of()}/applied"
        assert admin.apply(f"{path}/status", status, "somebody").status == 200
        stored = admin.get(path)
        assert stored["status"]["nodes"] == [entry("n1")]
        (owner,) = (each for each in stored["metadata"]["managedFields"] if each["manager"] == "somebody")
        assert owner["operation"] == "Apply"
        assert 'k:{"nodeName":"n1"}' in owner["fieldsV1"]["f:status"]["f:nodes"]
    finally:
        admin.delete(f"{path_of()}/applied")
