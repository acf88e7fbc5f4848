"""What a virtual router goes on from in another process."""

from __future__ import annotations

import pytest

from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_speaker.vrrp.router import VirtualRouter

NOW = Instant(100 * SECOND)


def router(version: int, interval: Duration) -> VirtualRouter:
    family = Family(bytes((10, 0, 0, 1)), (bytes((10, 0, 0, 200)),), (bytes((224, 0, 0, 18)),))
    return VirtualRouter(Configuration(51, (family,), version=version, interval=interval, priority=192))


@pytest.mark.parametrize(
    ("version", "interval", "silence"),
    [
        (3, Duration(10 * MILLISECOND), 3 * SECOND + SECOND // 4),
        (3, Duration(2 * SECOND), 6 * SECOND + SECOND // 2),
        (2, SECOND, 3 * SECOND + SECOND // 4),
    ],
)
def test_a_backup_that_is_restarted_has_the_patience_that_a_hand_over_may_have_asked_for(
    version: int, interval: Duration, silence: int
) -> None:
    """The Master may have said to the process before that it hands over: 3 times 1 s and the Skew_Time of 192."""
    backup = router(version, interval)
    backup.resume_as_backup(NOW)
    assert backup.next_deadline() == NOW + silence
    assert backup.poll(Instant(NOW + silence - 1)) == ()
    backup.poll(Instant(NOW + silence))
    assert backup.holds_addresses
