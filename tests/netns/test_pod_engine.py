"""The engine as a pod has it: no supervisor, the first process of its container, told what to run by another user."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.keepalived import Keepalived, require_keepalived
from holdfast_testing.messy import Probes
from holdfast_testing.namespaces import Namespace

pytestmark = [pytest.mark.netns, pytest.mark.alone]

VIP = "10.77.0.200"
AGENT_GROUP = 65533
_AGENT = f"""
import os, socket, sys
os.setgroups([]); os.setgid({AGENT_GROUP}); os.setuid(65532)
stream = socket.socket(socket.AF_UNIX); stream.settimeout(5); stream.connect(sys.argv[1])
stream.sendall(sys.stdin.buffer.read()); print(stream.makefile().readline(), end="")
"""


def router(**fields: Any) -> dict[str, Any]:
    return {
        "name": "shop/web",
        "addresses": [f"{VIP}/24"],
        "virtualRouterID": 51,
        "advertisementIntervalMilliseconds": 100,
        **fields,
    }


def configuration(node: str, generation: int = 1, **fields: Any) -> dict[str, Any]:
    return {"nodeName": node, "generation": generation, "virtualRouters": [router(**fields)]}


class Pod:
    """A speaker pod's engine container, and what its agent says to it."""

    def __init__(self, host: Host, folder: Path, client: Namespace) -> None:
        self.host = host
        self.client = client
        self.folder = folder

    def start(self, *more: str) -> subprocess.Popen[str]:
        engine = [sys.executable, "-P", "-m", "holdfast_speaker.host", f"--node-name={self.host.name}"]
        options = [f"--state-dir={self.folder}", f"--agent-group={AGENT_GROUP}", "--step-aside-milliseconds=2000"]
        # The first process of a PID namespace, and the one that --kill-child leaves no orphan of.
        container = ["unshare", "--pid", "--fork", "--kill-child"]
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            return self.host.namespace.start(
                [*container, *engine, *options, *more], stderr=log, stdin=subprocess.DEVNULL
            )

    def say(self, message: dict[str, Any]) -> dict[str, Any]:
        """What the engine answers a client that is not root."""
        told = subprocess.run(
            [sys.executable, "-P", "-c", _AGENT, str(self.folder / "engine.sock")],
            input=json.dumps(message) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        answer: dict[str, Any] = json.loads(told.stdout) if told.stdout else {"type": "NoAnswer", "why": told.stderr}
        return answer

    def configure(self, generation: int = 1, **fields: Any) -> dict[str, Any]:
        return self.say({"type": "Configure", "configuration": configuration(self.host.name, generation, **fields)})

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def state(self) -> str:
        routers = self.say({"type": "GetStatus"}).get("routers", [])
        return str(routers[0]["state"]) if routers else ""


def received(pod: Pod) -> int:
    return int(pod.say({"type": "GetStatus"})["routers"][0]["counters"].get("advertisement-rcvd", 0))


def stop(container: subprocess.Popen[str]) -> int:
    """SIGTERM to the container's first process, as a container runtime sends it."""
    child = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text(encoding="ascii").split()[0]
    subprocess.run(["kill", "-TERM", child], check=True)
    return container.wait(timeout=10)


@pytest.fixture
def pods(segment: Any) -> Iterator[list[Pod]]:
    # Not below pytest's own folder, which only root can enter.
    with tempfile.TemporaryDirectory(prefix="holdfast-pod-") as folder:
        Path(folder).chmod(0o755)
        made = []
        lan = segment("n1", "n2")
        for host in lan.hosts:
            (Path(folder) / host.name).mkdir(mode=0o755)
            made.append(Pod(host, Path(folder) / host.name, lan.client))
        yield made


def test_an_agent_that_is_not_root_configures_the_engine_and_a_bad_configuration_stops_nothing(pods: list[Pod]) -> None:
    n1, _ = pods
    container = n1.start()
    eventually(lambda: n1.configure()["type"] == "Done", "the engine is configured")
    eventually(lambda: n1.state() == "Master", "it holds the VIP")
    refused = n1.configure(2, addresses=["10.77.0.300"])
    assert refused == {
        "type": "Refused",
        "reason": "virtualRouters[0].addresses[0]: '10.77.0.300' is no IP address",
    }
    assert n1.say({"type": "GetStatus"})["generation"] == 1
    assert n1.host.has(VIP)
    assert stop(container) == 0
    assert not n1.host.has(VIP)


def test_an_engine_tells_its_links_with_their_own_addresses_and_soon_after_they_changed(pods: list[Pod]) -> None:
    n1, _ = pods

    def told() -> dict[str, list[str]]:
        return {link["name"]: link["addresses"] for link in n1.say({"type": "GetStatus"}).get("links") or []}

    n1.start()
    eventually(lambda: n1.configure()["type"] == "Done", "the engine is configured")
    eventually(lambda: n1.host.has(VIP), "it holds the VIP")
    assert list(told()) == ["eth0"]
    assert VIP not in str(told())
    n1.host.namespace.ip("address add 10.78.0.7/28 dev eth0")
    eventually(lambda: "10.78.0.7/28" in told()["eth0"], "the new address is told")


def test_what_is_outside_of_its_networks_an_engine_does_not_hold_nor_inherit_nor_start_with(pods: list[Pod]) -> None:
    n1, _ = pods
    container = n1.start()
    eventually(lambda: n1.configure()["type"] == "Done", "the engine is configured")
    eventually(lambda: n1.host.has(VIP), "it holds the VIP")
    n1.start("--allowed-network=10.77.0.0/25,fd00::/8")
    eventually(lambda: "waiting until it ends" in n1.log, "the successor waits")
    stop(container)
    eventually(lambda: n1.state() == "Initialize", "the successor has begun")
    assert not n1.host.has(VIP)
    (router,) = n1.say({"type": "GetStatus"})["routers"]
    assert router["obstacles"] == ["AddressNotPermitted"]
    assert router["obstacleDetail"] == (
        f"{VIP} is in none of the networks that this engine may hold: 10.77.0.0/25, fd00::/8"
    )
    assert n1.configure(2, addresses=["10.77.0.99/24"])["type"] == "Done"
    eventually(lambda: n1.host.has("10.77.0.99"), "what is inside is held")


def test_an_engine_in_a_pod_does_not_take_its_own_gateway(pods: list[Pod]) -> None:
    n1, _ = pods
    n1.host.namespace.ip(f"route add default via {VIP} dev eth0")
    n1.start()
    eventually(lambda: n1.configure(conflictDetection="Warn")["type"] == "Done", "the engine is configured")
    eventually(lambda: n1.state() == "Initialize", "it is refused")
    (link,) = n1.say({"type": "GetStatus"})["links"]
    assert link["nextHops"] == [VIP]
    time.sleep(2)
    assert not n1.host.has(VIP)
    n1.host.namespace.ip("route delete default")
    eventually(lambda: n1.host.has(VIP), "no route leads through it any more")


def test_a_network_that_is_none_is_one_line(pods: list[Pod]) -> None:
    n1, _ = pods
    assert n1.start("--allowed-network=10.77.0.5/24").wait(timeout=20) == 2
    assert n1.log.splitlines()[-1] == (
        "holdfast-engine: error: argument --allowed-network: 10.77.0.5/24 has host bits set"
    )


def test_an_engine_starts_from_the_last_good_configuration_when_no_agent_is_there(pods: list[Pod]) -> None:
    n1, _ = pods
    container = n1.start()
    eventually(lambda: n1.configure()["type"] == "Done", "the engine is configured")
    stop(container)
    n1.start()
    eventually(lambda: n1.host.has(VIP), "it holds the VIP again", 15)


def test_a_successor_that_waits_ends_when_told_to(pods: list[Pod]) -> None:
    n1, _ = pods
    n1.start()
    eventually(lambda: n1.configure()["type"] == "Done", "the engine is configured")
    successor = n1.start()
    eventually(lambda: "waiting until it ends" in n1.log, "the successor waits")
    assert stop(successor) == 0
    assert n1.state() != ""


def test_a_rolling_update_moves_nothing(pods: list[Pod]) -> None:
    n1, n2 = pods
    containers = {}
    for pod in (n1, n2):
        containers[pod] = pod.start()
        eventually(lambda pod=pod: pod.configure()["type"] == "Done", "the engine is configured")
        eventually(lambda pod=pod: pod.state() in ("Master" if pod is n1 else "Backup"), "the election is over")
    for pod in (n1, n2):
        waiting = pod.log.count("waiting until it ends")
        pod.start()
        eventually(lambda pod=pod, waiting=waiting: pod.log.count("waiting until it ends") > waiting, "it waits")
        assert stop(containers[pod]) == 0
        eventually(lambda pod=pod: pod.state() != "", "the successor runs")
    assert (n1.state(), n2.state()) == ("Master", "Backup")
    assert all(pod.say({"type": "GetStatus"})["routers"][0]["transitions"] <= 1 for pod in (n1, n2))


@pytest.mark.parametrize("when_failing", ["Degrade", "Release"])
def test_a_node_that_is_emptied_hands_over_and_goes_on_alone(pods: list[Pod], when_failing: str) -> None:
    n1, n2 = pods
    n1.start()
    eventually(lambda: n1.configure(whenFailing=when_failing)["type"] == "Done", "the engine is configured")
    eventually(lambda: n1.state() == "Master", "n1 holds the VIP")
    draining = {"whenFailing": when_failing, "draining": True}
    assert n1.configure(2, **draining)["type"] == "Done"
    assert n1.state() == "Master", "nobody else is there"
    second = n2.start()
    eventually(lambda: n2.configure(whenFailing=when_failing)["type"] == "Done", "the engine is configured")
    eventually(lambda: n2.host.has(VIP) and not n1.host.has(VIP), "n2 holds the VIP")
    assert n1.configure(3, whenFailing=when_failing)["type"] == "Done"
    assert (n1.state(), n2.state()) == ("Backup", "Master"), "a node that is back takes nothing"
    second.send_signal(signal.SIGKILL)
    eventually(lambda: n1.host.has(VIP), "n1 holds the VIP again", 5)


def test_what_is_tracked_counts_also_on_a_node_that_is_emptied(pods: list[Pod]) -> None:
    n1, _ = pods
    n1.start()
    tracked = {"tracksServices": True, "whenFailing": "Release"}
    eventually(lambda: n1.configure(**tracked)["type"] == "Done", "the engine is configured")
    health = {"type": "ReportHealth", "virtualIP": "shop/web", "health": "Healthy"}
    assert n1.say(health)["type"] == "Done"
    eventually(lambda: n1.state() == "Master", "n1 holds the VIP")
    n1.configure(2, draining=True, **tracked)
    assert n1.state() == "Master", "nobody else is there"
    n1.say({**health, "health": "Failing", "detail": "0 of 1 pods are ready"})
    eventually(lambda: n1.state() == "Initialize", "with Release, nobody holds what nobody serves")
    assert not n1.host.has(VIP)


def test_the_vrids_of_strangers_are_told_on_links_with_and_without_a_vip(pods: list[Pod]) -> None:
    n1, n2 = pods
    for pod in pods:
        pod.start()
    heard = {"eth0": [77]}
    eventually(lambda: n2.configure(virtualRouterID=77)["type"] == "Done", "a router that n1 does not run")
    eventually(lambda: n1.configure(addresses=["10.99.0.1/24"])["type"] == "Done", "n1 has no VIP on any link")
    eventually(lambda: n1.say({"type": "GetStatus"})["foreignVirtualRouterIDs"] == heard, "overheard")
    eventually(lambda: n1.configure(2, addresses=["10.77.0.201/24"])["type"] == "Done", "n1 has one on that link")
    eventually(lambda: n1.state() == "Master", "it holds its own")
    assert n1.say({"type": "GetStatus"})["foreignVirtualRouterIDs"] == heard
    eventually(lambda: n2.say({"type": "GetStatus"})["foreignVirtualRouterIDs"] == {"eth0": [51]}, "and it is heard")
    eventually(lambda: n1.configure(3, virtualRouterID=77)["type"] == "Done", "n1 joins")
    eventually(lambda: n1.state() == "Backup", "and hears the Master")
    before = received(n1)
    time.sleep(2.0)
    assert received(n1) - before < 30, "each of some 20 advertisements is heard once"


_KEEPALIVED = """
import socket, time
from holdfast_speaker.vrrp.packet import encode
source, group = bytes((10, 77, 0, 11)), bytes((224, 0, 0, 18))
sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
sender.bind(("10.77.0.11", 0))
while True:
    for vrid in (51, 88):
        packet = encode(3, vrid, 150, 1_000_000_000, (bytes((10, 77, 0, 210)),), source, group, None)
        sender.sendto(packet, ("224.0.0.18", 0))
    time.sleep(0.3)
"""
"""A program on n1 with virtual routers of its own: one has the VIP's VRID, the other one a VRID that nobody has."""


def test_another_program_on_a_node_is_a_stranger_to_its_own_engine_and_takes_nothing(pods: list[Pod]) -> None:
    n1, n2 = pods
    members = {"members": ["10.77.0.11", "10.77.0.12"], "foreignRouters": "Refuse"}
    for pod, priority in ((n2, 110), (n1, 100)):
        pod.start()
        eventually(lambda pod=pod: pod.configure(priority=50, **members)["type"] == "Done", "the engine is configured")
        assert pod.configure(2, priority=priority, **members)["type"] == "Done"
        eventually(lambda: n2.host.has(VIP), "n2 holds the VIP")
    n1.host.namespace.start([sys.executable, "-P", "-c", _KEEPALIVED])
    foreign = {"eth0": [51, 88]}
    eventually(lambda: n1.say({"type": "GetStatus"})["foreignVirtualRouterIDs"] == foreign, "it is told", 20)
    assert n2.state() == "Master"
    assert n2.host.has(VIP)


# ----- VirtualIPs that share a virtual router -----

MEMBERS = ["10.77.0.11", "10.77.0.12"]


def share(pod: Pod, generation: int, addresses: dict[str, str], **fields: Any) -> None:
    """Tell a pod's engine to run these VirtualIPs, one address each, with one virtual router."""
    entry = {
        "name": "51@eth0",
        "addresses": [f"{address}/24" for address in addresses.values()][:20],
        "virtualIPs": [{"name": f"shop/{name}", "addresses": [f"{address}/24"]} for name, address in addresses.items()],
        "members": MEMBERS,
        "foreignRouters": "Refuse",
        **fields,
    }
    assert pod.configure(generation, **entry)["type"] == "Done"


def states(pod: Pod) -> dict[str, str]:
    routers = pod.say({"type": "GetStatus"}).get("routers", [])
    return {str(item["virtualIP"]): str(item["state"]) for item in routers}


def test_virtual_ips_that_share_a_virtual_router_move_together_and_disturb_nobody(pods: list[Pod]) -> None:
    n1, n2 = pods
    three = {name: f"10.77.0.{number}" for name, number in (("a", 201), ("b", 202), ("c", 203))}
    container = n1.start()
    n2.start()
    for pod in pods:
        eventually(lambda pod=pod: pod.say({"type": "GetStatus"})["type"] == "Status", "the engine answers")
    share(n1, 1, three, priority=150)
    eventually(lambda: set(states(n1).values()) == {"Master"}, "n1 holds all of them")
    share(n2, 1, three)
    client = n1.client
    probes = {name: Probes(client, address) for name, address in three.items()}
    time.sleep(1.0)
    client.ip("address add 10.77.0.205/24 dev eth0")
    four = three | {"d": "10.77.0.204", "e": "10.77.0.205"}
    for generation, wanted in enumerate((four, {name: four[name] for name in "acd"} | {"e": four["e"]}), start=2):
        if generation == 3:
            assert probes.pop("b").lost() == 0
        for pod, priority in ((n2, 100), (n1, 150)):
            share(pod, generation, wanted, priority=priority)
        time.sleep(1.0)
    assert states(n1) == {"shop/a": "Master", "shop/c": "Master", "shop/d": "Master", "shop/e": "Initialize"}
    assert (n1.host.has("10.77.0.202"), n1.host.has("10.77.0.204"), n1.host.has("10.77.0.205")) == (False, True, False)
    (told,) = [one for one in n1.say({"type": "GetStatus"})["routers"] if one["virtualIP"] == "shop/e"]
    assert told["obstacles"] == ["AddressConflict"]
    assert "10.77.0.205 is in use by" in told["obstacleDetail"]
    client.ip("address del 10.77.0.205/24 dev eth0")
    eventually(lambda: n1.host.has("10.77.0.205"), "it is held when it is free", 15)
    assert {name: probe.lost() for name, probe in probes.items()} == {"a": 0, "c": 0}
    assert set(states(n2).values()) == {"Backup"}
    container.kill()
    eventually(lambda: set(states(n2).values()) == {"Master"}, "all of them move")
    assert all(n2.host.has(four[name]) for name in "acde")


def test_one_that_had_its_virtual_router_by_itself_is_joined_by_others_and_nothing_is_lost(pods: list[Pod]) -> None:
    n1, n2 = pods
    n1.start()
    n2.start()
    alone = {"name": "shop/a", "addresses": ["10.77.0.201/24"], "members": MEMBERS, "foreignRouters": "Refuse"}
    for pod, priority in ((n1, 150), (n2, 100)):
        eventually(lambda pod=pod: pod.say({"type": "GetStatus"})["type"] == "Status", "the engine answers")
        assert pod.say({"type": "GetStatus"})["sharesVirtualRouters"] is True
        assert pod.configure(1, priority=priority, **alone)["type"] == "Done"
    eventually(lambda: set(states(n1).values()) == {"Master"}, "n1 holds it")
    probe = Probes(n1.client, "10.77.0.201")
    time.sleep(1.0)
    for generation, addresses in enumerate(({"a": "10.77.0.201"}, {"a": "10.77.0.201", "b": "10.77.0.202"}), start=2):
        for pod, priority in ((n1, 150), (n2, 100)):  # one after the other, as their agents are
            share(pod, generation, addresses, priority=priority)
            time.sleep(0.7)
    assert states(n1) == {"shop/a": "Master", "shop/b": "Master"}
    assert states(n2) == {"shop/a": "Backup", "shop/b": "Backup"}
    assert probe.lost() == 0


def test_keepalived_follows_a_holder_of_more_addresses_than_it_advertises(pods: list[Pod]) -> None:
    require_keepalived()
    n1, n2 = pods
    many = {f"v{number}": f"10.77.0.{number}" for number in range(201, 231)}
    container = n1.start()
    eventually(lambda: n1.say({"type": "GetStatus"})["type"] == "Status", "the engine answers")
    share(n1, 1, many, priority=150, foreignRouters="Obey", members=[])
    eventually(lambda: set(states(n1).values()) == {"Master"}, "n1 holds all of them")
    listed, excluded = [*many.values()][:20], [*many.values()][20:]
    instance = [
        "state BACKUP",
        "virtual_router_id 51",
        "priority 100",
        "advert_int 0.1",
        f"virtual_ipaddress {{\n {chr(10).join(f'{address}/24' for address in listed)}\n}}",
        f"virtual_ipaddress_excluded {{\n {chr(10).join(f'{address}/24' for address in excluded)}\n}}",
    ]
    Keepalived(n2.host, "\n".join(instance), 3).start()
    time.sleep(1.5)
    assert not n2.host.has(listed[0])
    assert set(states(n1).values()) == {"Master"}
    stop(container)
    eventually(lambda: n2.host.has(listed[0]) and n2.host.has(excluded[-1]), "keepalived holds all of them", 12)
