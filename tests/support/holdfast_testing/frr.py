"""FRR's vrrpd on a host of a test, from Debian's package."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.required import absent

_DAEMONS = Path("/usr/lib/frr")


def require_frr() -> None:
    """Skip the test where FRR is not installed, or fail it where HOLDFAST_REQUIRE says so."""
    if (_DAEMONS / "vrrpd").exists() and shutil.which("vtysh"):
        return
    absent("netns", "not installed: frr (Debian's package; it is installed only where HOLDFAST_REQUIRE has netns)")


class Frr:
    """zebra and vrrpd in a host's namespace: VRRPv3, VRID 51, one IPv4 address on a macvlan. They end with it.

    vrrpd holds an address by letting a macvlan with the virtual MAC go up and down (docs.frrouting.org, VRRP).
    """

    def __init__(self, host: Host, address: str, priority: int, interval_ms: int, folder: Path) -> None:
        self.host = host
        self._folder = folder
        self._processes: list[subprocess.Popen[str]] = []
        host.namespace.ip(
            "link add vrrp4-2-51 link eth0 type macvlan mode bridge",
            "link set vrrp4-2-51 address 00:00:5e:00:01:33",
            f"address add {address} dev vrrp4-2-51",
            "link set vrrp4-2-51 up",
        )
        lines = [
            "interface eth0",
            " vrrp 51 version 3",
            f" vrrp 51 priority {priority}",
            f" vrrp 51 advertisement-interval {interval_ms}",
            " no vrrp 51 preempt",
            f" vrrp 51 ip {address.partition('/')[0]}",
        ]
        (folder / "vrrpd.conf").write_text("\n".join(lines) + "\n", encoding="ascii")
        (folder / "zebra.conf").touch()
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "frr", "frr")

    def start(self) -> Frr:
        """Start both daemons, each when the one before listens."""
        for daemon, socket in (("zebra", "zserv.api"), ("vrrpd", "vrrpd.vty")):
            options = ["-i", f"{self._folder}/{daemon}.pid", "-z", f"{self._folder}/zserv.api", "-P", "0"]
            options += ["--vty_socket", str(self._folder), "-f", f"{self._folder}/{daemon}.conf"]
            with (self._folder / f"{daemon}.log").open("a", encoding="utf-8") as log:
                command = [str(_DAEMONS / daemon), *options, "--log", "stdout"]
                self._processes.append(self.host.namespace.start(command, stdout=log, stderr=log))
            eventually((self._folder / socket).exists, f"{daemon} listens")
        return self

    @property
    def status(self) -> dict[str, Any]:
        """What `show vrrp json` tells of the IPv4 side."""
        command = ["vtysh", "--vty_socket", str(self._folder), "-c", "show vrrp json"]
        told = subprocess.run(self.host.namespace.command(command), capture_output=True, text=True, check=False)
        routers: list[dict[str, Any]] = json.loads(told.stdout) if told.returncode == 0 and told.stdout else []
        found: dict[str, Any] = routers[0]["v4"] if routers else {}
        return found

    def becomes(self, state: str) -> None:
        """Wait for Master or Backup."""
        eventually(lambda: self.status.get("status") == state, f"FRR on {self.host.name} is {state}")

    def kill(self) -> None:
        """Power off: both daemons are killed, and the cable is pulled."""
        for process in self._processes:
            process.kill()
        self.host.namespace.ip("link set eth0 down")

    def leave(self) -> None:
        """`vrrp 51 shutdown`: priority 0."""
        commands = ["configure terminal", "interface eth0", "vrrp 51 shutdown"]
        self.host.namespace.run(
            ["vtysh", "--vty_socket", str(self._folder), *(word for command in commands for word in ("-c", command))]
        )
