"""A cluster without machines, for the bench: a kube-apiserver with etcd, the operator, agents, others' words."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError

from bench.cluster_lines import Child
from bench.cluster_size import Size

from holdfast_api.errors import EnvironmentFailure
from holdfast_testing.api_server import LocalAPIServer, Programs, local_api_server
from holdfast_testing.holdfast_objects import API, NAMESPACE, OPERATOR, SPEAKER, virtual_ip
from holdfast_testing.installed_chart import install_chart, render_chart

WRITTEN = frozenset({"speakerconfigs", "speakerconfigs/status", "virtualips/status", "events", "addresspools/status"})
"""What operator and agents write, except the Lease; `virtualips` themselves are the bench's."""
_WRITES = frozenset({"APPLY", "PATCH", "POST", "PUT", "DELETE"})
_SAMPLE = re.compile(r"(\w+)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_ANSWERS_WITHIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What the API server has done so far."""

    writes: Counter[str]
    """Those that were taken, by resource/subresource: of what is WRITTEN."""
    lists: int
    listed_bytes: float
    """Of all lists, as they were sent: compressed."""

    def __sub__(self, before: Counts) -> Counts:
        """What was done in between."""
        return Counts(self.writes - before.writes, self.lists - before.lists, self.listed_bytes - before.listed_bytes)


def counts_of(metrics: str) -> Counts:
    """From the API server's /metrics."""
    writes: Counter[str] = Counter()
    lists, listed = 0, 0.0
    for line in metrics.splitlines():
        if not line.startswith(("apiserver_request_total{", "apiserver_response_sizes_sum{")):
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            continue
        labels, value = dict(_LABEL.findall(match[2])), float(match[3])
        resource = "/".join(filter(None, (labels.get("resource"), labels.get("subresource"))))
        if match[1] == "apiserver_response_sizes_sum":
            listed += value if labels["verb"] == "LIST" else 0.0
        elif labels["verb"] == "LIST":
            lists += int(value)
        elif labels["verb"] in _WRITES and labels["code"] in ("200", "201") and resource in WRITTEN:
            writes[resource] += int(value)
    return Counts(writes, lists, listed)


@dataclass(slots=True)
class Operator:
    """Its process."""

    process: subprocess.Popen[bytes]
    port: int

    def metric(self, name: str) -> float:
        """A sample without or with labels, as its line begins; 0 while nothing is served."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except (URLError, OSError):
            return 0.0
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


@dataclass(slots=True)
class World:
    """It runs."""

    size: Size
    folder: Path
    server: LocalAPIServer
    operator: Operator
    agents: Child
    others: Child
    alone: subprocess.Popen[bytes]
    """The agent that is a process of its own."""
    joining: int
    """The number of the next node that joins."""
    tokens: dict[str, str] = field(default_factory=dict)

    def counts(self) -> Counts:
        """So far."""
        request = urllib.request.Request(
            f"{self.server.url}/metrics", headers={"Authorization": f"Bearer {self.server.admin.token}"}
        )
        with urllib.request.urlopen(request, context=self.server.admin.context, timeout=30) as answer:
            return counts_of(answer.read().decode())

    def settle(self, quiet_seconds: float = 4.0, at_most_seconds: float = 900.0) -> None:
        """Wait until nobody has written for so long."""
        before, since, end = self.counts().writes, time.monotonic(), time.monotonic() + at_most_seconds
        while time.monotonic() - since < quiet_seconds:
            time.sleep(0.5)
            now = self.counts().writes
            if now != before:
                before, since = now, time.monotonic()
            if time.monotonic() > end:
                raise EnvironmentFailure(f"it does not settle within {at_most_seconds:g} s")

    def status(self, vip: str) -> dict[str, Any]:
        """What the operator says of a VIP."""
        namespace, _, name = vip.partition("/")
        found: dict[str, Any] = self.server.admin.get(f"{API}/namespaces/{namespace}/virtualips/{name}")
        return found.get("status") or {}

    def wait_for_holders(self, holders: dict[str, str], at_most_seconds: float) -> None:
        """Until every VIP's status names this node; no list is asked for."""
        end = time.monotonic() + at_most_seconds
        for vip, holder in holders.items():
            while self.status(vip).get("holder") != holder:
                if time.monotonic() > end:
                    raise EnvironmentFailure(f"{vip} is not held by {holder}: {self.status(vip)}")
                time.sleep(0.05)

    def report(self) -> dict[str, dict[str, float]]:
        """What each agent has read since the last report."""
        self.agents.say(do="report")
        line = self.agents.wait_for(lambda news: "report" in news, _ANSWERS_WITHIN_SECONDS)
        if line is None:
            raise EnvironmentFailure("the agents do not answer")
        found: dict[str, dict[str, float]] = line["report"]
        return found

    def say_ready(self, name: str, *, ready: bool) -> None:
        """What the kubelet, or in its absence the control plane, says of the speaker's pod."""
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/speaker-{name}/status"
        self.server.admin.merge(path, {"status": {"phase": "Running", "conditions": [condition]}})

    def promote(self, name: str) -> None:
        """A node takes over all that it runs."""
        if name in self.size.agent_names:
            self.agents.say(do="promote", node=name)
        else:
            self.others.say(do="promote", node=name)

    def restart_operator(self) -> float:
        """End it in good order and start it anew; returns when, in monotonic seconds."""
        self.operator.process.terminate()
        self.operator.process.wait()
        began = time.monotonic()
        self.operator = start_operator(self.folder)
        return began


def make_node(server: LocalAPIServer, size: Size, number: int) -> None:
    """A Node and its speaker's pod, both ready."""
    name, admin = size.node(number), server.admin
    address = size.address(number).partition("/")[0]
    server.make_pod(NAMESPACE, f"speaker-{name}", SPEAKER, name)
    ready = [{"type": "Ready", "status": "True"}]
    addresses = [{"type": "InternalIP", "address": address}]
    admin.merge(f"/api/v1/nodes/{name}/status", {"status": {"addresses": addresses, "conditions": ready}})
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/speaker-{name}"
    admin.merge(path, {"metadata": {"labels": {"app.kubernetes.io/component": "speaker"}}})
    admin.merge(f"{path}/status", {"status": {"phase": "Running", "conditions": ready}})


def start_operator(folder: Path) -> Operator:
    """The operator itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "holdfast_operator", "--namespace", NAMESPACE]
    command += ["--health-address", f"127.0.0.1:{port}"]
    environment = os.environ | {"KUBECONFIG": str(folder / "operator.kubeconfig")}
    with (folder / "operator.log").open("ab") as log:
        return Operator(subprocess.Popen(command, env=environment, stdout=log, stderr=log), port)


def _kubeconfig(folder: Path, server: LocalAPIServer, name: str, token: str) -> Path:
    path = folder / f"{name}.kubeconfig"
    path.write_text(server.kubeconfig(token), encoding="utf-8")
    return path


def _write_nodes(folder: Path, server: LocalAPIServer, size: Size, joins: int) -> None:
    """Who plays which node."""
    agents, others = [], []
    for number in range(size.nodes + joins):
        name = size.node(number)
        one: dict[str, object] = {"node": name, "address": size.address(number), "holds": number < size.links}
        if number >= size.agents:
            others.append(one)
            continue
        token = server.service_account_token(NAMESPACE, SPEAKER, f"speaker-{name}")
        path = _kubeconfig(folder, server, name, token)
        agents.append({**one, "kubeconfig": str(path), "agent": number < size.agents - 1 or size.agents == 1})
    (folder / "agents.json").write_text(json.dumps(agents), encoding="utf-8")
    (folder / "others.json").write_text(json.dumps(others), encoding="utf-8")


@contextlib.contextmanager
def world(programs: Programs, size: Size, folder: Path, joins: int, say: Callable[[str], None]) -> Iterator[World]:
    """It runs inside, with every VIP held; `joins` nodes may join."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(local_api_server(programs))
        install_chart(server, render_chart(programs))
        say("making nodes and VirtualIPs")
        for number in range(size.nodes):
            make_node(server, size, number)
        for number in range(size.vips):
            namespace, _, name = size.vip(number).partition("/")
            made = virtual_ip(
                name, namespace, addresses=[size.vip_address(number)], advertisementIntervalMilliseconds=100
            )
            server.admin.create(f"{API}/namespaces/{namespace}/virtualips", made)
        _write_nodes(folder, server, size, joins)
        _kubeconfig(folder, server, "admin", server.admin.token)
        _kubeconfig(folder, server, "operator", server.service_account_token(NAMESPACE, OPERATOR))
        children = {}
        for name in ("agents", "others"):
            command = [sys.executable, "-m", f"bench.cluster_{name}", str(folder)]
            children[name] = Child(name, command, folder / f"{name}.log")
            stack.callback(children[name].end)
            if children[name].wait_for(lambda news: "started" in news, _ANSWERS_WITHIN_SECONDS) is None:
                raise EnvironmentFailure(f"{name} do not start")
        alone = _start_alone(folder, size.node(size.agents - 1))
        stack.callback(_end, alone)
        made_world = World(
            size, folder, server, start_operator(folder), children["agents"], children["others"], alone, size.nodes
        )
        stack.callback(lambda: _end(made_world.operator.process))
        say("waiting until every VIP is held")
        made_world.wait_for_holders(size.holders, 1800)
        made_world.settle()
        yield made_world


def _start_alone(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """An agent as it is in its pod."""
    place = folder / name
    command = [sys.executable, "-m", "holdfast_speaker.agent", "--node-name", name, "--metrics-address", ""]
    command += ["--state-dir", str(place / "run"), "--cache-dir", str(place / "cache")]
    command += ["--kubeconfig", str(folder / f"{name}.kubeconfig"), "--log-level", "warning"]
    with (folder / "alone.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
