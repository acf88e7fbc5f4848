"""Every reason has a sentence for people, and the sentence has the facts."""

from __future__ import annotations

import pytest

from holdfast_api.reasons import Reason, State
from holdfast_speaker.vrrp.actions import Transitioned
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant
from holdfast_speaker.vrrp.sentences import sentence

PEER = bytes((10, 0, 0, 7))


def transition(
    reason: Reason, to_state: State = State.MASTER, peer: bytes | None = PEER, detail: str = ""
) -> Transitioned:
    return Transitioned(
        Instant(0), State.BACKUP, to_state, reason, 99, peer, 100, Duration(2 * SECOND + 1_500_000), detail
    )


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence_of_its_own_without_holes(reason: Reason) -> None:
    text = sentence(transition(reason))
    assert text
    assert "{" not in text
    others = {sentence(transition(other)) for other in Reason if other is not reason}
    assert text not in others


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.MASTER_SILENT, "10.0.0.7 (priority 100) was silent for 2.002 s"),
        (Reason.MASTER_RELEASED, "10.0.0.7 (priority 100) gave the addresses up"),
        (Reason.MASTER_FAILING, "10.0.0.7 is failing (priority 100), this node is healthy"),
        (Reason.HIGHER_PRIORITY, "10.0.0.7 has priority 100, this node 99"),
        (Reason.HEALTHIER_MASTER, "10.0.0.7 is healthier (priority 100, this node 99)"),
        (Reason.HIGHER_ADDRESS, "10.0.0.7 has the same priority 100 and the higher address"),
        (Reason.SUPERSEDED_WHILE_STALLED, "10.0.0.7 took over while this process was not running"),
        (Reason.SUPERSEDED_WHILE_CUT_OFF, "10.0.0.7 took over while this node was cut off"),
    ],
)
def test_a_sentence_names_who_and_the_figures(reason: Reason, expected: str) -> None:
    assert sentence(transition(reason)) == expected


def test_ipv6_peers_are_written_as_people_write_them() -> None:
    peer = bytes.fromhex("fe80") + bytes(13) + b"\x02"
    assert sentence(transition(Reason.MASTER_SILENT, peer=peer)).startswith("fe80::2 ")


def test_a_release_by_a_master_that_was_never_heard_names_nobody() -> None:
    assert sentence(transition(Reason.MASTER_RELEASED, peer=None)) == "the Master gave the addresses up"


def test_a_switchover_reads_differently_on_the_two_nodes() -> None:
    assert sentence(transition(Reason.SWITCHOVER)) == "a switchover was asked for"
    taken = sentence(transition(Reason.SWITCHOVER, State.BACKUP))
    assert taken == "10.0.0.7 took the addresses as was asked for"


def test_a_master_that_heard_nobody_says_what_it_advertises() -> None:
    moved = Transitioned(Instant(0), State.BACKUP, State.MASTER, Reason.NO_MASTER_HEARD, 50, unproved=True)
    assert sentence(moved) == "no Master was heard; nobody else was heard on this link yet, so it advertises 50"


def test_a_detail_stands_at_the_end() -> None:
    text = sentence(transition(Reason.LINK_DOWN, State.INITIALIZE, detail="eth0 has no carrier"))
    assert text == "the link is down: eth0 has no carrier"
