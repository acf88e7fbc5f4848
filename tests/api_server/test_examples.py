"""A real API server takes everything in examples/kubernetes: a server-side dry run that refuses unknown fields."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast_testing.api_server import APPLY, Client, LocalAPIServer
from holdfast_testing.kind_cluster import ROOT, SCRIPT, run
from holdfast_testing.required import absent

FOLDER = ROOT / "examples" / "kubernetes"
PLACES = {
    ("v1", "ConfigMap"): "/api/v1/namespaces/{namespace}/configmaps",
    ("v1", "Service"): "/api/v1/namespaces/{namespace}/services",
    ("apps/v1", "DaemonSet"): "/apis/apps/v1/namespaces/{namespace}/daemonsets",
    ("apps/v1", "Deployment"): "/apis/apps/v1/namespaces/{namespace}/deployments",
    ("holdfast.dev/v1alpha1", "AddressPool"): "/apis/holdfast.dev/v1alpha1/addresspools",
    ("holdfast.dev/v1alpha1", "VirtualIP"): "/apis/holdfast.dev/v1alpha1/namespaces/{namespace}/virtualips",
    ("gateway.networking.k8s.io/v1", "Gateway"): ("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): (
        "/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"
    ),
}
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GATEWAY_DEFINITIONS = ("gatewayclasses", "gateways", "httproutes")

Object = dict[str, Any]


def documents(path: Path) -> list[Object]:
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


EVERY = [
    pytest.param(document, id=f"{path.relative_to(FOLDER)}-{document['kind']}")
    for path in sorted(FOLDER.rglob("*.yaml"))
    for document in documents(path)
]


def test_every_folder_of_the_examples_has_something_to_try() -> None:
    folders = {path.parent.name for path in FOLDER.rglob("*.yaml")}
    assert {"nginx", "haproxy", "gateway"} <= folders


@pytest.fixture(scope="session")
def with_gateway_api(api_server: LocalAPIServer) -> Iterator[Client]:
    """The administrator of a server that has the Gateway API's definitions."""
    paths = dict(line.split("=", 1) for line in run([str(SCRIPT), "paths"]).splitlines())
    folder = Path(paths["gateway-api"])
    if not folder.is_dir():
        absent("kind", "the definitions of the Gateway API are not there: `scripts/cluster tools` fetches them")
    admin = api_server.admin
    for plural in GATEWAY_DEFINITIONS:
        (definition,) = documents(folder / f"gateway.networking.k8s.io_{plural}.yaml")
        admin.create(DEFINITIONS, definition)
    for plural in GATEWAY_DEFINITIONS[1:]:
        place = f"/apis/gateway.networking.k8s.io/v1/namespaces/default/{plural}"
        api_server.wait_for(lambda place=place: admin.request("GET", place).status == 200, f"{plural} are served")
    yield admin
    for plural in GATEWAY_DEFINITIONS:
        admin.delete(f"{DEFINITIONS}/{plural}.gateway.networking.k8s.io")


@pytest.fixture
def admin(api_server: LocalAPIServer, request: pytest.FixtureRequest, document: Object) -> Client:
    """The administrator of a server that knows the kind of the document."""
    if document["apiVersion"].startswith("gateway."):
        found: Client = request.getfixturevalue("with_gateway_api")
        return found
    return api_server.admin


@pytest.mark.parametrize("document", EVERY)
def test_the_api_server_takes_it_and_knows_every_field(admin: Client, document: Object) -> None:
    place = PLACES[document["apiVersion"], document["kind"]]
    namespace = document["metadata"].get("namespace", "default")
    _make_namespace(admin, namespace)
    path = f"{place.format(namespace=namespace)}/{document['metadata']['name']}"
    query = {"fieldManager": "kubectl", "dryRun": "All", "fieldValidation": "Strict"}
    answer = admin.request("PATCH", path, document, content_type=APPLY, query=query)
    assert answer.message == ""
    wrong = document | {"specification": {}}
    assert "specification" in admin.request("PATCH", path, wrong, content_type=APPLY, query=query).message


def _make_namespace(admin: Client, name: str) -> None:
    if admin.request("GET", f"/api/v1/namespaces/{name}").status == 404:
        admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
