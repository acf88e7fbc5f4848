"""A Service of type LoadBalancer gets its address, from the operator's own process, on a real API server.

No node is there: what agents would say is said by the tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast_api.cluster import agent_field_manager
from holdfast_operator.surroundings import SPEAKER_PODS
from holdfast_testing.api_server import Client, LocalAPIServer
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

SERVICES = "/api/v1/namespaces/default/services"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
POOLS = f"{API}/addresspools"
NODES = ("services-1", "services-2")
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
LABEL = "holdfast.dev/service-vip"
SECONDS = 60.0
"""What is waited for takes one or two, where nothing else runs."""
STEADY_SECONDS = 3.0


class Cluster:
    """Two nodes whose agents answer when they are asked to, a pool, and the operator's process."""

    def __init__(self, server: LocalAPIServer, folder: Path) -> None:
        self.server = server
        self.admin: Client = server.admin
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """The operator, with the token of its service account."""
        kubeconfig = self._folder / "kubeconfig"
        token = self.server.service_account_token(NAMESPACE, OPERATOR)
        kubeconfig.write_text(self.server.kubeconfig(token), encoding="utf-8")
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "HOLDFAST", "POD"))
        }
        with (self._folder / "operator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "holdfast_operator",
                    f"--namespace={NAMESPACE}",
                    "--health-address=127.0.0.1:0",
                ],
                env={**inherited, "PYTHONPATH": os.pathsep.join(sys.path), "KUBECONFIG": str(kubeconfig)},
                stdout=log,
                stderr=log,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """It ends in good order, or does not."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=SECONDS)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def said(self) -> str:
        return (self._folder / "operator.log").read_text(encoding="utf-8")

    def answer(self) -> None:
        """As the agents: which links there are, what the engine runs, and that the first node holds all of it."""
        for number, name in enumerate(NODES, start=1):
            found = self.admin.request("GET", f"{SPEAKER_CONFIGS}/{name}")
            if found.status != 200:
                continue
            routers = found.body.get("spec", {}).get("virtualRouters", [])
            status = {
                "observedGeneration": found.body["metadata"]["generation"],
                "engineVersion": "1",
                "links": [{"name": "eth0", "addresses": [f"192.0.2.{200 + number}/24"]}],
            }
            body = speaker_config(name, status=status)
            self.admin.apply(f"{SPEAKER_CONFIGS}/{name}/status", body, agent_field_manager(name))
            for router in routers:
                namespace, _, one = router["name"].partition("/")
                state = {"state": "Master", "reason": "NoMasterHeard"} if number == 1 else {"state": "Backup"}
                told = virtual_ip_status(one, {"nodes": [entry(name, **state)]}, namespace)
                self.admin.apply(f"{virtual_ips(namespace)}/{one}/status", told, agent_field_manager(name))

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, f"{what}; the operator says:\n{self.said()[-3000:]}"
            self.answer()
            time.sleep(0.2)

    def steady(self) -> None:
        """Nothing is written for some seconds."""
        end = time.monotonic() + SECONDS
        while True:
            self.answer()
            before = self.versions()
            time.sleep(STEADY_SECONDS)
            if self.versions() == before:
                return
            assert time.monotonic() < end, "it is written again and again"

    def versions(self) -> dict[str, str]:
        """Of all that the operator writes but its Lease."""
        return {
            one["metadata"]["uid"]: one["metadata"]["resourceVersion"]
            for path in (SERVICES, virtual_ips(), SPEAKER_CONFIGS, POOLS, EVENTS)
            for one in self.admin.get(path)["items"]
        }

    # ----- what is there -----

    def service(self, name: str = "web") -> Object:
        return self.admin.get(f"{SERVICES}/{name}")

    def is_there(self, path: str) -> bool:
        return self.admin.request("GET", path).status == 200

    def ingress(self, name: str = "web") -> list[Object]:
        found: list[Object] = self.service(name)["status"]["loadBalancer"].get("ingress", [])
        return found

    def finalizers(self, name: str = "web") -> list[str]:
        found: list[str] = self.service(name)["metadata"].get("finalizers", [])
        return found

    def virtual_ip(self, name: str = "web") -> Object:
        return self.admin.get(f"{virtual_ips()}/{name}")

    def conditions(self, name: str = "web") -> dict[str, Object]:
        return {one["type"]: one for one in self.service(name)["status"].get("conditions", [])}

    def running(self) -> set[str]:
        items = self.admin.get(SPEAKER_CONFIGS)["items"]
        return {router["name"] for one in items for router in one["spec"].get("virtualRouters", [])}

    def reasons(self, name: str = "web") -> set[str]:
        uid = self.service(name)["metadata"]["uid"]
        return {one["reason"] for one in self.admin.get(EVENTS)["items"] if one["regarding"].get("uid") == uid}

    def make(self, name: str = "web", of_class: str | None = "holdfast.dev/vrrp", **spec: object) -> Object:
        wanted = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]} | spec
        if of_class:
            wanted["loadBalancerClass"] = of_class
        return self.admin.create(SERVICES, {"metadata": {"name": name}, "spec": wanted})

    def serve(self, name: str = "web") -> str:
        """A Service that has its address."""
        self.make(name)
        self.until(lambda: self.ingress(name), "the Service has its address")
        address: str = self.ingress(name)[0]["ip"]
        return address


@pytest.fixture
def cluster(api_server: LocalAPIServer, tmp_path: Path) -> Iterator[Cluster]:
    admin = api_server.admin
    label, _, value = SPEAKER_PODS.partition("=")
    for name in NODES:
        admin.create("/api/v1/nodes", {"metadata": {"name": name}})
        ready = {"type": "Ready", "status": "True", "reason": "R", "message": ""}
        admin.merge(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready]}})
        spec = {
            "nodeName": name,
            "serviceAccountName": SPEAKER,
            "automountServiceAccountToken": False,
            "containers": [{"name": "agent", "image": "none"}],
        }
        admin.create(PODS, {"metadata": {"name": name, "labels": {label: value}}, "spec": spec})
        told = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        assert admin.merge(f"{PODS}/{name}/status", {"status": told}).status == 200
    pool = {
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "AddressPool",
        "metadata": {"name": "office"},
        "spec": {"addresses": ["192.0.2.64/28"], "autoAssign": True},
    }
    admin.create(POOLS, pool)
    made = Cluster(api_server, tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()
        for path in (SERVICES, virtual_ips(), SPEAKER_CONFIGS, POOLS, EVENTS):
            for found in admin.get(path)["items"]:
                name = found["metadata"]["name"]
                if (path, name) != (SERVICES, "kubernetes"):
                    admin.merge(f"{path}/{name}", {"metadata": {"finalizers": None}})
                    admin.delete(f"{path}/{name}")
        admin.delete(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{OPERATOR}")
        for name in NODES:
            admin.request("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
            admin.delete(f"/api/v1/nodes/{name}")


def test_a_service_gets_its_address_and_keeps_it_and_gives_it_back(cluster: Cluster) -> None:
    uid = cluster.make()["metadata"]["uid"]
    cluster.until(lambda: cluster.ingress(), "the Service has its address")
    address = cluster.ingress()[0]["ip"]
    assert cluster.ingress() == [{"ip": address, "ipMode": "VIP"}]
    assert cluster.finalizers() == [FINALIZER]
    made = cluster.virtual_ip()
    assert made["metadata"]["labels"] == {LABEL: "true"}
    assert [(one["kind"], one["uid"]) for one in made["metadata"]["ownerReferences"]] == [("Service", uid)]
    assert made["spec"]["addresses"] == [address]
    cluster.until(lambda: cluster.reasons(), "people are told")
    cluster.steady()
    cluster.admin.delete(f"{SERVICES}/web")
    cluster.until(lambda: not cluster.is_there(f"{SERVICES}/web"), "the Service is gone")
    assert not cluster.is_there(f"{virtual_ips()}/web")
    assert cluster.running() == set()


def test_an_address_stays_with_its_service_over_restarts(cluster: Cluster) -> None:
    addresses = {name: cluster.serve(name) for name in ("web", "mail")}
    cluster.steady()
    versions = cluster.versions()
    cluster.restart()
    cluster.until(lambda: cluster.said().count("serving /healthz") == 2, "it has started anew")
    cluster.steady()
    assert cluster.versions() == versions, "a new leader has nothing to write"
    cluster.server.restart()
    cluster.serve("late")
    cluster.stop(signal.SIGKILL)
    cluster.admin.delete(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{OPERATOR}")
    cluster.start()
    cluster.serve("later")
    assert {name: cluster.ingress(name)[0]["ip"] for name in addresses} == addresses


def test_a_service_that_becomes_one_of_the_cluster_alone_keeps_nothing(cluster: Cluster) -> None:
    cluster.serve()
    patch = {"spec": {"type": "ClusterIP", "loadBalancerClass": None}}
    assert cluster.admin.merge(f"{SERVICES}/web", patch).status == 200
    cluster.until(lambda: not cluster.is_there(f"{virtual_ips()}/web"), "the VirtualIP is gone")
    cluster.until(lambda: not cluster.finalizers() and not cluster.conditions(), "nothing of it is left")
    assert (cluster.ingress(), cluster.running()) == ([], set())
    cluster.steady()


def test_a_service_of_another_class_and_what_others_say_are_left_alone(cluster: Cluster) -> None:
    cluster.serve()
    cluster.make("another", "example.com/other")
    cluster.make("nobodys", None)
    theirs = {"type": "example.com/Known", "status": "True", "reason": "R", "message": "", "lastTransitionTime": None}
    theirs["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    ingress = {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}]}
    for name in ("another", "nobodys"):
        told = {"status": {"loadBalancer": ingress, "conditions": [theirs]}}
        assert cluster.admin.merge(f"{SERVICES}/{name}/status", told).status == 200
    own = {"conditions": [theirs]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "status": own}
    assert cluster.admin.apply(f"{SERVICES}/web/status", body, "somebody").status == 200
    cluster.serve("mail")
    for name in ("another", "nobodys"):
        found = cluster.service(name)
        assert "finalizers" not in found["metadata"]
        assert found["status"] == {"loadBalancer": ingress, "conditions": [theirs]}
        assert not cluster.is_there(f"{virtual_ips()}/{name}")
    assert cluster.conditions()["example.com/Known"] == theirs
    assert len(cluster.conditions()) == 2


def test_an_edit_of_the_virtual_ip_is_undone_and_one_that_is_deleted_is_made_anew(cluster: Cluster) -> None:
    address = cluster.serve()
    before = cluster.virtual_ip()
    edits: list[Object] = [
        {"spec": {"priority": 200}},
        {"spec": {"addresses": ["192.0.2.70"]}},
        {"spec": {"addresses": [address, "192.0.2.70"], "nodes": {"names": [NODES[0]]}}},
        {"metadata": {"ownerReferences": []}},
    ]
    for edit in edits:
        answer = cluster.admin.merge(f"{virtual_ips()}/web", edit)
        assert answer.status == 200, answer.message

        def is_undone() -> bool:
            now = cluster.virtual_ip()
            owners = now["metadata"].get("ownerReferences")
            return now["spec"] == before["spec"] and owners == before["metadata"]["ownerReferences"]

        cluster.until(is_undone, f"{edit} is undone")
        assert cluster.ingress()[0]["ip"] == address
    cluster.admin.delete(f"{virtual_ips()}/web")
    cluster.until(lambda: cluster.is_there(f"{virtual_ips()}/web"), "it is made anew")
    assert cluster.virtual_ip()["spec"]["addresses"] == [address]
    cluster.steady()
    assert cluster.ingress()[0]["ip"] == address


def test_a_users_virtual_ip_of_that_name_is_left_and_told(cluster: Cluster) -> None:
    cluster.admin.create(virtual_ips(), virtual_ip("web", addresses=["192.0.2.65/24"]))
    cluster.make()
    cluster.until(lambda: cluster.conditions() and cluster.reasons(), "people are told")
    (told,) = cluster.conditions().values()
    assert (told["status"], "VirtualIP" in told["message"]) == ("False", True)
    assert LABEL not in cluster.virtual_ip()["metadata"].get("labels", {})
    assert cluster.ingress() == []
    cluster.admin.delete(f"{SERVICES}/web")
    cluster.until(lambda: not cluster.is_there(f"{SERVICES}/web"), "the Service is gone")
    assert cluster.is_there(f"{virtual_ips()}/web")


def test_where_the_right_to_services_is_lost_what_was_given_stays_and_virtual_ips_go_on(cluster: Cluster) -> None:
    cluster.serve()
    cluster.steady()
    role = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{OPERATOR}"
    rules = cluster.admin.get(role)["rules"]
    less = [rule for rule in rules if not {"services", "services/status"} & set(rule["resources"])]
    cluster.admin.merge(role, {"rules": less})
    try:
        cluster.until(lambda: cluster.admin.merge(role, {"rules": less}).status == 200, "the right is lost")
        cluster.restart()
        cluster.until(lambda: "services cannot be read" in cluster.said(), "it says so")
        cluster.admin.create(virtual_ips(), virtual_ip("users", addresses=["192.0.2.66/24"]))
        cluster.until(lambda: "default/users" in cluster.running(), "a VirtualIP is planned")
        assert "default/web" in cluster.running()
        assert cluster.ingress()
    finally:
        cluster.admin.merge(role, {"rules": rules})
    cluster.serve("mail")
