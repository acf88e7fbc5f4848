"""IP addresses as users write them: stricter than the standard library, which also takes netmasks and zones."""

from __future__ import annotations

import functools
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface


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
    try:
        return ip_interface(text)
    except ValueError:
        return None


def parse_address(text: str) -> Address | None:
    """An address without prefix length, or None if the text is something else."""
    interface = None if "/" in text else parse_interface(text)
    return interface.ip if interface is not None else None
