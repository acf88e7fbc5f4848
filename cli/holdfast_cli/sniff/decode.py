"""Packets as scapy dissects them, made into values and checked: scapy checks no length, checksum, TTL or hop limit.

What is not VRRP, ARP or neighbour discovery is None. Whatever the bytes, nothing is raised.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from scapy.config import conf
from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, CookedLinux, Dot1Q, Ether
from scapy.layers.vrrp import VRRP, VRRPv3

from holdfast_cli.sniff.checksums import covers, covers_with_pseudo_header
from holdfast_cli.sniff.packets import (
    Advertisement,
    Authentication,
    ChecksumForm,
    Fault,
    FaultKind,
    Malformed,
    Packet,
    Resolution,
    Role,
)

conf.max_list_count = 255  # the count of addresses is a byte, and scapy raises at 100

_VRRP = 112
_ICMPV6 = 58
_TTL = 255
_HEADER_LENGTH = 8
_AUTHENTICATION_LENGTH = 8
_NEIGHBOUR_SOLICITATION = 135
_NEIGHBOUR_ADVERTISEMENT = 136
_NEIGHBOUR_MESSAGE_LENGTH = 24
_MILLISECONDS_OF_A_CENTISECOND = 10
_MILLISECONDS_OF_A_SECOND = 1000


@dataclass(frozen=True, slots=True)
class _Datagram:
    """An IP packet: what a check needs to know, and its payload without the padding of Ethernet."""

    at: int
    link: str
    mac: str
    layer: Any
    """scapy's IP or IPv6."""
    source: str
    destination: str
    protocol: int
    ttl: int
    payload: bytes
    is_fragment: bool
    is_whole: bool
    """Whether the capture has all of it, as far as the IP header tells."""

    @property
    def width(self) -> int:
        """Bytes of an address."""
        return 16 if ":" in self.source else 4


def decode(packet: Any, interface: str = "") -> Packet | None:
    """One of scapy's packets, with its own time; `interface` where the packet itself does not say.

    Only the outermost IP header is looked at, and IPv6 extension headers are not: nobody sends VRRP with them.
    """
    if (arp := packet.getlayer(ARP)) is not None and not _has_ip(packet):
        return _arp(arp, _at(packet), _link(packet, interface))
    datagram = _datagram(packet, interface)
    if datagram is None:
        return None
    if datagram.protocol == _VRRP:
        return _vrrp(datagram)
    if datagram.protocol == _ICMPV6 and datagram.width == 16:
        return _neighbour_discovery(datagram)
    return None


def _has_ip(packet: Any) -> bool:
    return packet.getlayer(IP) is not None or packet.getlayer(IPv6) is not None


def _at(packet: Any) -> int:
    """scapy's time is an exact decimal from a file, and a float from a socket."""
    at: int = round(packet.time * 1_000_000_000)
    return at


def _link(packet: Any, interface: str) -> str:
    name = str(packet.sniffed_on or interface)
    tag = packet.getlayer(Dot1Q)
    return name if tag is None else f"{name}.{tag.vlan}"


def _mac(packet: Any) -> str:
    if (ethernet := packet.getlayer(Ether)) is not None:
        return str(ethernet.src)
    if (cooked := packet.getlayer(CookedLinux)) is not None and cooked.lladdrlen == 6:
        return bytes(cooked.src)[:6].hex(":")
    return ""


def _datagram(packet: Any, interface: str) -> _Datagram | None:
    at, link, mac = _at(packet), _link(packet, interface), _mac(packet)
    ip = packet.getlayer(IP)
    if ip is not None and len(ip.original) >= 20 and ip.version == 4:
        start, end = 4 * ip.ihl, ip.len
        payload, is_whole = ip.original[start:end], len(ip.original) >= end
        is_fragment = bool(ip.frag or ip.flags.MF)
        return _Datagram(at, link, mac, ip, ip.src, ip.dst, ip.proto, ip.ttl, payload, is_fragment, is_whole)
    ip = packet.getlayer(IPv6)
    if ip is None or len(ip.original) < 40 or ip.version != 6:
        return None
    payload, is_whole = ip.original[40 : 40 + ip.plen], len(ip.original) >= 40 + ip.plen
    return _Datagram(at, link, mac, ip, ip.src, ip.dst, ip.nh, ip.hlim, payload, False, is_whole)


# ----- VRRP -----


def _vrrp(datagram: _Datagram) -> Advertisement | Malformed:
    """RFC 9568 section 7.1, and RFC 3768 section 7.1 for VRRPv2: every broken rule is told, not only the first."""
    incomplete = _incomplete(datagram)
    if incomplete is not None:
        return _malformed(datagram, "VRRP", [incomplete])
    version = datagram.payload[0] >> 4
    header = _header(datagram, version)
    faults = [*_ttl_faults(datagram), *_version_faults(datagram, version)]
    remarks: list[str] = []
    form = None
    authentication = Authentication.NONE
    if not any(fault.kind is FaultKind.VERSION for fault in faults):
        faults += [*_header_faults(header), *_length_faults(datagram, header)]
        form = _checksum_form(datagram, version)
        if form is None:
            faults.append(Fault(FaultKind.CHECKSUM, f"checksum {header.chksum:#06x} is wrong"))
        if version == 2:
            authentication, fault = _authentication(header)
            faults += [fault] if fault else []
        remarks = _remarks(datagram, header)
    if faults or form is None:
        return _malformed(
            datagram, "VRRP", faults, version=version, virtual_router_id=header.vrid, priority=header.priority
        )
    unit = _MILLISECONDS_OF_A_CENTISECOND if version == 3 else _MILLISECONDS_OF_A_SECOND
    return Advertisement(
        at=datagram.at,
        link=datagram.link,
        source=datagram.source,
        destination=datagram.destination,
        mac=datagram.mac,
        ttl=datagram.ttl,
        version=version,
        virtual_router_id=header.vrid,
        priority=header.priority,
        interval_milliseconds=unit * header.adv,
        addresses=tuple(header.addrlist),
        checksum=form,
        authentication=authentication,
        remarks=tuple(remarks),
    )


def _incomplete(datagram: _Datagram) -> Fault | None:
    """What leaves nothing to be read: a fragment, a capture's snapshot length, less than the fixed header.

    RFC 9568 section 7.1: the packet must hold the complete VRRP packet. A receiver sees reassembled packets, a
    capture does not.
    """
    if datagram.is_fragment:
        return Fault(FaultKind.FRAGMENT, "a fragment of an IP packet")
    if not datagram.is_whole:
        return Fault(FaultKind.NOT_CAPTURED_WHOLE, f"the capture has {len(datagram.payload)} bytes of it, not all")
    if len(datagram.payload) < _HEADER_LENGTH:
        return Fault(FaultKind.LENGTH, f"{len(datagram.payload)} bytes, less than the header's {_HEADER_LENGTH}")
    return None


class _Version2(VRRP):
    """scapy chooses between its classes by length and type too, which is wrong for broken packets."""

    @classmethod
    def dispatch_hook(cls, *_arguments: Any, **_options: Any) -> type:
        """No choice."""
        return cls


class _Version3(VRRPv3):
    """The same of the other version."""

    @classmethod
    def dispatch_hook(cls, *_arguments: Any, **_options: Any) -> type:
        """No choice."""
        return cls


def _header(datagram: _Datagram, version: int) -> Any:
    """The packet as scapy reads it; what a broken one lacks of its addresses and authentication is zeros."""
    end = _HEADER_LENGTH + datagram.payload[3] * datagram.width
    layer: type[Any] = _Version3
    if version == 2 and datagram.width == 4:
        end += _AUTHENTICATION_LENGTH
        layer = _Version2
    return layer(datagram.payload[:end].ljust(end, b"\0"), _underlayer=datagram.layer)


def _ttl_faults(datagram: _Datagram) -> list[Fault]:
    """RFC 9568 sections 5.1.1.3 and 5.1.2.3: a TTL or hop limit of 255 proves that no router forwarded the packet.

    Between link-local addresses another hop limit is only remarked on: no router forwards these (RFC 4291 section
    2.5.6), keepalived sends so, and Holdfast obeys it (ADR 0011).
    """
    if datagram.ttl == _TTL or _is_between_link_locals(datagram):
        return []
    name = "TTL" if datagram.width == 4 else "hop limit"
    return [Fault(FaultKind.TIME_TO_LIVE, f"{name} {datagram.ttl}, not {_TTL}")]


def _is_between_link_locals(datagram: _Datagram) -> bool:
    addresses = (ipaddress.ip_address(text) for text in (datagram.source, datagram.destination))
    return all(address.version == 6 and address.is_link_local for address in addresses)


def _version_faults(datagram: _Datagram, version: int) -> list[Fault]:
    """RFC 9568 section 7.1: version 3; RFC 3768 section 7.1: version 2, which there is only over IPv4."""
    if version == 3 or (version == 2 and datagram.width == 4):
        return []
    over = " over IPv6" if version == 2 else ""
    return [Fault(FaultKind.VERSION, f"version {version}{over}")]


def _header_faults(header: Any) -> list[Fault]:
    """RFC 9568 sections 5.2.2 and 5.2.3 (type, VRID); errata 8299 (no address) and 8301 (interval 0)."""
    faults = []
    if header.type != 1:
        faults.append(Fault(FaultKind.TYPE, f"type {header.type}, not 1"))
    if header.vrid == 0:
        faults.append(Fault(FaultKind.VIRTUAL_ROUTER_ID_ZERO, "VRID 0"))
    if header.ipcount == 0:
        faults.append(Fault(FaultKind.ADDRESS_COUNT_ZERO, "no address"))
    if header.adv == 0:
        faults.append(Fault(FaultKind.INTERVAL_ZERO, "interval 0"))
    return faults


def _length_faults(datagram: _Datagram, header: Any) -> list[Fault]:
    """RFC 9568 section 7.1 and RFC 3768 sections 5.3.5, 5.3.10: as long as its count of addresses says."""
    right = _HEADER_LENGTH + header.ipcount * datagram.width
    right += _AUTHENTICATION_LENGTH if header.version == 2 else 0
    if len(datagram.payload) == right:
        return []
    addresses = "address" if header.ipcount == 1 else "addresses"
    detail = f"{len(datagram.payload)} bytes, not the {right} of {header.ipcount} {addresses}"
    return [Fault(FaultKind.LENGTH, detail)]


def _checksum_form(datagram: _Datagram, version: int) -> ChecksumForm | None:
    """Which form of the checksum is right, if any.

    RFC 3768 section 5.3.8: the VRRP packet alone. RFC 9568 section 5.2.8: with the pseudo-header over IPv6. Over
    IPv4 VRRPv3 routers send both: keepalived and FRR with the pseudo-header, others without.
    """
    if version == 3 and covers_with_pseudo_header(datagram.payload, datagram.source, datagram.destination, _VRRP):
        return ChecksumForm.PSEUDO_HEADER
    if datagram.width == 4 and covers(datagram.payload):
        return ChecksumForm.NOTHING
    return None


def _authentication(header: Any) -> tuple[Authentication, Fault | None]:
    """RFC 3768 section 5.3.6: none, or the simple text password of RFC 2338 that keepalived still speaks."""
    if header.authtype > 1:
        fault = Fault(FaultKind.AUTHENTICATION, f"authentication type {header.authtype}, neither 0 nor 1")
        return Authentication.NONE, fault
    return (Authentication.SIMPLE_PASSWORD if header.authtype else Authentication.NONE), None


def _remarks(datagram: _Datagram, header: Any) -> list[str]:
    remarks = []
    if datagram.ttl != _TTL and _is_between_link_locals(datagram):
        remarks.append(f"hop limit {datagram.ttl} instead of {_TTL}, between link-local addresses")
    if header.version == 3 and header.res:  # RFC 9568 section 5.2.6: ignored on reception
        remarks.append(f"reserved bits {header.res:#x}")
    return remarks


def _malformed(datagram: _Datagram, protocol: str, faults: list[Fault], **fields: Any) -> Malformed:
    return Malformed(
        at=datagram.at,
        link=datagram.link,
        protocol=protocol,
        source=datagram.source,
        destination=datagram.destination,
        mac=datagram.mac,
        ttl=datagram.ttl,
        faults=tuple(faults),
        **fields,
    )


# ----- ARP and neighbour discovery -----


def _arp(arp: Any, at: int, link: str) -> Resolution | None:
    """RFC 826; an announcement has sender and target the same, as request or reply (RFC 5227 section 3)."""
    if (arp.hwtype, arp.ptype, arp.hwlen, arp.plen) != (1, 0x0800, 6, 4) or len(arp.original) < 28:
        return None
    if arp.psrc == arp.pdst:
        role, address = Role.ANNOUNCEMENT, arp.psrc
    elif arp.op == 1:
        role, address = Role.QUESTION, arp.pdst
    elif arp.op == 2:
        role, address = Role.ANSWER, arp.psrc
    else:
        return None
    return Resolution(at=at, link=link, protocol="ARP", role=role, address=address, mac=arp.hwsrc, source=arp.psrc)


def _neighbour_discovery(datagram: _Datagram) -> Resolution | Malformed | None:
    """RFC 4861 sections 4.3, 4.4, 7.1.1 and 7.1.2; an advertisement that nobody asked for has S=0 (section 7.2.6)."""
    kind = datagram.payload[0] if datagram.payload else 0
    if kind not in (_NEIGHBOUR_SOLICITATION, _NEIGHBOUR_ADVERTISEMENT) or datagram.is_fragment:
        return None
    if len(datagram.payload) < _NEIGHBOUR_MESSAGE_LENGTH or not datagram.is_whole:
        return None
    is_question = kind == _NEIGHBOUR_SOLICITATION
    message = (ICMPv6ND_NS if is_question else ICMPv6ND_NA)(datagram.payload, _underlayer=datagram.layer)
    faults = []
    if datagram.ttl != _TTL:
        faults.append(Fault(FaultKind.TIME_TO_LIVE, f"hop limit {datagram.ttl}, not {_TTL}"))
    if not covers_with_pseudo_header(datagram.payload, datagram.source, datagram.destination, _ICMPV6):
        faults.append(Fault(FaultKind.CHECKSUM, f"checksum {message.cksum:#06x} is wrong"))
    if message.code != 0:
        faults.append(Fault(FaultKind.TYPE, f"code {message.code}, not 0"))
    if faults:
        return _malformed(datagram, "NDP", faults, address=message.tgt)
    option = message.getlayer(ICMPv6NDOptSrcLLAddr if is_question else ICMPv6NDOptDstLLAddr)
    return Resolution(
        at=datagram.at,
        link=datagram.link,
        protocol="NDP",
        role=Role.QUESTION if is_question else Role.ANSWER if message.S else Role.ANNOUNCEMENT,
        address=message.tgt,
        mac=datagram.mac if option is None else option.lladdr,
        source=datagram.source,
    )
