"""What people, agents and metrics are told of a move."""

from __future__ import annotations

import pytest

from holdfast_api.reasons import Reason, State
from holdfast_speaker.engine.reports import transition_message
from holdfast_speaker.vrrp.actions import Transitioned
from holdfast_speaker.vrrp.instants import MILLISECOND, Duration, Instant


@pytest.mark.parametrize(
    ("reason", "milliseconds"),
    [
        (Reason.MASTER_SILENT, 310),
        (Reason.MASTER_RELEASED, 310),
        (Reason.MASTER_STEPPED_ASIDE, 0),
        (Reason.MASTER_FAILING, 0),
        (Reason.SWITCHOVER, 0),
        (Reason.HIGHER_PRIORITY, 0),
    ],
)
def test_nobody_held_the_addresses_only_where_their_holder_was_silent_or_gave_them_up(
    reason: Reason, milliseconds: int
) -> None:
    move = Transitioned(
        Instant(0), State.BACKUP, State.MASTER, reason, 100, bytes((10, 0, 0, 2)), 90, Duration(310 * MILLISECOND)
    )
    assert transition_message("default/web", move, "2026-01-01T00:00:00.000Z").silent_milliseconds == milliseconds
