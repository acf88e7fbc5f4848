"""A cluster of a size: which node is on which link, with which address, and which VIPs are there. Pure."""

from __future__ import annotations

from dataclasses import dataclass

NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. Nodes and VIPs are spread evenly over the links."""

    vips: int
    nodes: int
    links: int
    agents: int
    """Nodes with an agent of their own, the first ones; what the others write is replayed."""

    def __post_init__(self) -> None:
        if not 0 < self.links <= 100 or self.nodes < 2 * self.links or not 0 < self.agents <= self.nodes:
            raise ValueError("1 to 100 links, at least two nodes on each, and no more agents than nodes")
        if not self.links <= self.vips <= 255 * self.links:
            raise ValueError("1 to 255 VIPs on each link: each of them has a virtual router of its own")

    def node(self, number: int) -> str:
        """Its name.

        >>> Size(8, 6, 2, 1).node(3)
        'node-0003'
        """
        return f"node-{number:04d}"

    def address(self, number: int) -> str:
        """A node's own one, with prefix length.

        >>> Size(8, 6, 2, 1).address(3)
        '10.101.0.2/16'
        """
        host = number // self.links
        return f"10.{100 + number % self.links}.{host // 250}.{1 + host % 250}/16"

    def on_link(self, link: int) -> list[str]:
        """The nodes of a link, in order; the first one holds all of its VIPs.

        >>> Size(8, 6, 2, 1).on_link(1)
        ['node-0001', 'node-0003', 'node-0005']
        """
        return [self.node(number) for number in range(link, self.nodes, self.links)]

    def vip(self, number: int) -> str:
        """namespace/name."""
        return f"{NAMESPACE}/vip-{number:05d}"

    def vip_address(self, number: int) -> str:
        """With the prefix length of its link."""
        place = number // self.links
        return f"10.{100 + number % self.links}.{200 + place // 250}.{1 + place % 250}/16"

    def vips_of(self, link: int) -> list[str]:
        """Those of a link."""
        return [self.vip(number) for number in range(link, self.vips, self.links)]

    @property
    def holders(self) -> dict[str, str]:
        """By VIP: the node that holds it at first."""
        return {self.vip(number): self.node(number % self.links) for number in range(self.vips)}

    @property
    def agent_names(self) -> list[str]:
        """The nodes with an agent of their own."""
        return [self.node(number) for number in range(self.agents)]
