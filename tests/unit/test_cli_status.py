"""What `holdfast status` tells people of a VirtualIP."""

from __future__ import annotations

from holdfast_api.messages import RouterStatus
from holdfast_api.reasons import Health, State
from holdfast_cli.commands.status import _router_lines


def shown(**fields) -> str:
    router = RouterStatus(
        virtual_ip="default/web",
        addresses=["10.9.0.200/24"],
        interface="eth0",
        virtual_router_id=51,
        version=3,
        state=State.MASTER,
        since="2026-01-01T00:00:00.000Z",
        reason=None,
        message="",
        priority=110,
        health=Health.HEALTHY,
        advertisement_interval_milliseconds=100,
        learned_interval_milliseconds=100,
        **{"effective_priority": 110, "health_detail": "", "obstacles": [], "obstacle_detail": "", "master": ""}
        | {"master_priority": 0, "transitions": 1, "counters": {}}
        | fields,
    )
    return "\n".join(_router_lines(router))


def test_warnings_are_shown_with_their_virtual_ip():
    text = shown(
        warnings=["10.9.0.200 is in use by 02:00:00:00:00:07", "advertisements from 10.9.0.9 are refused: why"]
    )
    assert "warning    10.9.0.200 is in use by 02:00:00:00:00:07" in text
    assert "warning    advertisements from 10.9.0.9 are refused: why" in text
    assert "warning" not in shown()


def test_a_master_that_has_heard_nobody_says_what_it_advertises_and_why():
    assert "priority   110, advertised as 50 until somebody else is heard" in shown(
        effective_priority=50, unproved=True
    )
    assert "until somebody" not in shown()
