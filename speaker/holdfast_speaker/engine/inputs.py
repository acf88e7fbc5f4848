"""What an engine is told: everything that changes it comes in by one of these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from holdfast_api.reasons import Health
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine.ports import Datagram, Listener, NeighbourAnswer
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.vrrp.instants import Instant


class Inputs(Protocol):
    """An engine, or one whose inputs are recorded (journal.py). What each of them means says Engine."""

    def go_on_from(self, former: Iterable[PublishedRouter], seen_at: Instant) -> None:
        """As Engine.go_on_from."""
        ...

    def clean_up_after(self, former: Collection[PublishedRouter]) -> None:
        """As Engine.clean_up_after."""
        ...

    def configure(self, configuration: SpeakerConfiguration, now: Instant) -> None:
        """As Engine.configure."""
        ...

    def expect_first_holds(self, nominees: Mapping[str, str]) -> None:
        """As Engine.expect_first_holds."""
        ...

    def take_in(self, now: Instant) -> None:
        """As Engine.take_in."""
        ...

    def receive(self, listener: Listener, datagrams: Sequence[Datagram], now: Instant) -> None:
        """As Engine.receive."""
        ...

    def hear(self, index: int, answers: Sequence[NeighbourAnswer], now: Instant) -> None:
        """As Engine.hear."""
        ...

    def poll(self, now: Instant) -> None:
        """As Engine.poll."""
        ...

    def report_health(self, name: str, health: Health, detail: str, now: Instant) -> None:
        """As Engine.report_health."""
        ...

    def switchover(self, name: str, to: str, now: Instant) -> str:
        """As Engine.switchover."""
        ...

    def step_aside(self, now: Instant) -> Instant:
        """As Engine.step_aside."""
        ...

    def stop(self, now: Instant) -> None:
        """As Engine.stop."""
        ...

    def hand_over(self, now: Instant) -> None:
        """As Engine.hand_over."""
        ...
