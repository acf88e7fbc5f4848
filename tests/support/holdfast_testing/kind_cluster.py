"""The cluster of four nodes that scripts/cluster makes, for tests: commands, nodes and what may happen to them."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any, TypeVar

from holdfast_api.errors import EnvironmentFailure

Found = TypeVar("Found")

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "cluster"
COMMAND_SECONDS = 300
NODE_SECONDS = 180
"""How long a node may take to become Ready again, and the API server to answer again."""

_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
_MANIFEST_AWAY = "/etc/kubernetes/kube-apiserver.yaml"


class ClusterError(EnvironmentFailure):
    """A command on the cluster failed, or what was waited for did not come; says which, and what was said."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node, which is a container of the same name."""

    name: str
    is_control_plane: bool
    address: IPv4Address
    """Its InternalIP, on the segment."""
    address_v6: IPv6Address | None
    mac: str


@dataclass(frozen=True, slots=True)
class Segment:
    """The link that all nodes are on: a bridge of this machine, so that this machine is a host on it, too."""

    network: str
    """The name that docker knows it by."""
    interface: str
    subnet: IPv4Network
    gateway: IPv4Address
    """This machine's own address on it."""
    container_range: IPv4Network
    """Where docker takes containers' addresses from."""
    subnet_v6: IPv6Network | None


def missing_means() -> str:
    """Why this machine cannot run the cluster; empty when it can."""
    if shutil.which("docker") and _finished(["docker", "version"]).returncode == 0:
        return ""
    if os.geteuid() != 0:
        return "no docker engine answers, and only root can install and start one"
    if not (shutil.which("dockerd") or shutil.which("apt-get")):
        return "no docker engine answers, and this machine has neither dockerd nor apt-get"
    return ""


def _finished(
    command: list[str], stdin: str | None = None, seconds: float = COMMAND_SECONDS
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=stdin, text=True, capture_output=True, check=False, timeout=seconds)


def run(command: list[str], stdin: str | None = None, seconds: float = COMMAND_SECONDS) -> str:
    """What a command prints; ClusterError with what it complained of when it fails or takes too long."""
    line = " ".join(command)
    try:
        finished = _finished(command, stdin, seconds)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"`{line}` took longer than {seconds:g} s") from None
    if finished.returncode != 0:
        said = (finished.stderr + finished.stdout).strip()
        raise ClusterError(f"`{line}` ended with {finished.returncode}: {said}")
    return finished.stdout


class KindCluster:
    """The running cluster."""

    def __init__(self) -> None:
        """Find it; ClusterError when it does not run."""
        paths = dict(line.split("=", 1) for line in run([str(SCRIPT), "paths"]).splitlines())
        self.kubeconfig = Path(paths["kubeconfig"])
        self._kubectl = paths["kubectl"]
        self._helm = paths["helm"]
        self._network = paths["network"]
        self._killed: dict[str, Node] = {}
        self._handed_out: set[IPv4Address | IPv6Address] = set()
        self._given_back: dict[IPv4Address, None] = {}
        """In that order, so that neighbours have forgotten an address before it is given again."""
        self.kubectl("version")

    @classmethod
    def up(cls) -> KindCluster:
        """Start it, or take the running one; minutes where images are to be built. Progress goes to stderr."""
        finished = subprocess.run([str(SCRIPT), "up"], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        if finished.returncode != 0:
            raise ClusterError("scripts/cluster up failed; it says above why")
        return cls()

    @classmethod
    def build_image(cls, source: Path = ROOT, image: str = "holdfast:e2e") -> None:
        """Build Holdfast's image of this tree and load it on every node; ClusterError when that fails."""
        finished = subprocess.run(
            [str(SCRIPT), "image"],
            env={**os.environ, "HOLDFAST_SOURCE": str(source), "HOLDFAST_IMAGE": image},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=False,
        )
        if finished.returncode != 0:
            raise ClusterError("scripts/cluster image failed; it says above why")

    # ----- commands -----

    def kubectl(self, *words: str, stdin: str | None = None, seconds: float = COMMAND_SECONDS) -> str:
        """What kubectl prints; ClusterError when it fails."""
        return run([self._kubectl, "--kubeconfig", str(self.kubeconfig), *words], stdin, seconds)

    def get(self, *words: str) -> dict[str, Any]:
        """`kubectl get` as an object: get("pod", "web", "-n", "default")."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "--output", "json"))
        return found

    def items(self, *words: str) -> list[dict[str, Any]]:
        """`kubectl get` of a list."""
        found: list[dict[str, Any]] = self.get(*words)["items"]
        return found

    def apply(self, manifest: str) -> str:
        """`kubectl apply` of YAML."""
        return self.kubectl("apply", "--filename", "-", stdin=manifest)

    def delete(self, manifest: str) -> str:
        """`kubectl delete` of what YAML describes; what is not there is no error."""
        return self.kubectl("delete", "--ignore-not-found", "--filename", "-", stdin=manifest)

    @contextlib.contextmanager
    def api(self) -> Iterator[Callable[..., dict[str, Any]]]:
        """The API server without a process for each request: `api("POST", path, object)` gives what it answers.

        What the block is given raises ClusterError with the answer where that is no success.
        """
        proxy = subprocess.Popen(
            [self._kubectl, "--kubeconfig", str(self.kubeconfig), "proxy", "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert proxy.stdout is not None
        try:
            host, _, port = proxy.stdout.readline().split()[-1].partition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=COMMAND_SECONDS)

            def ask(method: str, path: str, body: object = None) -> dict[str, Any]:
                kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
                connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": kind})
                answer = connection.getresponse()
                said = answer.read()
                if answer.status >= 300:
                    raise ClusterError(f"{method} {path}: {answer.status}: {said.decode(errors='replace')}")
                found: dict[str, Any] = json.loads(said)
                return found

            yield ask
            connection.close()
        finally:
            proxy.kill()
            proxy.wait()
            proxy.stdout.close()

    def helm(self, *words: str, seconds: float = COMMAND_SECONDS) -> str:
        """What helm prints; ClusterError when it fails."""
        return run([self._helm, "--kubeconfig", str(self.kubeconfig), *words], seconds=seconds)

    def node_exec(self, node: str, *command: str, stdin: str | None = None) -> str:
        """What a command prints on a node; ClusterError when it fails."""
        return run(["docker", "exec", *(["-i"] if stdin is not None else []), node, *command], stdin)

    # ----- nodes and their link -----

    def nodes(self) -> list[Node]:
        """Every node that docker has, running or not; ordered by name."""
        names = run(
            [
                "docker",
                "ps",
                "--all",
                "--filter",
                "label=io.x-k8s.kind.cluster=holdfast",
                "--format",
                "{{.Names}}",
            ]
        ).split()
        found = [self._killed.get(name) or self._inspect(name) for name in names]
        return sorted(found, key=lambda node: node.name)

    def _inspect(self, name: str) -> Node:
        container = json.loads(run(["docker", "inspect", name]))[0]
        place = container["NetworkSettings"]["Networks"][self._network]
        if not place["IPAddress"]:
            raise ClusterError(f"node {name} does not run, so that it has no address; start it: docker start {name}")
        return Node(
            name=name,
            is_control_plane=container["Config"]["Labels"]["io.x-k8s.kind.role"] == "control-plane",
            address=IPv4Address(place["IPAddress"]),
            address_v6=IPv6Address(place["GlobalIPv6Address"]) if place["GlobalIPv6Address"] else None,
            mac=place["MacAddress"],
        )

    def workers(self) -> list[Node]:
        """The nodes that run no control plane."""
        return [node for node in self.nodes() if not node.is_control_plane]

    def control_plane(self) -> Node:
        """The node that runs the API server."""
        return next(node for node in self.nodes() if node.is_control_plane)

    def node(self, name: str) -> Node:
        """The node of that name; ClusterError when there is none."""
        for node in self.nodes():
            if node.name == name:
                return node
        raise ClusterError(f"no node {name}")

    def segment(self) -> Segment:
        """The link that the nodes are on."""
        network = json.loads(run(["docker", "network", "inspect", self._network]))[0]
        found = {6 if ":" in part["Subnet"] else 4: part for part in network["IPAM"]["Config"]}
        subnet = IPv4Network(found[4]["Subnet"])
        return Segment(
            network=self._network,
            interface=network["Options"].get("com.docker.network.bridge.name", f"br-{network['Id'][:12]}"),
            subnet=subnet,
            gateway=IPv4Address(found[4]["Gateway"]),
            container_range=IPv4Network(found[4].get("IPRange") or subnet),
            subnet_v6=IPv6Network(found[6]["Subnet"]) if 6 in found else None,
        )

    def free_address(self) -> str:
        """An IPv4 address of the segment that no node has, and that was not given before."""
        return self.free_addresses(1)[0]

    def free_addresses(self, count: int) -> list[str]:
        """So many of them, with one look at the nodes."""
        segment = self.segment()
        used = {node.address for node in self.nodes()} | {segment.gateway} | set(self._addresses_on_nodes())
        used |= self._handed_out
        new = (address for address in segment.subnet.hosts() if address not in segment.container_range)
        free = [address for address in new if address not in used and address not in self._given_back]
        free += [address for address in self._given_back if address not in used]
        found = free[:count]
        if len(found) < count:
            raise ClusterError(f"{count} addresses of {segment.subnet} are not free")
        self._handed_out.update(found)
        for address in found:
            self._given_back.pop(address, None)
        return [str(address) for address in found]

    def give_back(self, addresses: Iterable[str]) -> None:
        """They may be given again: there are 126 of IPv4. Those of IPv6 are as many as anybody wants."""
        for address in map(ip_address, addresses):
            if isinstance(address, IPv4Address):
                self._handed_out.discard(address)
                self._given_back[address] = None

    def free_address_v6(self) -> str:
        """The same for IPv6; ClusterError where the nodes' link has none."""
        subnet = self.segment().subnet_v6
        if subnet is None:
            raise ClusterError("the nodes' link has no IPv6")
        used = self._addresses_on_nodes()
        for number in itertools.count(0x1000):
            address = subnet[number]
            if address not in used and address not in self._handed_out:
                self._handed_out.add(address)
                break
        return str(address)

    def addresses_of(self, name: str) -> set[str]:
        """Every address that a running node's kernel has."""
        return {str(address) for address in self._addresses_of(name)}

    def _addresses_on_nodes(self) -> dict[IPv4Address | IPv6Address, str]:
        return {address: node.name for node in self._running() for address in self._addresses_of(node.name)}

    def _addresses_of(self, name: str) -> Iterator[IPv4Address | IPv6Address]:
        for word in re.findall(r"inet6? ([0-9a-f.:]+)", self.node_exec(name, "ip", "-oneline", "address", "show")):
            yield IPv6Address(word) if ":" in word else IPv4Address(word)

    def _running(self) -> list[Node]:
        names = set(run(["docker", "ps", "--filter", "status=running", "--format", "{{.Names}}"]).split())
        return [node for node in self.nodes() if node.name in names]

    def holders(self, address: str) -> list[str]:
        """The running nodes whose kernel has the address."""
        sought = IPv6Address(address) if ":" in address else IPv4Address(address)
        return [node.name for node in self._running() if sought in self._addresses_of(node.name)]

    # ----- what may happen to a node -----

    def in_network_of(self, name: str, *command: str) -> list[str]:
        """The command line that runs a command of this machine in a node's network."""
        return ["nsenter", f"--net=/proc/{self.process_of(name)}/ns/net", *command]

    def kill_node(self, name: str) -> None:
        """Power off: `docker kill`. The node gets its addresses back when it is started, whoever starts before it."""
        node = self.node(name)
        run(["docker", "kill", name])
        self._killed[name] = node
        run(["docker", "network", "disconnect", "--force", self._network, name])
        addresses = ["--ip", str(node.address)]
        if node.address_v6 is not None:
            addresses += ["--ip6", str(node.address_v6)]
        run(["docker", "network", "connect", *addresses, self._network, name])

    def start_node(self, name: str, *, wait_until_ready: bool = True) -> None:
        """Power on, and wait until the node is Ready again; a node that runs is only waited for."""
        started = datetime.now(UTC)
        was_running = name in [node.name for node in self._running()]
        run(["docker", "start", name])
        self._killed.pop(name, None)
        if wait_until_ready:
            self.wait_until_ready(name, since=None if was_running else started)

    def pause_node(self, name: str) -> None:
        """Freeze every process on a node: `docker pause`. Its kernel goes on, and answers pings and connections."""
        run(["docker", "pause", name])

    def unpause_node(self, name: str) -> None:
        """Let a frozen node go on."""
        run(["docker", "unpause", name])

    def process_of(self, name: str) -> int:
        """The process, as this machine counts them, that a running node begins with: the door to its namespaces."""
        return int(run(["docker", "inspect", "--format", "{{.State.Pid}}", name]))

    @contextlib.contextmanager
    def cordoned(self, name: str) -> Iterator[None]:
        """`kubectl cordon`, and `kubectl uncordon` afterwards."""
        self.kubectl("cordon", name)
        try:
            yield
        finally:
            self.kubectl("uncordon", name)

    @contextlib.contextmanager
    def cut_off(self, name: str) -> Iterator[None]:
        """Nothing that runs on a node reaches the API server; packets are lost, nobody is told."""
        server = self.control_plane().address
        rules = f"""table inet holdfast_test {{
            chain leaving {{
                type filter hook output priority 10
                ip daddr {server} tcp dport 6443 drop
            }}
        }}"""
        self.node_exec(name, "nft", "--file", "-", stdin=rules)
        try:
            yield
        finally:
            self.node_exec(name, "nft", "delete", "table", "inet", "holdfast_test")

    def register_node(self, name: str) -> None:
        """Have a node whose Node object was deleted join again: its kubelet registers when it starts."""
        self.node_exec(name, "systemctl", "restart", "kubelet")
        self.wait_for(lambda: self.get("node", name)["spec"].get("podCIDR"), NODE_SECONDS, f"{name} has pods' network")
        # It is another one than before, and the bridge still has an address of that.
        self.node_exec(name, "sh", "-c", "! ip link show dev pods >/dev/null 2>&1 || ip link delete pods")
        self.put_back_pod_network()
        self.wait_until_ready(name)

    def put_back_pod_network(self) -> None:
        """Every node's bridge and routes for pods, by what the Node objects say."""
        run([str(SCRIPT), "network"])

    def wait_until_ready(self, name: str, *, since: datetime | None = None) -> None:
        """Wait for condition Ready, and that the kubelet has started the pods of DaemonSets after `since`.

        Until it has looked at them, the API server tells what they were before: ready.
        """

        def is_ready() -> bool:
            if since is not None and not self._has_started_again(name, since.replace(microsecond=0)):
                return False
            conditions = self.get("node", name)["status"]["conditions"]
            return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)

        self.wait_for(is_ready, NODE_SECONDS, f"node {name} Ready")

    def _has_started_again(self, name: str, since: datetime) -> bool:
        lease = self.get("lease", name, "--namespace", "kube-node-lease")
        pods = self.items("pods", "--all-namespaces", "--field-selector", f"spec.nodeName={name}")
        containers = [
            container
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            and any(owner["kind"] == "DaemonSet" for owner in pod["metadata"].get("ownerReferences", ()))
            for container in pod["status"].get("containerStatuses", ())
        ]
        started = [container["state"].get("running", {}).get("startedAt") for container in containers]
        return (
            datetime.fromisoformat(lease["spec"]["renewTime"]) >= since
            and all(at is not None and datetime.fromisoformat(at) >= since for at in started)
            and all(container["ready"] for container in containers)
        )

    # ----- the API server -----

    def stop_api_server(self) -> None:
        """Take its static pod away and kill the process, which would end only when its last watch does."""
        name = self.control_plane().name
        self.node_exec(name, "mv", _MANIFEST, _MANIFEST_AWAY)
        # The kubelet may start it once more before it sees that the manifest is gone.
        kill = "pkill -KILL -x kube-apiserver; sleep 1; pgrep -x kube-apiserver >/dev/null || echo gone"
        self.wait_for(lambda: self.node_exec(name, "sh", "-c", kill), NODE_SECONDS, "the API server's end")

    def start_api_server(self) -> None:
        """Put its static pod back, and wait until it is ready; one that runs is only waited for."""
        # With another annotation it is another pod to the kubelet, so that no back-off delays it.
        mark = f's|^  annotations:$|&\\n    holdfast.dev/started: "{time.time_ns()}"|'
        script = f"""[ ! -f {_MANIFEST_AWAY} ] || {{
            sed -i -e '/holdfast.dev.started:/d' -e '{mark}' {_MANIFEST_AWAY} && mv {_MANIFEST_AWAY} {_MANIFEST}
        }}"""
        self.node_exec(self.control_plane().name, "sh", "-c", script)
        self.wait_for(lambda: "ok" in self.kubectl("get", "--raw=/readyz"), NODE_SECONDS, "the API server's readiness")

    @contextlib.contextmanager
    def without_api_server(self) -> Iterator[None]:
        """No API server inside."""
        self.stop_api_server()
        try:
            yield
        finally:
            self.start_api_server()

    # ----- waiting, and what is left when a test fails -----

    def wait_for(self, condition: Callable[[], Found], seconds: float, what: str) -> Found:
        """Look again and again until the condition tells something; its value.

        A command that fails meanwhile is one more reason to wait. ClusterError with what was seen last.
        """
        end = time.monotonic() + seconds
        while True:
            seen: object
            try:
                found = condition()
            except ClusterError as error:
                seen = error
            else:
                if found:
                    return found
                seen = found
            if time.monotonic() > end:
                raise ClusterError(f"not within {seconds:g} s: {what} (last seen: {seen})")
            time.sleep(0.1)

    def restore(self) -> None:
        """Undo whatever a test left: every node runs and is Ready, and so does the API server."""
        running = {node.name for node in self._running()}
        absent: dict[str, datetime | None] = {}
        for node in self.nodes():
            if node.name in running:
                continue
            if json.loads(run(["docker", "inspect", node.name]))[0]["State"]["Paused"]:
                absent[node.name] = None
                self.unpause_node(node.name)
            else:
                absent[node.name] = datetime.now(UTC)
                self.start_node(node.name, wait_until_ready=False)
        self.start_api_server()
        for name, since in absent.items():
            self.wait_until_ready(name, since=since)

    def repair_services(self) -> list[str]:
        """Have kube-proxy write its rules anew on nodes that do not reach the API server as pods do; those nodes.

        In nftables mode it was seen to lose the Service's address on two nodes of four, and it does not look again.
        """
        address = self.get("service", "kubernetes", "--namespace", "default")["spec"]["clusterIP"]
        broken = []
        for node in self._running():
            try:
                self.node_exec(node.name, "timeout", "5", "bash", "-c", f"exec 3<>/dev/tcp/{address}/443")
            except ClusterError:
                broken.append(node.name)
                select = ["--selector", "k8s-app=kube-proxy", "--field-selector", f"spec.nodeName={node.name}"]
                self.kubectl("delete", "pod", "--namespace", "kube-system", *select)
        return broken

    def collect_logs(self, folder: Path) -> None:
        """Write what every node and pod says into files in the folder; what cannot be had says why instead."""
        folder.mkdir(parents=True, exist_ok=True)

        def keep(name: str, command: list[str]) -> str:
            try:
                said = run(command, seconds=60)
            except ClusterError as error:
                said = f"{error}\n"
            (folder / name).write_text(said, encoding="utf-8")
            return said

        kubectl = [self._kubectl, "--kubeconfig", str(self.kubeconfig), "--request-timeout=20s"]
        keep("objects.txt", [*kubectl, "get", "nodes,pods,daemonsets,deployments,leases", "-A", "-o", "wide"])
        keep("events.txt", [*kubectl, "get", "events", "-A", "--sort-by=.metadata.creationTimestamp"])
        keep("holdfast.yaml", [*kubectl, "get", "holdfast", "-A", "-o", "yaml"])
        keep("describe-nodes.txt", [*kubectl, "describe", "nodes"])
        keep("describe-pods.txt", [*kubectl, "describe", "pods", "-A"])
        for node in self.nodes():
            for unit in ("kubelet", "containerd"):
                keep(
                    f"{node.name}-{unit}.log",
                    ["docker", "exec", node.name, "journalctl", "--no-pager", "-u", unit],
                )
            look = "ip address; ip route; ip -6 route; ip neighbour; nft list ruleset"
            keep(f"{node.name}-network.txt", ["docker", "exec", node.name, "sh", "-c", look])
            keep(f"{node.name}-container.txt", ["docker", "inspect", node.name])
            # The files themselves: they are there when the API server is not, and of pods that are gone.
            logs = "cd /var/log/pods && find . -name '*.log' | xargs -r tail -n 2000 -v"
            keep(f"{node.name}-pods.log", ["docker", "exec", node.name, "sh", "-c", logs])
