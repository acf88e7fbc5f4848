"""What a simulated kernel keeps of a link and of the addresses on it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from holdfast_speaker.engine.ports import Link, LinkAddress
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant
from holdfast_testing.sim.routes import prefix

SECONDARY, NODAD, DADFAILED, DEPRECATED, TENTATIVE, PERMANENT, NOPREFIXROUTE = 0x01, 0x02, 0x08, 0x20, 0x40, 0x80, 0x200
"""IFA_F_* of linux/if_addr.h."""


@dataclass(slots=True, eq=False)
class Address:
    """An address on a link."""

    index: int
    address: bytes
    prefix_length: int
    scope: int
    flags: int
    protocol: int = 0
    expires: Instant | None = None
    """When the kernel takes it away."""
    valid_until: Instant | None = None
    """When its lifetime ends: the kernel is late."""
    usable_at: Instant | None = None
    """When its duplicate address detection ends."""
    kept: bool = False
    """It stayed while the link was switched off, and begins anew when it comes back."""
    network: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.network = prefix(self.address, self.prefix_length)

    @property
    def secondary(self) -> bool:
        return bool(self.flags & SECONDARY)

    def shares_subnet(self, other: Address) -> bool:
        """Whether both say the same subnet with the same mask."""
        return self.prefix_length == other.prefix_length and self.network == other.network

    def live_for(self, seconds: int | None, preferred_seconds: int | None, now: Instant, late: Duration) -> None:
        """Begin a lifetime anew."""
        self.flags &= ~(PERMANENT | DEPRECATED)
        self.expires = self.valid_until = None
        if seconds is None:
            self.flags |= PERMANENT
        else:
            self.valid_until = Instant(now + seconds * SECOND)
            self.expires = Instant(self.valid_until + late)
        if preferred_seconds == 0:
            self.flags |= DEPRECATED

    def shown(self, now: Instant, *, tells_protocol: bool) -> LinkAddress:
        """As netlink tells of it."""
        left = None if self.valid_until is None else max(0, -(-(self.valid_until - now) // SECOND))
        return LinkAddress(
            index=self.index,
            family=int(socket.AF_INET if len(self.address) == 4 else socket.AF_INET6),
            address=self.address,
            prefix_length=self.prefix_length,
            protocol=self.protocol if tells_protocol else 0,
            flags=self.flags,
            scope=self.scope,
            valid_seconds=left,
        )


@dataclass(slots=True, eq=False)
class Interface:
    """A link, and what of it a host may set."""

    index: int
    name: str
    mac: bytes
    mtu: int = 1500
    admin_up: bool = False
    cable: bool = True
    """Whether there is a carrier. A bridge has one until it had ports; from then on, while one of them has."""
    carrier_down_count: int = 0
    """How often it has lost it."""
    had_carrier: bool = False
    """When that was last counted."""
    loopback: bool = False
    bridge: bool = False
    answers_arp: bool = True
    own_mac: bool = True
    """A bridge without one takes the smallest of its ports."""
    own_mtu: bool = False
    """A bridge without one takes the smallest of its ports."""
    controller: int = 0

    promote_secondaries: bool = False
    keep_addresses_on_down: bool = False
    disable_ipv6: bool = False
    forwards_ipv6: bool = False
    detects_duplicates: bool = True
    """accept_dad."""
    generates_link_local: bool = True
    """addr_gen_mode eui64."""

    v4: list[Address] = field(default_factory=list)
    v6: list[Address] = field(default_factory=list)
    ipv6: bool = False
    """Whether it has what the kernel keeps of IPv6 for a link: not so below an MTU of 1280."""
    ipv6_lost: int = 0
    """How often it lost that, and with it every group of IPv6 that a socket had joined on it."""
    ready: bool = False
    """Whether IPv6 was told that packets can pass since it was switched on (IF_READY)."""

    @property
    def operational(self) -> bool:
        """Whether it is switched on and packets can pass."""
        return self.admin_up and self.cable

    def count_carrier(self) -> None:
        """Whether there is one may have changed."""
        self.carrier_down_count += self.had_carrier and not self.operational
        self.had_carrier = self.operational

    def shown(self, carrier: bool = True) -> Link:
        """As netlink tells of it; without `carrier` as long as the kernel has not noticed it."""
        return Link(
            index=self.index,
            name=self.name,
            admin_up=self.admin_up,
            carrier=self.admin_up and self.cable and carrier,
            mac=self.mac,
            loopback=self.loopback,
            answers_arp=self.answers_arp,
            mtu=self.mtu,
            controller=self.controller,
            carrier_down_count=self.carrier_down_count,
        )
