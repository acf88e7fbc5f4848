"""What an API server makes of the chart: installed beside whatever runs there, without a single pod."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast_testing.kind_cluster import ClusterError, KindCluster

pytestmark = pytest.mark.kind

RELEASE = "holdfast-chart-test"
SPEAKER = f"system:serviceaccount:{RELEASE}:{RELEASE}-speaker"
API = "/apis/holdfast.dev/v1alpha1"
MERGE = "application/merge-patch+json"
VIRTUAL_IP: dict[str, Any] = {
    "apiVersion": "holdfast.dev/v1alpha1",
    "kind": "VirtualIP",
    "metadata": {"name": RELEASE, "namespace": "default"},
    # TEST-NET-1 (RFC 5737): nobody runs it, should an operator see it.
    "spec": {"addresses": ["192.0.2.1/32"], "nodes": {"names": ["no-such-node"]}},
}


def entry(node: str, message: str = "") -> dict[str, Any]:
    return {
        "nodeName": node,
        "state": "Backup",
        "since": "2026-01-01T00:00:00.000Z",
        "priority": 100,
        "health": "Healthy",
        "message": message,
    }


@dataclass
class Impersonator:
    """Sends requests with the administrator's certificate, as somebody else."""

    server: str
    context: ssl.SSLContext

    def patch(self, path: str, body: Any, node: str, kind: str = MERGE) -> tuple[int, str]:
        """HTTP status and message of a dry run as the speaker of a node; empty: with a token that is not bound."""
        headers = {"Content-Type": kind, "Impersonate-User": SPEAKER}
        if node:
            headers["Impersonate-Extra-authentication.kubernetes.io%2Fnode-name"] = node
        query = "?dryRun=All&fieldManager=test" + ("&force=true" if "apply" in kind else "")
        request = urllib.request.Request(self.server + path + query, json.dumps(body).encode(), headers, method="PATCH")
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["message"]


@pytest.fixture(scope="module")
def impersonator(cluster: KindCluster, tmp_path_factory: pytest.TempPathFactory) -> Impersonator:
    settings = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    server = settings["clusters"][0]["cluster"]
    user = settings["users"][0]["user"]
    folder = tmp_path_factory.mktemp("credentials")

    def file(name: str, data: str) -> Path:
        (folder / name).write_bytes(base64.b64decode(data))
        return folder / name

    context = ssl.create_default_context(cafile=file("ca", server["certificate-authority-data"]))
    context.load_cert_chain(file("certificate", user["client-certificate-data"]), file("key", user["client-key-data"]))
    return Impersonator(server["server"], context)


@pytest.fixture(scope="module")
def installed(cluster: KindCluster, chart: Path) -> Iterator[KindCluster]:
    """The chart installed, with nothing that runs; the definitions come with it where they are not there yet."""
    try:
        cluster.kubectl("get", "crd", "virtualips.holdfast.dev", "speakerconfigs.holdfast.dev")
        are_there = "true"
    except ClusterError:
        are_there = "false"
    cluster.helm(
        *("upgrade", "--install", RELEASE, str(chart), "--namespace", RELEASE, "--create-namespace"),
        f"--set=crds.install={'false' if are_there == 'true' else 'true'},crds.keep=false",
        "--set=operator.replicas=0,dashboard.enabled=true",
        "--set-string=speaker.nodeSelector.nowhere=true",
        "--set=operator.networkPolicy.enabled=true",
        "--wait",
        "--timeout=60s",
    )
    try:
        yield cluster
    finally:
        cluster.helm("uninstall", RELEASE, "--namespace", RELEASE, "--wait", "--timeout=60s")
        cluster.kubectl("delete", "namespace", RELEASE, "--ignore-not-found")


@pytest.fixture
def virtual_ip(installed: KindCluster) -> Iterator[str]:
    """The path of the status of a VirtualIP that two nodes have said something about."""
    installed.kubectl(
        *("wait", "--for=condition=Established", "crd/virtualips.holdfast.dev", "crd/speakerconfigs.holdfast.dev")
    )
    installed.apply(json.dumps(VIRTUAL_IP))
    status = {"status": {"holder": "n1", "nodes": [entry("n1"), entry("n2")]}}
    installed.kubectl(*("patch", "vip", RELEASE, "--subresource=status", "--type=merge", "--patch", json.dumps(status)))
    try:
        yield f"{API}/namespaces/default/virtualips/{RELEASE}/status"
    finally:
        installed.delete(json.dumps(VIRTUAL_IP))


def test_the_api_server_takes_every_object(cluster: KindCluster, render: Any, installed: KindCluster) -> None:
    objects = [each for each in render({}, "--namespace", RELEASE) if each["kind"] != "CustomResourceDefinition"]
    stream = "---\n".join(yaml.safe_dump(each) for each in objects)
    taken = cluster.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict", "--filename", "-"),
        stdin=stream,
    )
    assert len(taken.splitlines()) == len(objects)


def test_the_admission_policy_compiles(installed: KindCluster) -> None:
    def status() -> dict[str, Any]:
        found = installed.get("validatingadmissionpolicy", f"{RELEASE}-speaker").get("status", {})
        return dict(found) if "typeChecking" in found else {}

    found = installed.wait_for(status, 30, "the API server has checked the types of the policy")
    assert found["typeChecking"] == {}


def test_a_speaker_writes_the_entry_of_its_own_node(impersonator: Impersonator, virtual_ip: str) -> None:
    body = {**{key: VIRTUAL_IP[key] for key in ("apiVersion", "kind", "metadata")}}
    for node in ("n1", "n3"):
        body["status"] = {"nodes": [entry(node, "news")]}
        assert impersonator.patch(virtual_ip, body, node, "application/apply-patch+yaml") == (200, "")


@pytest.mark.parametrize(
    ("status", "node", "says"),
    [
        ({"nodes": [entry("n1"), entry("n2", "changed")]}, "n1", "no entry of status.nodes but its own"),
        ({"nodes": [entry("n1")]}, "n1", "no entry of status.nodes but its own"),
        ({"nodes": None}, "n1", "no entry of status.nodes but its own"),
        ({"nodes": [entry("n1"), entry("n2"), entry("n3")]}, "n1", "no entry of status.nodes but its own"),
        ({"holder": "n2"}, "n1", "nothing of a VirtualIP's status but its entry"),
        ({"holder": None}, "n1", "nothing of a VirtualIP's status but its entry"),
        ({"moves": 3}, "n1", "nothing of a VirtualIP's status but its entry"),
        ({"nodes": [entry("n1", "news"), entry("n2")]}, "", "must be bound to its pod"),
    ],
)
def test_a_speaker_writes_nothing_else_of_a_virtual_ip(
    impersonator: Impersonator, virtual_ip: str, status: dict[str, Any], node: str, says: str
) -> None:
    code, message = impersonator.patch(virtual_ip, {"status": status}, node)
    assert code == 403, message
    assert says in message


def test_a_speaker_may_not_write_what_it_runs(impersonator: Impersonator, virtual_ip: str) -> None:
    code, message = impersonator.patch(virtual_ip.removesuffix("/status"), {"spec": {"priority": 200}}, "n1")
    assert code == 403, message


def test_a_speaker_writes_the_status_of_its_own_speaker_config(
    impersonator: Impersonator, installed: KindCluster, virtual_ip: str
) -> None:
    # Named after a node that there is: an operator that runs here leaves it alone.
    name = installed.items("nodes")[0]["metadata"]["name"]
    manifest = json.dumps(
        {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "SpeakerConfig",
            "metadata": {"name": name},
            "spec": {"nodeName": name},
        }
    )
    was_there = bool(installed.kubectl("get", "speakerconfig", name, "--ignore-not-found"))
    if not was_there:
        installed.apply(manifest)
    try:
        path = f"{API}/speakerconfigs/{name}/status"
        assert impersonator.patch(path, {"status": {"warnings": ["x"]}}, name) == (200, "")
        code, message = impersonator.patch(path, {"status": {"warnings": ["x"]}}, f"not-{name}")
        assert code == 403, message
        assert "no SpeakerConfig but its own" in message
        code, message = impersonator.patch(path.removesuffix("/status"), {"spec": {"virtualRouters": []}}, name)
        assert code == 403, message
    finally:
        if not was_there:
            installed.delete(manifest)
