"""Maintenance of a host: what is kept of the wish, what the engine is told, and what the command says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from holdfast_api.errors import EnvironmentFailure
from holdfast_api.reasons import Health, State
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_cli.commands import maintenance as subcommand
from holdfast_cli.standalone import maintenance
from holdfast_cli.standalone.feed import Feed
from holdfast_testing.agent_fixtures import FakeEngine, router_status

WEB = VirtualRouterConfiguration(name="shop/web", addresses=["10.0.0.9/24"], virtual_router_id=51)
VIP = "metadata: {name: web}\nspec: {addresses: [10.0.0.9/24], virtualRouterID: 51}\n"


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    (tmp_path / "vip.yaml").write_text(VIP, encoding="utf-8")
    return Feed([tmp_path / "vip.yaml"], "n1", None, tmp_path)


def test_the_engine_is_told_to_drain_while_it_lasts_and_each_time_with_a_new_generation(
    feed: Feed, tmp_path: Path
) -> None:
    bare = feed.plan(feed.look()).configuration
    assert not bare.virtual_routers[0].draining
    assert feed.plan_of_maintenance() is None
    asked = maintenance.begin(tmp_path, None)
    begun = feed.plan_of_maintenance()
    assert begun is not None
    (router,) = begun.configuration.virtual_routers
    assert (router.draining, router.draining_reason) == (True, asked.sentence)
    assert begun.configuration.generation > bare.generation
    assert feed.plan_of_maintenance() is None, "it is known"
    assert feed.plan(feed.look()).configuration.virtual_routers[0].draining, "an edit does not end it"
    maintenance.end(tmp_path)
    ended = feed.plan_of_maintenance()
    assert ended is not None
    assert ended.configuration.virtual_routers == bare.virtual_routers
    assert ended.configuration.generation > begun.configuration.generation


def test_a_run_that_starts_meanwhile_begins_with_it(feed: Feed, tmp_path: Path) -> None:
    maintenance.begin(tmp_path, timedelta(hours=1))
    another = Feed([tmp_path / "vip.yaml"], "n1", None, tmp_path)
    assert another.plan(another.look()).configuration.virtual_routers[0].draining


def test_it_ends_by_itself(tmp_path: Path) -> None:
    assert maintenance.begin(tmp_path, timedelta(hours=1)) == maintenance.asked_for(tmp_path)
    maintenance.begin(tmp_path, timedelta(seconds=-1))
    assert maintenance.asked_for(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"since": 1}', '{"since": "", "until": "soon"}'])
def test_a_wish_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "maintenance.json").write_text(content, encoding="utf-8")
    assert maintenance.asked_for(tmp_path) is None


def test_a_state_directory_that_takes_nothing_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"nowhere/maintenance.json cannot be written: No such file"):
        maintenance.begin(tmp_path / "nowhere", None)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The answer to `on` where the engine's router is so."""

    def invoke(**fields: Any) -> Result:
        answer = structs.replace(FakeEngine(Path("unused")).status(), routers=[router_status(WEB, **fields)])
        monkeypatch.setattr(subcommand, "ask_status", lambda *_: answer)
        monkeypatch.setattr(subcommand, "_LOOK_EVERY_SECONDS", 0)
        monkeypatch.setattr("time.monotonic", iter(range(1000)).__next__)
        return CliRunner().invoke(subcommand.command, ["on", "--for=1h30m", "--state-dir", str(tmp_path)])

    return invoke


def test_the_command_says_when_nothing_is_held_here_any_more(on: Any) -> None:
    told = on(state=State.BACKUP, health=Health.FAILING)
    assert told.exit_code == 0
    assert told.output.endswith(": no VIP is held here\n")


def test_the_command_names_what_nobody_took(on: Any) -> None:
    told = on(state=State.MASTER, health=Health.FAILING)
    assert str(told.exception).endswith("no healthy host took it over within 10 s: shop/web")


def test_the_command_says_where_nobody_acts_on_it(on: Any) -> None:
    assert "has not acted on it within 10 s" in str(on(state=State.BACKUP, health=Health.HEALTHY).exception)


@pytest.mark.parametrize("lasts", ["", "1", "1x", "h", "0s", "-1h", "1.5h", "400d"])
def test_durations_that_are_none_are_refused(lasts: str, tmp_path: Path) -> None:
    told = CliRunner().invoke(subcommand.command, ["on", "--for", lasts, "--state-dir", str(tmp_path)])
    assert told.exit_code == 2
    assert "must be a duration such as 30m" in told.output
    assert not (tmp_path / "maintenance.json").exists()


def test_it_begins_and_ends_where_nothing_runs(tmp_path: Path) -> None:
    for wish, is_asked_for in (("on", True), ("off", False)):
        result = CliRunner().invoke(subcommand.command, [wish, "--state-dir", str(tmp_path)])
        assert (result.exit_code, maintenance.asked_for(tmp_path) is not None) == (0, is_asked_for), result.output
