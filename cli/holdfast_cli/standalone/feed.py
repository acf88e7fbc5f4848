"""From VirtualIP files to this host's plan, and when they changed."""

from __future__ import annotations

from ipaddress import ip_interface
from pathlib import Path

from holdfast_api.documents import read_paths
from holdfast_api.errors import ConfigurationError, ConfigurationErrors, EnvironmentFailure
from holdfast_operator.planner.standalone import HostPlan, HostView, plan_host
from holdfast_speaker.host.netlink import RequestSocket

Signature = tuple[tuple[str, int, int, int], ...]


class Feed:
    """The files that `holdfast run` was given."""

    def __init__(self, paths: list[Path], node_name: str, interface: str | None) -> None:
        self._paths = paths
        self._interface = interface
        self._generation = 0
        self.node_name = node_name

    def plan(self) -> HostPlan:
        """Read and plan. Raises ConfigurationErrors with everything that is wrong; nothing has changed then."""
        missing = [ConfigurationError("does not exist", file=str(path)) for path in self._paths if not path.exists()]
        if missing:
            raise ConfigurationErrors(missing)
        documents = read_paths(self._paths)
        host = HostView(self.node_name, self._interface, _networks())
        plan = plan_host(documents, host, self._generation + 1)
        self._generation += 1
        return plan

    def signature(self) -> Signature:
        """Changes whenever a file does: name, inode, size and time of each."""
        found = []
        for path in self._paths:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            for file in files:
                try:
                    facts = file.stat()
                except OSError:  # gone between two looks: that is a change too
                    continue
                found.append((str(file), facts.st_ino, facts.st_size, facts.st_mtime_ns))
        return tuple(found)


def _networks() -> dict[str, list[str]]:
    """The subnets of this host's interfaces, to tell on which link a VIP will be."""
    try:
        requests = RequestSocket()
        names = {link.index: link.name for link in requests.dump_links() if not link.loopback}
        addresses = requests.dump_addresses()
    except EnvironmentFailure:  # only hints for conflicts between VirtualIPs; the engine looks for itself
        return {}
    networks: dict[str, list[str]] = {}
    for address in addresses:
        if address.index in names and not address.ours:
            text = str(ip_interface((address.address, address.prefix_length)))
            networks.setdefault(names[address.index], []).append(text)
    return networks
