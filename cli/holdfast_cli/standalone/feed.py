"""From VirtualIP files to this host's plan, and when they changed."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

from msgspec import structs

from holdfast_api.documents import Reading, look_at, read_contents
from holdfast_api.errors import EnvironmentFailure
from holdfast_cli.standalone.edits import Look, require_intended
from holdfast_cli.standalone.maintenance import Maintenance, asked_for, under_maintenance
from holdfast_operator.planner.host.standalone import HostPlan, HostView, plan_host
from holdfast_speaker.host.netlink import RequestSocket


class Feed:
    """The files that `holdfast run` was given."""

    def __init__(
        self, paths: list[Path], node_name: str, interface: str | None, state_directory: Path | None = None
    ) -> None:
        """`state_directory`: where maintenance may be asked for."""
        self._paths = paths
        self._interface = interface
        self._generation = 0
        self._in_force = Reading(())
        self._state_directory = state_directory
        self._bare: HostPlan | None = None
        """The last plan, as the files alone say it."""
        self.maintenance = self._maintenance_asked_for()
        """What the last plan counts with."""
        self.node_name = node_name

    def look(self) -> Look:
        """What is in the files now. A disk that is gone over the network can make it wait for long."""
        return look_at(self._paths)

    def plan(self, look: Look) -> HostPlan:
        """The plan of what was seen. Raises ConfigurationErrors with everything wrong; nothing has changed then."""
        reading = read_contents(look)
        require_intended(self._in_force, reading, look)
        host = HostView(self.node_name, self._interface, _networks())
        plan = plan_host(reading.documents, host, self._generation + 1)
        self._generation += 1
        self._in_force = reading
        self._bare = replace(plan, warnings=(*reading.warnings, *plan.warnings))
        return self._maintained(self._bare)

    def plan_of_maintenance(self) -> HostPlan | None:
        """The last plan anew, where maintenance has begun or ended since; None: nothing has changed."""
        asked = self._maintenance_asked_for()
        if asked == self.maintenance or self._bare is None:
            return None
        self.maintenance = asked
        self._generation += 1
        configuration = structs.replace(self._bare.configuration, generation=self._generation)
        self._bare = replace(self._bare, configuration=configuration)
        return self._maintained(self._bare)

    def _maintained(self, plan: HostPlan) -> HostPlan:
        return replace(plan, configuration=under_maintenance(plan.configuration, self.maintenance))

    def _maintenance_asked_for(self) -> Maintenance | None:
        return asked_for(self._state_directory) if self._state_directory is not None else None


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
