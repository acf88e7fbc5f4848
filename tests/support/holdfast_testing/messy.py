"""Messy hosts: what users see while links, addresses and neighbours do what they do on real ones."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast_testing import restarts
from holdfast_testing.hosts import Host
from holdfast_testing.namespaces import Namespace

VIP, VIP6 = "10.77.0.200", "fd77::200"
PRIORITIES = {"priorities": [{"nodeName": "n1", "priority": 110}, {"nodeName": "n2", "priority": 100}]}


def document(name: str = "web", *addresses: str, vrid: int = 51, interval_ms: int = 100, **spec: Any) -> str:
    """A VirtualIP in which n1 is preferred, and whose interface is found by its subnet."""
    return json.dumps(
        {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "VirtualIP",
            "metadata": {"name": name},
            "spec": {
                "addresses": list(addresses) or [f"{VIP}/24"],
                "virtualRouterID": vrid,
                "advertisementIntervalMilliseconds": interval_ms,
                "nodes": PRIORITIES,
                **spec,
            },
        }
    )


def documents(*parts: str) -> str:
    """Several VirtualIPs in one file."""
    return "\n---\n".join(parts)


KNOWN_TO_EACH_OTHER = ({"externalPeers": ["10.77.0.12"]}, {"externalPeers": ["10.77.0.11"]})
"""What n1 and n2 say where the members are known."""


def holder_and_backup(lan: Any, *parts: str, **spec: Any) -> tuple[Host, Host]:
    """n1 is Master, n2 is Backup and hears it."""
    return restarts.holder_and_backup(lan, documents(*parts) if parts else document(**spec))


def moves(host: Host, name: str = "web") -> int:
    """How often addresses moved to this host or away from it."""
    return int(host.routers[name]["transitions"])


class Probes:
    """Pings from a client, fifty a second."""

    def __init__(self, client: Namespace, address: str) -> None:
        self._process = client.start(
            ["ping", "-n", "-i", "0.02", "-W", "1", address], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def lost(self) -> int:
        """End them; how many were not answered. The last may be under way."""
        self._process.send_signal(signal.SIGINT)
        said, _ = self._process.communicate(timeout=10)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert found is not None, said
        return max(0, int(found[1]) - int(found[2]) - 1)


@contextmanager
def address_monitor(namespace: Namespace, file: Path) -> Iterator[list[str]]:
    """`ip monitor address` beside what is done in the block; afterwards the addresses that left the kernel."""
    deleted: list[str] = []
    with file.open("w", encoding="utf-8") as output:
        monitor = namespace.start(["ip", "-o", "monitor", "address"], stdout=output)
        time.sleep(0.3)
        yield deleted
        time.sleep(0.3)
        monitor.terminate()
        monitor.wait()
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("Deleted"):
            found = re.search(r"inet6? ([0-9a-f.:]+)/", line)
            assert found is not None, line
            deleted.append(found[1])


def own_addresses(namespace: Namespace, *links: str) -> set[tuple[str, str, int]]:
    """The host's own addresses on links: those that Holdfast did not put there."""
    return {
        (link, str(info["local"]), int(info["prefixlen"]))
        for link in links or ("eth0",)
        for entry in namespace.ip_json("address", "show", "dev", link)
        for info in entry["addr_info"]
        if info["valid_life_time"] > 2  # a VIP has a second, and is renewed
    }


def own_routes(namespace: Namespace) -> list[tuple[str, ...]]:
    """The host's own IPv4 routes: destination, gateway, link and source."""
    return sorted(
        (entry["dst"], entry.get("gateway", ""), entry.get("dev", ""), entry.get("prefsrc", ""))
        for entry in namespace.ip_json("-4", "route", "show")
        if str(entry.get("protocol")) != "72"
    )


def source_of(namespace: Namespace, destination: str) -> str:
    """From which address the host's own traffic would come; empty where there is no route, or no source."""
    finished = subprocess.run(
        ["ip", "-n", namespace.name, "-json", "route", "get", destination], capture_output=True, text=True, check=False
    )
    return str(json.loads(finished.stdout)[0].get("prefsrc", "")) if finished.returncode == 0 else ""


def set_sysctl(namespace: Namespace, name: str, value: int) -> None:
    """Write a setting of the kernel, named by its path under /proc/sys."""
    namespace.run(["sh", "-c", f"echo {value} >/proc/sys/{name}"])


def is_member_of_group(namespace: Namespace, width: int) -> bool:
    """Whether the kernel lists eth0 as a member of the VRRP group."""
    if width == 16:
        return "ff020000000000000000000000000012" in namespace.run(["cat", "/proc/net/igmp6"])
    return "120000E0" in namespace.run(["cat", "/proc/net/igmp"])
