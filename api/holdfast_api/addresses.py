"""IP addresses: as users write them, and packed as the engine and the wire have them.

What users write is read more strictly than the standard library does, which takes netmasks, zones and more. An engine
reads what a planner wrote, also one of another version, and takes all that is an address.
"""

from __future__ import annotations

import functools
import re
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, IPv6Network, ip_address, ip_interface

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

_PARSED_MAX = 16384
"""An engine has 255 times 40 addresses at most, and asks for each several times when it starts."""


# The cluster's plan asks for the same few thousand again at every pass.
@functools.lru_cache(maxsize=16384)
def parse_interface(text: str) -> Interface | None:
    """An address with an optional prefix length (without one: /32 or /128), or None if the text is something else."""
    _, slash, prefix = text.partition("/")
    # The library would take "10.0.0.1/255.255.255.0" and "10.0.0.1/0.0.0.255" for prefixes too.
    if slash and not (prefix.isascii() and prefix.isdigit()):
        return None
    # A zone names an interface of one machine; the resource is read on many.
    if "%" in text:
        return None
    interface = _interface(text)
    return None if interface is None or _is_ipv4_inside(interface) else interface


def parse_address(text: str) -> Address | None:
    """An address without prefix length, or None if the text is something else."""
    interface = None if "/" in text else parse_interface(text)
    return interface.ip if interface is not None else None


def parse_found(text: str) -> Address | None:
    """An address as programs and kernels write it, or None if the text is something else.

    One of IPv4 inside of one of IPv6 (RFC 4291 section 2.5.5.2), which users may not write, is that of IPv4.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def why_no_address(text: str, *, may_have_prefix: bool) -> str:
    """What is wrong with a text that `parse_interface` or `parse_address` makes nothing of, for people."""
    address, slash, prefix = text.partition("/")
    if slash and not may_have_prefix and parse_interface(text) is not None:
        return f"must have no prefix length: write {address}"
    bare, percent, zone = address.partition("%")
    if percent and _interface(bare) is not None:
        return f"must have no zone: {zone} means something on one host only"
    plain = ".".join(octet.lstrip("0") or "0" for octet in address.split("."))
    if plain != address and re.fullmatch(r"[0-9]+(\.[0-9]+){3}", address) and _interface(plain) is not None:
        return f"must have no leading zeros, which some read to the base of eight: write {plain}{slash}{prefix}"
    interface = _interface(text)
    if interface is not None and _is_ipv4_inside(interface):
        length = interface.network.prefixlen
        inner = f"/{length - 96 if length >= 96 else length}" if slash and may_have_prefix else ""
        written = f"{IPv4Address(int(interface.ip) & _IPV4_BITS)}{inner}"
        return f"must be written as the IPv4 address that it is: write {written}"
    kind = "an IPv4 or IPv6 address" + (" with an optional prefix length" if may_have_prefix else "")
    return f"must be {kind}, not {text!r}"


@functools.lru_cache(_PARSED_MAX)
def packed(text: str) -> bytes:
    """The bytes of an address without prefix length, in network order. Raises ValueError."""
    return ip_address(text).packed


@functools.lru_cache(_PARSED_MAX)
def packed_interface(text: str) -> tuple[bytes, int]:
    """The bytes of an address and its prefix length; without one, 32 or 128. Raises ValueError."""
    interface = ip_interface(text)
    return interface.ip.packed, interface.network.prefixlen


_IPV4_BITS = 0xFFFFFFFF
_HOLDS_IPV4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("::/96"))
"""IPv4-mapped addresses, which are in programs' sockets and never on a wire; IPv4-compatible ones, which are obsolete
(RFC 4291 section 2.5.5)."""


def _is_ipv4_inside(interface: Interface) -> bool:
    """Whether an IPv4 address was written as one of IPv6."""
    if interface.version == 4 or interface.ip.is_unspecified or interface.ip.is_loopback:
        return False
    return any(interface.ip in network for network in _HOLDS_IPV4)


def _interface(text: str) -> Interface | None:
    try:
        return ip_interface(text)
    except ValueError:
        return None
