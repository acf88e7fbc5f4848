"""What the engine is given of the machine that it runs on: a kernel, a wire, a clock and a log.

Values and interfaces only: the real ones are in `holdfast_speaker.host`, simulated ones in the tests. What they are
asked is a value, and so is what they answer; an errno (errno.h) is an int, 0 where there was none. All addresses are
packed bytes in network order, all links are named by their index, and `width` is 4 for IPv4 and 16 for IPv6.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import Duration, Instant

FAMILY_NAMES: Final = {4: "IPv4", 16: "IPv6"}
"""The families, by width."""

ADDRESS_PROTOCOL: Final = 72
"""IFA_PROTO of our addresses, and RTA_PROTOCOL of our routes: who put them there. The kernel uses 1 to 3 for addresses,
keepalived 18 (linux/if_addr.h, linux/rtnetlink.h)."""

ROUTE_METRIC: Final = 2048
"""Of a route that comes with a VIP: the host's own connected routes (0, and 256 for IPv6) go before it."""

LIFETIME_SECONDS: Final = 1
"""valid_lft of a VIP. The kernel removes it 1.0 to 2.25 s after the last renewal (include/net/addrconf.h rounds)."""

# ----- the kernel: what is there -----


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    admin_up: bool
    carrier: bool
    """Packets can pass: there is a carrier and the operational state is up or unknown (RFC 2863, ifOperStatus)."""
    mac: bytes
    loopback: bool
    answers_arp: bool = True
    """Not so on dummy interfaces, kube-ipvs0 and tunnels (IFF_NOARP): an address there is known to no neighbour."""
    mtu: int = 1500
    controller: int = 0
    """The index of the bridge or bond that it is a port of; 0: of none."""
    carrier_down_count: int = 0
    """How often it has lost its carrier; always 0 on kernels before 4.16 (IFLA_CARRIER_DOWN_COUNT, linux/if_link.h)."""

    @property
    def operational(self) -> bool:
        """Whether it is switched on and packets can pass."""
        return self.admin_up and self.carrier


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address on a network interface."""

    index: int
    family: int
    """AF_INET or AF_INET6."""
    address: bytes
    prefix_length: int
    protocol: int
    """Who put it there (IFA_PROTO); 0 where nobody said, and always on kernels before 5.18."""
    flags: int
    """IFA_F_* of linux/if_addr.h."""
    scope: int
    """RT_SCOPE_* of linux/rtnetlink.h."""
    valid_seconds: int | None
    """How long the kernel keeps it; None: until somebody removes it."""

    @property
    def ours(self) -> bool:
        """Whether it says that Holdfast put it there."""
        return self.protocol == ADDRESS_PROTOCOL


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link is there, new or changed."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkRemoved:
    """A link is gone, and its addresses with it."""

    index: int


@dataclass(frozen=True, slots=True)
class AddressAdded:
    """An address is there, new or changed."""

    address: LinkAddress


@dataclass(frozen=True, slots=True)
class AddressRemoved:
    """An address is gone."""

    address: LinkAddress


class NextHop(NamedTuple):
    """Where a route of this host leads through: a gateway, on one of its links."""

    link: int
    """The index of the link."""
    address: bytes


@dataclass(frozen=True, slots=True)
class NextHopsChanged:
    """The next hops of this host's routes are others."""

    next_hops: tuple[NextHop, ...]
    """All of them; sorted."""


@dataclass(frozen=True, slots=True)
class PortsClosed:
    """A close_ports was carried out or refused, or what it made was put back."""

    number: int
    """Of the last one that this is about."""
    errno: int
    """Why the ports of this host are reached through the addresses; 0: they are not."""
    put_back: bool = False
    """Somebody had taken the rules away, or changed them."""


Event = LinkChanged | LinkRemoved | AddressAdded | AddressRemoved | NextHopsChanged | PortsClosed

# ----- the kernel: what is asked of it -----


@dataclass(frozen=True, slots=True, order=True)
class KernelAddress:
    """An address as the kernel shall have it: on which link, and with which prefix length."""

    index: int
    address: bytes
    prefix_length: int


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add an address, or renew its lifetime. It carries ADDRESS_PROTOCOL, and no subnet route comes with it.

    An IPv6 address is usable at once (IFA_F_NODAD) and deprecated, an IPv4 address has the scope of the host, so that
    the host's own connections take neither for their source (RFC 6724 rule 3; net/ipv4/devinet.c, inet_select_addr).
    """

    address: KernelAddress
    valid_seconds: int
    """The kernel removes it so long after the last renewal."""
    exclusive: bool = False
    """Only add: where the address is already, the answer is EEXIST. A renewal takes over whatever is there."""


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Remove an address. IPv4 routes that have it as their source go with it."""

    address: KernelAddress
    keeps_others: bool = False
    """IPv4 alone: other addresses of its subnet stay, whatever the host's promote_secondaries (ip-sysctl) says. Where
    that cannot be, it is not removed either."""


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Add a route to the subnet of a VIP on its link, with the VIP as source, or renew it; metric ROUTE_METRIC."""

    index: int
    network: bytes
    prefix_length: int
    source: bytes
    valid_seconds: int
    """IPv6 alone: over IPv4 the route goes with its source."""


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """Remove a route that AddRoute made."""

    index: int
    network: bytes
    prefix_length: int
    source: bytes


Request = AddAddress | RemoveAddress | AddRoute | RemoveRoute


class Kernel(Protocol):
    """The links and addresses of one network namespace, and its own table of the packet filter."""

    def changes(self) -> Sequence[Event] | None:
        """What has changed since the last call, oldest first, as far as it can be told without waiting.

        None: some of it was lost (ENOBUFS), so that only a dump tells how it is. That an address of ours was added or
        renewed is left out where the kernel says whose it is.
        """
        ...

    def dump(self) -> tuple[Sequence[Link], Sequence[LinkAddress], bool]:
        """Every link and address, and whether nothing changed in the middle of it.

        Raises EnvironmentFailure where the kernel does not answer.
        """
        ...

    def next_hops(self) -> Sequence[NextHop]:
        """The next hops of the routes of both families, sorted, as far as some milliseconds tell them: default routes
        first. Those that are missing, and every change, come with `changes` later.

        Raises EnvironmentFailure where the kernel does not answer.
        """
        ...

    def apply(self, requests: Sequence[Request]) -> Sequence[int]:
        """Carry out requests in their order; the errno of each. IPv6 addresses that were added answer when it returns,
        or a few milliseconds later at most. Raises EnvironmentFailure where the kernel does not answer."""
        ...

    def is_renewing(self) -> bool:
        """Whether a renewal that was begun is still under way."""
        ...

    def begin_renewal(self, requests: Sequence[Request]) -> None:
        """Carry out requests beside the loop (ADR 0010). Only while none is under way."""
        ...

    def end_renewal(self) -> Sequence[int] | None:
        """Wait until no renewal is under way; the errno of each request of one that nobody has asked for yet.

        Raises EnvironmentFailure where the kernel did not answer.
        """
        ...

    def close_ports(self, number: int, addresses: frozenset[bytes], no_longer: frozenset[bytes]) -> None:
        """Begin to have what listens on this host unreachable through these addresses, but for ICMP and what comes from
        `lo`, and through no others that were named before. Packets that are forwarded are not concerned.

        It stays so until the next call, whoever changes the rules, and after the end of the process. Of what an earlier
        process closed, `no_longer` is open again. `changes` tells by the number what has come of it.
        """
        ...

    def await_closed_ports(self, within: Duration) -> int:
        """Wait until the last close_ports has been carried out; its errno, ETIMEDOUT where it has not been by then."""
        ...

    def forwards_ipv6(self, name: str) -> bool:
        """Whether this host is an IPv6 router on the interface: the R flag of RFC 4861 section 4.4."""
        ...


# ----- the wire -----


class Datagram(NamedTuple):
    """The payload of an IP packet, and what its header said."""

    payload: bytes
    source: bytes
    destination: bytes
    ttl: int


class NeighbourAnswer(NamedTuple):
    """Somebody says that an address is theirs: an ARP packet's sender, or a neighbour advertisement's target."""

    address: bytes
    mac: bytes


class Listener(NamedTuple):
    """What is listened on: the VRRP group and this host's own addresses, on one link in one family."""

    link: int
    """The index of the link."""
    width: int
    """Of the family's addresses; OWN_HOST: what this host itself sends there, in both."""


OWN_HOST: Final = 0
"""The width of a listener on which nothing arrives from outside: other programs of this host may speak VRRP."""


class Wire(Protocol):
    """Sockets on links: VRRP in and out, whole frames out, neighbours' answers in.

    What comes in is given to the engine by whoever waits for it (engine/turn.py).
    """

    def listen(self, wanted: Set[Listener], overheard: Set[Listener]) -> Mapping[Listener, int]:
        """Listen on exactly these: on `wanted` for virtual routers of ours, on `overheard` for those of others.

        Returns the errno of each wanted one that could not be opened; it is tried again with the next call.
        """
        ...

    def renew(self, listeners: Collection[Listener]) -> Mapping[Listener, int]:
        """Join the group anew where the link has forgotten it, as it does when it loses a family.

        A link that is still a member is left alone. Returns the errno of each that could not join.
        """
        ...

    def hear_neighbours(self, indexes: Set[int]) -> Mapping[int, int]:
        """Hear what neighbours answer on exactly these links; the errno of each where that cannot be."""
        ...

    def send(self, index: int, advertisement: SendAdvertisement) -> int:
        """Send one advertisement on a link that is listened on; the errno."""
        ...

    def transmit(self, index: int, frames: Sequence[bytes]) -> int:
        """Send whole Ethernet frames on a link that is listened on; the errno of the first that was refused."""
        ...


# ----- clock and log -----


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> Instant:
        """The clock of every deadline: it goes on while the machine is suspended (CLOCK_BOOTTIME)."""
        ...

    def timestamp(self) -> str:
        """The wall clock for people and status: UTC, RFC 3339, milliseconds."""
        ...


class Log(Protocol):
    """What people are told. It never waits and never raises."""

    def info(self, message: str, **facts: object) -> None:
        """Something that people want to know."""
        ...

    def warning(self, message: str, **facts: object) -> None:
        """Something that people should look at; the engine goes on."""
        ...

    def error(self, message: str, **facts: object) -> None:
        """Something that keeps a VIP from being held here."""
        ...
