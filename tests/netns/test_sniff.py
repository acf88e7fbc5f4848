"""`holdfast sniff` beside real routers: its lines tell what happened to them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.keepalived import Keepalived, require_keepalived
from holdfast_testing.namespaces import Namespace

pytestmark = pytest.mark.netns

VIP, VIP6 = "10.77.0.200", "fd77::200"


def web(priority: int, **spec: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "VirtualIP",
            "metadata": {"name": "web"},
            "spec": {
                "addresses": [f"{VIP}/24"],
                "virtualRouterID": 51,
                "interface": "eth0",
                "priority": priority,
                "advertisementIntervalMilliseconds": 100,
                **spec,
            },
        }
    )


class Sniff:
    """The command in a namespace, and what it has said so far."""

    def __init__(self, namespace: Namespace, folder: Path, *words: str) -> None:
        self._host = Host(namespace, "sniff", folder)
        self._out, self._err = self._host.folder / "out", self._host.folder / "err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = namespace.start(self._host.command("sniff", *words), stdout=out, stderr=err)
        eventually(lambda: "listening on" in self.said, "sniff listens")

    @property
    def said(self) -> str:
        """Its standard error."""
        return self._err.read_text(encoding="utf-8")

    @property
    def lines(self) -> list[str]:
        """Whole lines of its standard output."""
        return self._out.read_text(encoding="utf-8").split("\n")[:-1]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The same, of -o json."""
        return [json.loads(line) for line in self.lines]

    def of(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """The events of a kind with these fields."""
        matching = (event for event in self.events if event["event"] == kind)
        return [event for event in matching if fields.items() <= event.items()]

    def hears(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event; the first like this."""
        return eventually(lambda: self.of(kind, **fields), f"sniff tells {kind} {fields}")[0]

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """Ctrl-C; the line of its summary. It ends with exit status 0."""
        self.process.send_signal(number)
        assert self.process.wait(timeout=10) == 0, self.said
        return self.said.splitlines()[-1]


def power_off(host: Host) -> None:
    host.namespace.ip("link set eth0 down")  # first, so that nobody says farewell
    host.signal(signal.SIGKILL)


def mac(host: Host) -> str:
    return host.namespace.mac("eth0").hex(":")


def test_the_story_of_a_failover_between_two_holdfasts(segment: Any, tmp_path: Path) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    kept = tmp_path / "kept.pcap"
    sniff = Sniff(lan.client, tmp_path, "-o", "json", "-w", str(kept))
    both = [f"{VIP}/24", f"{VIP6}/64"]
    n1.run(web(150, addresses=both)).becomes("Master")
    n2.run(web(100, addresses=both)).becomes("Backup")
    first = sniff.hears("RouterHeard", source="10.77.0.11", family=4)
    assert (first["priority"], first["intervalMilliseconds"], first["addresses"]) == (150, 100, [VIP])
    assert (first["link"], first["version"], first["checksum"]) == ("eth0", 3, "WithPseudoHeader")
    assert sniff.hears("AddressAnnounced", address=VIP)["mac"] == mac(n1)
    assert sniff.hears("AddressAnnounced", address=VIP6)["mac"] == mac(n1)

    macs = mac(n1), mac(n2)
    power_off(n1)
    for family, sources, vip in ((4, ("10.77.0.11", "10.77.0.12"), VIP), (6, ("fe80::11", "fe80::12"), VIP6)):
        moved = sniff.hears("MasterChanged", family=family)
        assert (moved["fromSource"], moved["toSource"], moved["reason"]) == (*sources, "Silent")
        assert moved["gapMilliseconds"] >= 300
        assert sniff.of("FellSilent", family=family)[0]["source"] == sources[0]
        taken = sniff.hears("AddressAnnounced", address=vip, mac=macs[1])
        assert taken["previousMac"] == macs[0]
        assert moved["time"] <= taken["time"], "first the advertisement, then the announcement"

    assert re.match(r"\d+ packets, 2 virtual routers, \d+ changes, 0 invalid; from ", sniff.end())
    assert_tells_the_same(n2, kept, sniff)


def assert_tells_the_same(host: Host, kept: Path, sniff: Sniff) -> None:
    """What was kept is read again."""
    command = host.command("sniff", "--pcap", str(kept), "-o", "json")
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    def told(event: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(event.get(name) for name in ("event", "family", "source", "toSource", "address", "mac"))

    assert [told(json.loads(line)) for line in again] == [told(event) for event in sniff.events]


def test_a_release_by_keepalived_and_the_takeover_by_holdfast_as_text(segment: Any, tmp_path: Path) -> None:
    require_keepalived()
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    sniff = Sniff(lan.client, tmp_path, "-i", "eth0", "-v")
    said = [
        "state BACKUP",
        "virtual_router_id 51",
        "priority 150",
        "advert_int 1",
        "mcast_src_ip 10.77.0.11",
        "authentication {\n auth_type PASS\n auth_pass sesame\n}",
        f"virtual_ipaddress {{\n {VIP}/24\n}}",
    ]
    keepalived = Keepalived(n1, "\n".join(said), 2).start()
    eventually(lambda: any("ROUTER" in line for line in sniff.lines), "sniff hears keepalived")
    password = {"authentication": {"simplePassword": "sesame"}}
    n2.run(web(100, version=2, advertisementIntervalMilliseconds=1000, **password)).becomes("Backup")
    n2.hears_a_master()  # a farewell of nobody known is waited out for an interval
    keepalived.stop()
    n2.becomes("Master")
    eventually(lambda: any("MASTER" in line and "10.77.0.12" in line for line in sniff.lines), "n2 is Master")
    eventually(lambda: any("ANNOUNCED" in line and mac(n2) in line for line in sniff.lines), "and says so")
    sniff.end()
    lines = [line.partition("Z eth0 ")[2] for line in sniff.lines]
    text = "\n".join(lines)
    assert (
        "51/IPv4  ROUTER    10.77.0.11: VRRPv2, priority 150, every 1 s, 10.77.0.200, to 224.0.0.18, simple password"
        in text
    )
    assert "51/IPv4  RELEASE   10.77.0.11 (priority 150) leaves: priority 0" in text
    assert re.search(r"51/IPv4  MASTER    10\.77\.0\.12 \(priority 100\): 10\.77\.0\.11 released \d+ ms before", text)
    assert f"{VIP} is at {mac(n2)} (was at {mac(n1)}): gratuitous ARP" in text
    assert re.search(r"advert    10\.77\.0\.12 > 224\.0\.0\.18: VRRPv2, ttl 255, priority 100, every 1 s", text)
    assert "sesame" not in text
    assert "INVALID" not in text


def test_a_switchover_between_holdfast_and_a_preempting_keepalived(segment: Any, tmp_path: Path) -> None:
    require_keepalived()
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    sniff = Sniff(lan.client, tmp_path, "-i", "eth0", "-o", "json")
    n1.run(web(100)).becomes("Master")
    said = ["state BACKUP", "virtual_router_id 51", "priority 200", "advert_int 0.1", "mcast_src_ip 10.77.0.12"]
    keepalived = Keepalived(n2, "\n".join([*said, f"virtual_ipaddress {{\n {VIP}/24\n}}"]), 3).start()
    taken = sniff.hears("MasterChanged", toSource="10.77.0.12")
    assert (taken["reason"], taken["fromPriority"], taken["toPriority"]) == ("HigherPriority", 100, 200)
    keepalived.stop()
    assert sniff.hears("Released")["source"] == "10.77.0.12"
    assert sniff.hears("MasterChanged", toSource="10.77.0.11")["reason"] == "Released"
    sniff.end()


def test_silence_is_told_while_nothing_at_all_is_heard(segment: Any, tmp_path: Path) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    sniff = Sniff(lan.client, tmp_path, "-i", "eth0", "-o", "json")
    n1.run(web(150)).becomes("Master")
    sniff.hears("RouterHeard")
    power_off(n1)
    assert sniff.hears("FellSilent")["source"] == "10.77.0.11"
    assert sniff.end(signal.SIGTERM).endswith("Z")


def test_it_ends_by_itself_after_its_duration_or_count(segment: Any, tmp_path: Path) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    quiet = subprocess.run(
        Host(lan.client, "quiet", tmp_path).command("sniff", "--duration", "0.5"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert quiet.stdout == ""
    assert quiet.stderr.splitlines()[0] == "listening on eth0"
    n1.run(web(150)).becomes("Master")
    counted = subprocess.run(
        Host(lan.client, "counted", tmp_path).command("sniff", "-i", "eth0", "-v", "-o", "json", "--count", "5"),
        capture_output=True,
        text=True,
        check=True,
    )
    kinds = [json.loads(line)["event"] for line in counted.stdout.splitlines()]
    assert len([kind for kind in kinds if kind in ("Advertisement", "Resolution")]) == 5


def test_a_link_that_flaps_is_heard_again_and_one_that_is_removed_is_an_error(segment: Any, tmp_path: Path) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    sniff = Sniff(lan.client, tmp_path, "-i", "eth0", "-o", "json")
    n1.run(web(150)).becomes("Master")
    sniff.hears("RouterHeard", silentMilliseconds=None)
    lan.client.ip("link set eth0 down")
    sniff.hears("FellSilent")
    lan.client.ip("link set eth0 up")
    eventually(lambda: len(sniff.of("RouterHeard")) == 2, "the Master is heard again")
    lan.client.ip("link del eth0")
    assert sniff.process.wait(timeout=10) == 1
    assert sniff.said.splitlines()[-1].startswith("error: eth0: ")
