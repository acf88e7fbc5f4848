"""What a scenario can say about a node: the words of the VirtualIP, and durations with their unit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import ip_address
from typing import TypeVar

import msgspec

from holdfast_api.addresses import packed, packed_interface
from holdfast_api.errors import ConfigurationError
from holdfast_api.resources import ConflictDetection, ForeignRouters, Transport, WhenFailing
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_speaker.vrrp.instants import CENTISECOND, MILLISECOND, SECOND, Duration
from holdfast_testing.virtual_lan import SECOND_VIRTUAL_IP, VIRTUAL_IP, Wanted

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
    "lastHolder": "here",
    "soleMember": "false",
    "startDelay": "0s",
    "announcementInterval": "60s",
    "password": "",
    "members": "unknown",
    "foreignRouters": "Obey",
    "transport": "Multicast",
    "vrid": "51",
    "interface": "",
    "conflictDetection": "Refuse",
    "also": "",
    "firstHold": "",
}
"""Every setting and its default. `addresses` and `sources` are lists with commas; empty: made from `families`.
`also` is another VirtualIP: its addresses, with commas, or none. `firstHold` is who is to hold first what is new."""


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
        given = self._list("sources")
        return [packed(text) for text in given or (f"10.0.0.{self.number}", f"fe80::{self.number}")]

    @property
    def addresses(self) -> list[str]:
        """The VIP's addresses, as its user wrote them."""
        by_family = {"4": ["10.0.0.200"], "6": ["fe80::200"], "46": ["10.0.0.200", "fe80::200"]}
        return self._list("addresses") or self._one_of("families", by_family)

    @property
    def interval(self) -> Duration:
        """Between two advertisements."""
        return nanoseconds(self["interval"])

    def wanted(self, others: list[Settings]) -> Wanted:
        """The node among these others: its VirtualIPs, and its addresses. The owner's VIP is its own address."""
        routers = [self._router(VIRTUAL_IP, self.addresses, int(self["vrid"]), others)]
        if self["also"] not in ("", "none"):
            routers.append(self._router(SECOND_VIRTUAL_IP, self._list("also"), int(self["vrid"]) + 1, others))
        own = [(source, 24 if len(source) == 4 else 64) for source in self.sources]
        if self.values["priority"] == "255":
            own += map(packed_interface, self.addresses)
        nominees = {router.name: self["firstHold"] for router in routers if self["firstHold"]}
        return Wanted(tuple(routers), tuple(own), nominees)

    def _router(self, name: str, addresses: list[str], vrid: int, others: list[Settings]) -> VirtualRouterConfiguration:
        transport = self._one_of("transport", {one.value: one for one in Transport})
        known = self._one_of("members", {"known": True, "unknown": False})
        others_addresses = [_text(source) for other in others for source in other.sources]
        members = [*others_addresses, *map(_text, self.sources)]
        configuration = VirtualRouterConfiguration(
            name=name,
            addresses=addresses,
            virtual_router_id=vrid,
            version=self._one_of("version", {"2": 2, "3": 3}),
            priority=int(self.values["priority"]),
            nopreempt=self._one_of("nopreempt", {"true": True, "false": False}),
            preempt_delay_milliseconds=self._span("preemptDelay", MILLISECOND),
            advertisement_interval_milliseconds=self._span("interval", MILLISECOND),
            interface=self["interface"] or None,
            transport=transport,
            members=members if known else [],
            unicast_peers=others_addresses if transport is Transport.UNICAST else [],
            foreign_routers=self._one_of("foreignRouters", {one.value: one for one in ForeignRouters}),
            simple_password=self["password"] or None,
            when_failing=self._one_of("whenFailing", {one.value: one for one in WhenFailing}),
            start_delay_milliseconds=self._span("startDelay", MILLISECOND),
            announcement_interval_seconds=self._span("announcementInterval", SECOND),
            conflict_detection=self._one_of("conflictDetection", {one.value: one for one in ConflictDetection}),
            tracks_services=True,
            recovery_hold_milliseconds=self._span("recoveryHold", MILLISECOND),
            sole_member=self._one_of("soleMember", {"true": True, "false": False}),
            last_holder_elsewhere=self._one_of("lastHolder", {"here": False, "elsewhere": True}),
        )
        try:
            return msgspec.convert(msgspec.to_builtins(configuration), VirtualRouterConfiguration)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"that is no configuration of an engine: {error}") from None

    def _list(self, key: str) -> list[str]:
        return [text for text in self[key].split(",") if text]

    def _span(self, key: str, unit: int) -> int:
        whole, rest = divmod(nanoseconds(self[key]), unit)
        if rest:
            raise ConfigurationError(f"{key} is not {self[key]}: an engine is told whole milliseconds, or seconds")
        return whole

    def _one_of(self, key: str, values: dict[str, Value]) -> Value:
        if self[key] not in values:
            raise ConfigurationError(f"{key} is one of {', '.join(values)}, not {self[key]}")
        return values[self[key]]


def _text(address: bytes) -> str:
    return str(ip_address(address))
