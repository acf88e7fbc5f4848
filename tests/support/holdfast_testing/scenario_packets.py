"""Packets that come from no node of a scenario: any advertisement, well-formed or not, or any bytes."""

from __future__ import annotations

from ipaddress import ip_address

from holdfast_api.errors import ConfigurationError
from holdfast_speaker.engine.ports import Datagram
from holdfast_speaker.vrrp.configuration import Configuration
from holdfast_speaker.vrrp.instants import CENTISECOND
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, MULTICAST_GROUP_V6, encode
from holdfast_testing.scenario_settings import nanoseconds
from holdfast_testing.sim.wire import TTL

_CHECKSUM = slice(6, 8)


def foreign_datagram(receiver: Configuration, source: bytes, fields: dict[str, str]) -> Datagram:
    """A packet for this receiver: what it would send itself at priority 100, but for the fields given.

    Raises ConfigurationError for a field that does not exist.
    """
    rest = dict(fields)
    group = MULTICAST_GROUP_V4 if len(source) == 4 else MULTICAST_GROUP_V6
    destination = ip_address(rest.pop("to")).packed if "to" in rest else group
    ttl = int(rest.pop("ttl", str(TTL)))
    text = rest.pop("hex", None)
    payload = _advertisement(receiver, source, destination, rest) if text is None else bytes.fromhex(text)
    if rest:
        raise ConfigurationError(f"inject does not know {', '.join(rest)}")
    return Datagram(payload, source, destination, ttl)


def _advertisement(receiver: Configuration, source: bytes, destination: bytes, rest: dict[str, str]) -> bytes:
    family = receiver.family(len(source)) or receiver.families[0]
    addresses = tuple(ip_address(text).packed for text in rest.pop("addresses", "").split(",") if text)
    password = rest.pop("password").encode() if "password" in rest else receiver.password
    payload = encode(
        int(rest.pop("version", str(receiver.version))),
        int(rest.pop("vrid", str(receiver.vrid))),
        int(rest.pop("priority", "100")),
        nanoseconds(rest.pop("interval", f"{receiver.interval // CENTISECOND}cs")),
        addresses or family.addresses,
        source,
        destination,
        None if password == b"none" else password,
    )
    match rest.pop("checksum", "good"):
        case "good":
            return payload
        case "bad":
            return _with_checksum(payload, payload[7] ^ 0xFF)
        case "without-pseudo-header":
            return _with_checksum(payload, _sum(_with_checksum(payload, 0)))
        case other:
            raise ConfigurationError(f"checksum is good, bad or without-pseudo-header, not {other}")


def _with_checksum(payload: bytes, checksum: int) -> bytes:
    return payload[: _CHECKSUM.start] + checksum.to_bytes(2, "big") + payload[_CHECKSUM.stop :]


def _sum(message: bytes) -> int:
    """RFC 1071, word by word."""
    total = sum(int.from_bytes(message[at : at + 2], "big") for at in range(0, len(message), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
