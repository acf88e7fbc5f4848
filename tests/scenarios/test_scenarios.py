"""Every scenario file gives what it says, at the time it says. HOLDFAST_REWRITE=1 writes the output anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest
from _pytest.mark.structures import ParameterSet

from holdfast_speaker.vrrp.router import Checkpoint
from holdfast_testing.scenario import COMMANDS, Scenario, ScenarioError, play, seconds
from holdfast_testing.scenario_settings import SETTINGS

SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))
KNOWN_BUG = "# KNOWN BUG: "


def marked(path: Path) -> ParameterSet:
    """A scenario that shows a known bug says so in its first line, and must fail until somebody mends it."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    bug = first.removeprefix(KNOWN_BUG)
    return pytest.param(path, marks=pytest.mark.xfail(reason=bug, strict=True) if bug != first else ())


@pytest.mark.parametrize("path", [marked(path) for path in SCENARIOS], ids=[path.stem for path in SCENARIOS])
def test_scenario(path: Path) -> None:
    text = play(path)
    if os.environ.get("HOLDFAST_REWRITE") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [marked(path) for path in SCENARIOS], ids=[path.stem for path in SCENARIOS])
def test_what_a_router_knows_at_a_scenarios_end_can_be_written_and_read(path: Path) -> None:
    scenario = Scenario()
    play(path, scenario)
    for router in scenario.routers.values():
        known = router.checkpoint()
        assert msgspec.json.decode(msgspec.json.encode(known), type=Checkpoint) == known


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_says_first_which_rule_it_shows(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_every_command_and_setting_is_explained() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
    explained = {word for line in text.splitlines() if line.startswith("|") for word in re.findall(r"`([\w-]+)", line)}
    assert explained >= {*COMMANDS, *SETTINGS} - {"nodes", "set", "inject"}
    assert re.search(r"`nodes a=.*`set a .*`inject`", text, re.DOTALL)


def written(folder: Path, text: str) -> Path:
    path = folder / "made.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_expectation_that_is_not_met_names_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "# wrong\nnodes a=200 b=100\nstabilize\nexpect holder b\n----\n")
    with pytest.raises(ScenarioError, match=r"made\.txt:4: expect holder b: .* held by a"):
        play(path)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("dance a", "no such command"),
        ("start z", "there is no node z"),
        ("set a nopreempt=perhaps", "nopreempt is one of true, false, not perhaps"),
        ("set a colour=red", "no setting colour"),
        ("run fast", "'fast' is no duration"),
        ("inject a colour=red", "inject does not know colour"),
        ("trace everything", "trace 'off', or some of"),
    ],
)
def test_a_command_that_makes_no_sense_says_why(tmp_path: Path, command: str, reason: str) -> None:
    path = written(tmp_path, f"# wrong\nnodes a=200 b=100\nstart all\n{command}\n----\n")
    with pytest.raises(ScenarioError, match=rf"made\.txt:4: .*{reason}"):
        play(path)


def test_output_that_no_rule_line_shows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="is not shown"):
        play(written(tmp_path, "# wrong\nnodes a=200\nstart a\nrun 5s\n"))


def test_commands_right_below_the_rule_are_not_taken_for_output(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"made\.txt:5: after ---- comes output"):
        play(written(tmp_path, "# wrong\nnodes a=200\nstart a\n----\nrun 5s\n----\n"))


def test_old_output_is_replaced_and_commands_and_comments_stay(tmp_path: Path) -> None:
    path = written(
        tmp_path, "# right\nnodes a=200\nstart a  # so\n----\n0.1 old\n\n# why\nrun 1s\n----\n1.0 old\n2.0 older\n"
    )
    new = "# right\nnodes a=200\nstart a  # so\n----\n0.000 a Initialize -> Backup  Started: started\n\n"
    assert play(path) == new + "# why\nrun 1s\n----\n"


@pytest.mark.parametrize(
    ("span", "text"), [(0, "0.000"), (1, "0.000000001"), (3_609_375_000, "3.609375"), (2_000_000_000, "2.000")]
)
def test_times_are_exact_and_have_three_decimals_at_least(span: int, text: str) -> None:
    assert seconds(span) == text
