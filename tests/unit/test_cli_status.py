"""What `holdfast status` prints for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec import structs

from holdfast_api.reasons import Health, Reason, State
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_cli.commands import status
from holdfast_cli.standalone import notify_record
from holdfast_testing.agent_fixtures import FakeEngine, router_status

WEB = VirtualRouterConfiguration(name="shop/web", addresses=["10.0.0.9/24"], virtual_router_id=51)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is printed of one virtual router."""

    def printed(*options: str, **fields: Any) -> list[str]:
        answer = structs.replace(FakeEngine(Path("unused")).status(), routers=[router_status(WEB, **fields)])
        monkeypatch.setattr(status, "ask", lambda *_: answer)
        told = CliRunner().invoke(status.command, list(options))
        assert told.exit_code == 0, told.output
        return told.output.splitlines()

    return printed


def test_a_router_that_is_well_has_no_warning(lines: Any) -> None:
    told = lines()
    assert "  priority   100" in told
    assert not any("warning" in line for line in told)


def test_each_warning_is_a_line(lines: Any) -> None:
    told = lines(warnings=["10.0.0.9 is in use by 02:00:00:00:00:07", "another"])
    assert "  warning    10.0.0.9 is in use by 02:00:00:00:00:07" in told
    assert "  warning    another" in told


def test_what_went_wrong_with_the_commands_of_notify_is_told(lines: Any, tmp_path: Path) -> None:
    warnings = {"": ["notify: /etc/x.d: cannot be read"], "shop/web": ["notify: /x: is missing"]}
    notify_record.write_record(tmp_path, notify_record.NotifyRecord(warnings=warnings))
    told = lines("--state-dir", str(tmp_path))
    assert "warning: notify: /etc/x.d: cannot be read" in told
    assert "  warning    notify: /x: is missing" in told


def test_what_is_told_as_an_obstacle_is_not_told_again_as_a_warning(lines: Any) -> None:
    told = lines(state=State.INITIALIZE, obstacle_detail="in use", warnings=["in use", "another"])
    assert [line.split() for line in told if "in use" in line or "another" in line] == [
        ["obstacle", "in", "use"],
        ["warning", "another"],
    ]


def test_one_move_is_not_several(lines: Any) -> None:
    assert any(line.endswith("(1 move)") for line in lines(reason=Reason.MASTER_SILENT, transitions=1))
    assert any(line.endswith("(2 moves)") for line in lines(reason=Reason.MASTER_SILENT, transitions=2))


def test_a_master_without_proof_that_it_hears_says_what_it_waits_for(lines: Any) -> None:
    told = lines(state=State.MASTER, effective_priority=50, unproved=True)
    assert "  priority   100, advertises 50 until it hears another router" in told


def test_a_failing_priority_is_told_as_advertised(lines: Any) -> None:
    assert "  priority   100, advertised as 7" in lines(effective_priority=7)


def test_a_backup_says_after_what_it_takes_over(lines: Any) -> None:
    told = lines(takes_over_after_milliseconds=72)
    assert "  master     10.0.0.2 with priority 100; this host takes over after 72 ms of silence" in told
    assert "  master     10.0.0.2 with priority 100" in lines(), "an older engine does not say"


@pytest.mark.parametrize(
    ("fields", "exit_status", "told"),
    [
        ({"state": State.MASTER}, 0, ["OK: 1 VIPs, 1 held by"]),
        ({"state": State.BACKUP, "master": "10.0.0.2"}, 0, ["OK: 1 VIPs, 0 held by"]),
        ({"state": State.BACKUP, "master": ""}, 2, ["CRITICAL: 1 VIPs", "CRITICAL: shop/web: no Master is heard"]),
        (
            {"state": State.INITIALIZE, "obstacle_detail": "eth0 is down", "warnings": ["eth0 is down", "another"]},
            2,
            ["CRITICAL: 1 VIPs", "CRITICAL: shop/web: eth0 is down", "WARNING: shop/web: another"],
        ),
        (
            {"state": State.MASTER, "health": Health.FAILING, "health_detail": "http: refused"},
            1,
            ["WARNING: 1 VIPs", "WARNING: shop/web: Failing: http: refused"],
        ),
    ],
)
def test_a_check_says_how_it_is_with_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], exit_status: int, told: list[str]
) -> None:
    answer = structs.replace(FakeEngine(Path("unused")).status(), routers=[router_status(WEB, **fields)], warnings=[])
    monkeypatch.setattr(status, "ask", lambda *_: answer)
    checked = CliRunner().invoke(status.command, ["--check"])
    assert checked.exit_code == exit_status
    lines = checked.output.splitlines()
    assert [line.startswith(start) for line, start in zip(lines, told, strict=True)] == [True] * len(told), lines


def test_a_check_where_no_engine_answers_is_unknown(tmp_path: Path) -> None:
    checked = CliRunner().invoke(status.command, ["--check", f"--state-dir={tmp_path}"])
    assert checked.exit_code == 3
    assert checked.output.startswith("UNKNOWN: no engine answers on ")
