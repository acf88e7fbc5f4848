"""What a scenario can say about a node: the words of the VirtualIP, and durations with their unit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import ip_address
from typing import TypeVar

from holdfast_api.errors import ConfigurationError
from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.instants import CENTISECOND, MILLISECOND, SECOND, Duration
from holdfast_speaker.vrrp.packet import MULTICAST_GROUPS

Value = TypeVar("Value")

_UNITS = {"s": SECOND, "cs": CENTISECOND, "ms": MILLISECOND, "us": MILLISECOND // 1000}

SETTINGS = {
    "interval": "1s",
    "nopreempt": "true",
    "version": "3",
    "families": "4",
    "addresses": "",
    "sources": "",
    "whenFailing": "Degrade",
    "preemptDelay": "0s",
    "recoveryHold": "0s",
    "quietPeriod": "1s",
    "startDelay": "0s",
    "announcementInterval": "60s",
    "partial": "false",
    "password": "",
    "members": "unknown",
    "foreignRouters": "Obey",
    "transport": "Multicast",
    "vrid": "51",
}
"""Every setting and its default. `addresses` and `sources` are lists with commas; empty: made from `families`."""


def nanoseconds(text: str) -> Duration:
    """A duration such as 1s, 4095cs, 0.5ms; raises ConfigurationError for another text."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|cs|ms|us)", text)
    span = Decimal(match[1]) * _UNITS[match[2]] if match else Decimal("0.5")
    if span != int(span):
        raise ConfigurationError(f"{text!r} is no duration in s, cs, ms or us (whole nanoseconds)")
    return Duration(int(span))


@dataclass
class Settings:
    """One node's settings as text, each checked when it becomes part of a configuration."""

    number: int
    values: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_node(cls, number: int, values: dict[str, str]) -> Settings:
        """The node with this number: 10.0.0.number and fe80::number."""
        settings = cls(number)
        settings.change(values)
        return settings

    def change(self, values: dict[str, str]) -> None:
        """Some settings get other values; raises ConfigurationError for a setting that does not exist."""
        unknown = values.keys() - SETTINGS.keys() - {"priority"}
        if unknown:
            raise ConfigurationError(f"no setting {', '.join(sorted(unknown))}; there are: {', '.join(SETTINGS)}")
        self.values |= values

    def __getitem__(self, key: str) -> str:
        return self.values.get(key, SETTINGS[key])

    @property
    def sources(self) -> list[bytes]:
        """The node's own addresses, of both families."""
        given = [ip_address(text).packed for text in self["sources"].split(",") if text]
        return given or [bytes((10, 0, 0, self.number)), ip_address(f"fe80::{self.number}").packed]

    @property
    def addresses(self) -> list[bytes]:
        """The VIP's addresses."""
        given = [ip_address(text).packed for text in self["addresses"].split(",") if text]
        by_family = {"4": ["10.0.0.200"], "6": ["fe80::200"], "46": ["10.0.0.200", "fe80::200"]}
        return given or [ip_address(text).packed for text in self._one_of("families", by_family)]

    def configuration(self, others: list[Settings]) -> Configuration:
        """The core's configuration among these other nodes."""
        widths = sorted({len(address) for address in self.addresses})
        return Configuration(
            vrid=int(self["vrid"]),
            families=tuple(self._family(width, others) for width in widths),
            version=int(self["version"]),
            priority=int(self.values["priority"]),
            interval=nanoseconds(self["interval"]),
            nopreempt=self._one_of("nopreempt", {"true": True, "false": False}),
            preempt_delay=nanoseconds(self["preemptDelay"]),
            obey_foreign=self._one_of("foreignRouters", {"Obey": True, "Refuse": False}),
            password=self["password"].encode() or None,
            release_when_failing=self._one_of("whenFailing", {"Degrade": False, "Release": True}),
            recovery_hold=nanoseconds(self["recoveryHold"]),
            quiet_period=nanoseconds(self["quietPeriod"]),
            start_delay=nanoseconds(self["startDelay"]),
            announcement_interval=nanoseconds(self["announcementInterval"]),
            partial=self._one_of("partial", {"true": True, "false": False}),
        )

    def _family(self, width: int, others: list[Settings]) -> Family:
        members = tuple(source for other in others for source in other.sources if len(source) == width)
        unicast = self._one_of("transport", {"Multicast": False, "Unicast": True})
        return Family(
            source=next(source for source in self.sources if len(source) == width),
            addresses=tuple(address for address in self.addresses if len(address) == width),
            destinations=members if unicast else (MULTICAST_GROUPS[width],),
            members=self._one_of("members", {"known": frozenset(members), "unknown": None}),
        )

    def _one_of(self, key: str, values: dict[str, Value]) -> Value:
        if self[key] not in values:
            raise ConfigurationError(f"{key} is one of {', '.join(values)}, not {self[key]}")
        return values[self[key]]
