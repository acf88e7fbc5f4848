"""A journal is bounded, whole, and plays to the same transitions; what is no journal is refused by line."""

from __future__ import annotations

import contextlib
import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Health
from holdfast_speaker.vrrp import journal
from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.instants import SECOND, Instant
from holdfast_speaker.vrrp.journal import RecordedRouter
from holdfast_speaker.vrrp.packet import Advertisement
from holdfast_speaker.vrrp.router import VirtualRouter

VIP, OURS, THEIRS, ALL = (bytes((10, 0, 0, last)) for last in (9, 1, 2, 18))


def router() -> RecordedRouter:
    recorded = RecordedRouter(Configuration(51, (Family(OURS, (VIP,), (ALL,)),)))
    recorded.start(Instant(0), Health.HEALTHY, frozenset())
    return recorded


def advertisement(priority: int) -> Advertisement:
    return Advertisement(3, 51, priority, SECOND, (VIP,), THEIRS)


def lines(recorded: RecordedRouter) -> list[bytes]:
    return list(journal.write("shop/web", recorded))


def test_every_verb_that_changes_a_router_is_recorded() -> None:
    questions = {"next_deadline"}
    verbs = {name for name, _ in inspect.getmembers(VirtualRouter, inspect.isfunction) if not name.startswith("_")}
    recorded = {name for name in verbs if getattr(RecordedRouter, name) is not getattr(VirtualRouter, name)}
    assert recorded == verbs - questions


def test_a_poll_that_changes_nothing_is_no_input() -> None:
    recorded = router()
    for tick in range(100):
        recorded.poll(Instant(tick))
    assert len(lines(recorded)) == 2


def test_a_verb_that_calls_another_is_one_input() -> None:
    recorded = RecordedRouter(Configuration(51, (Family(OURS, (VIP,), (ALL,)),), release_when_failing=True))
    recorded.start(Instant(0), Health.HEALTHY, frozenset())
    recorded.report_health(Health.FAILING, Instant(1))
    assert [json.loads(line)["verb"] for line in lines(recorded)[1:]] == ["start", "report_health"]


def test_a_journal_is_bounded_and_plays_from_its_checkpoint() -> None:
    recorded = router()
    for second in range(4, 5000):
        recorded.poll(Instant(second * SECOND))
        if second % 7 == 0:
            recorded.receive(advertisement(200 if second % 2 else 0), Instant(second * SECOND + 1))
    written = lines(recorded)
    assert len(written) <= 2 * journal.SEGMENT + 1
    assert b"Initialize" not in written[0], "it does not begin at the start"
    played = list(journal.play(written))
    assert played
    assert all(one.recorded == one.replayed for one in played)


def test_a_core_that_decides_otherwise_is_seen() -> None:
    recorded = router()
    recorded.poll(Instant(4 * SECOND))
    written = [line.replace(b'"NoMasterHeard"', b'"MasterSilent"') for line in lines(recorded)]
    assert [one.recorded == one.replayed for one in journal.play(written)] == [True, False]


@pytest.mark.parametrize(
    ("text", "number"),
    [(b"", 1), (b"[]", 1), (b'{"journal": 2}', 1), (b"{", 1), (b'{"verb": "sing", "arguments": []}', 2)],
)
def test_what_is_no_journal_is_refused_by_line(text: bytes, number: int) -> None:
    head = lines(router())[:1] if number == 2 else []
    with pytest.raises(ConfigurationError, match=f"line {number}: is not a line of a journal"):
        list(journal.play([*head, text]))


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_any_lines_play_or_are_refused(text: list[bytes]) -> None:
    for head in ([], lines(router())[:1]):
        with contextlib.suppress(ConfigurationError):
            list(journal.play([*head, *text]))
