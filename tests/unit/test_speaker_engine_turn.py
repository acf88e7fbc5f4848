"""The order of a turn: ingress before timers, and nobody who floods keeps the timers from running."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from holdfast_speaker.engine.ports import Datagram, Listener, NeighbourAnswer
from holdfast_speaker.engine.turn import DATAGRAMS_PER_READ, READS, READS_AFTER_STALL, READS_OF_OVERHEARD, Turn
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Instant

ONE, OTHER, THIRD = Listener(2, 4), Listener(2, 16), Listener(3, 4)
PACKET = Datagram(b"", b"", b"", 255)


class Engine:
    """Writes down in which order it is called."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def receive(self, listener: Listener, datagrams: Sequence[Datagram], now: Instant) -> None:
        self.told.append(f"receive {len(datagrams)} on {listener.link}/{listener.width}")

    def take_in(self, now: Instant) -> None:
        self.told.append("links")

    def hear(self, index: int, answers: Sequence[NeighbourAnswer], now: Instant) -> None:
        self.told.append(f"answers on {index}")

    def poll(self, now: Instant) -> None:
        self.told.append("poll")


class Arrivals:
    """So many packets wait on each listener."""

    def __init__(self, **_: int) -> None:
        self.waiting: dict[Listener, int] = {}

    def listeners(self) -> Collection[Listener]:
        return [listener for listener in self.waiting if self.waiting[listener]]

    def receive(self, listener: Listener, limit: int) -> Sequence[Datagram]:
        taken = min(limit, self.waiting.get(listener, 0))
        self.waiting[listener] = self.waiting.get(listener, 0) - taken
        return [PACKET] * taken

    def answers(self, index: int, limit: int) -> Sequence[NeighbourAnswer]:
        return [NeighbourAnswer(b"", b"")]


class Clock:
    at = Instant(1000 * SECOND)

    def now(self) -> Instant:
        return self.at

    def timestamp(self) -> str:
        return ""


def turn(waiting: dict[Listener, int]) -> tuple[Turn, Engine, Arrivals, list[Instant]]:
    engine, arrivals, alive = Engine(), Arrivals(), list[Instant]()
    arrivals.waiting = waiting
    return Turn(engine, arrivals, Clock(), alive.append), engine, arrivals, alive  # type: ignore[arg-type]


def test_packets_come_before_links_answers_and_timers():
    one, engine, _, alive = turn({ONE: 3})
    one.run(Clock.at, [ONE], (), [2], links_changed=True)
    assert engine.told == ["receive 3 on 2/4", "links", "answers on 2", "poll"]
    assert alive == [Clock.at]


def test_after_a_bounded_number_of_full_reads_the_timers_run():
    one, engine, arrivals, _ = turn({ONE: 10**6})
    one.run(None, [ONE], links_changed=False)
    assert engine.told.count(f"receive {DATAGRAMS_PER_READ} on 2/4") == READS
    assert engine.told[-1] == "poll"
    assert arrivals.waiting[ONE] > 0


def test_a_flood_in_one_family_keeps_nobody_from_reading_the_other():
    one, engine, _, _ = turn({ONE: 10**6, OTHER: 1})
    one.run(Clock.at, [ONE, OTHER], links_changed=False)
    assert engine.told[:2] == [f"receive {DATAGRAMS_PER_READ} on 2/4", "receive 1 on 2/16"]


def test_after_a_stall_what_came_meanwhile_is_read_although_nobody_said_that_it_is_there():
    one, engine, arrivals, _ = turn({ONE: 1, OTHER: 3000})
    one.run(Instant(Clock.at - 51 * MILLISECOND), [ONE], links_changed=False)
    assert engine.told[-1] == "poll"
    assert arrivals.waiting[OTHER] == 0
    assert engine.told.count(f"receive {DATAGRAMS_PER_READ} on 2/16") <= READS_AFTER_STALL


def test_what_is_only_overheard_is_bounded_for_all_together_and_comes_last():
    pods = [Listener(index, 4) for index in range(10, 60)]
    one, engine, _, _ = turn(dict.fromkeys(pods, 10**6) | {ONE: 1})
    one.run(None, [ONE], pods, links_changed=False)
    assert engine.told[:2] == ["receive 1 on 2/4", "poll"]
    assert len(engine.told) - 2 == READS_OF_OVERHEARD


def test_overheard_links_that_are_quiet_take_nothing_from_those_that_are_not():
    one, engine, _, _ = turn({THIRD: 5})
    one.run(None, [], [ONE, OTHER, THIRD], links_changed=False)
    assert engine.told == ["poll", "receive 5 on 3/4"]
