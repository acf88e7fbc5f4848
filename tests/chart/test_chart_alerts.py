"""Prometheus' own tool on what operator and agent serve, and on what the chart's alerts make of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from holdfast_operator.planner.cluster.view import ServiceStatus
from holdfast_testing.kind_cluster import ROOT
from holdfast_testing.planner_world import World
from holdfast_testing.scrapes import WEB, scraped_agent, scraped_operator

STEP_SECONDS = 15
BEFORE = 20
"""How often all was well before something happened: five minutes."""
AFTER = 60
UP = 'up{namespace="holdfast-system",service="holdfast-speaker",node="%s"}'


@pytest.fixture(scope="session")
def promtool() -> str:
    """HOLDFAST_PROMTOOL, the one of scripts/setup, or the machine's."""
    own = ROOT / ".venv" / "bin" / "promtool"
    found = os.environ.get("HOLDFAST_PROMTOOL") or (str(own) if own.is_file() else shutil.which("promtool"))
    if found:
        return found
    if os.environ.get("HOLDFAST_REQUIRE"):
        pytest.fail("HOLDFAST_REQUIRE is set, and there is no promtool: scripts/setup test promtool", pytrace=False)
    pytest.skip("no promtool: `scripts/setup test promtool` takes it out of Debian's package prometheus")


@pytest.fixture(scope="session")
def agents_text() -> str:
    return scraped_agent()


def cluster() -> World:
    """The VirtualIP that the agent holds, on two nodes."""
    world = World("n1", "n2")
    world.heard = {"n1", "n2"}
    world.apply("web")
    world.settle()
    world.say(WEB, "n1", "Master", reason="MasterSilent")
    world.say(WEB, "n2", "Backup")
    world.settle()
    return world


def samples(text: str) -> dict[str, float]:
    """Every series of a scrape with its value, as promtool reads series."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # As the chart's ServiceMonitors have it: a label of the target's, where the metric has none of its own.
            known = {"namespace": "holdfast-system"} | sample.labels
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(known.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def healthy_agents(text: str) -> dict[str, float]:
    """The agent's scrape on n1, which holds it, and the same on n2, a Backup, without what the fixture stages."""
    one = {
        series: value
        for series, value in samples(text).items()
        if "virtual_router_obstacle" not in series and "engine_restarts" not in series
    }
    other = {}
    for series, value in one.items():
        swapped = {'state="Master"': 0.0, 'state="Backup"': 1.0}
        told = next((to for words, to in swapped.items() if words in series), value)
        other[series.replace('node="n1"', 'node="n2"')] = told
    return one | other | {UP % node: 1.0 for node in ("n1", "n2")}


def story(before: dict[str, float], after: dict[str, float]) -> Iterator[dict[str, str]]:
    """Series as promtool wants them: five minutes of the one, and then the other; what is not there then is stale."""
    for series in sorted(before | after):
        began = f"{before[series]:g}x{BEFORE}" if series in before else f"_x{BEFORE}"
        went_on = f"{after[series]:g}x{AFTER}" if series in after else "stale"
        yield {"series": series, "values": f"{began} {went_on}"}


def firing(
    promtool: str, chart: Path, tmp_path: Path, before: dict[str, float], after: dict[str, float]
) -> list[tuple[str, str]]:
    """Which alerts fire a quarter of an hour after it happened, with what they are about."""
    text = (chart / "files" / "alerts.yaml").read_text(encoding="utf-8")
    groups = yaml.safe_load(text.replace("$NAMESPACE", "holdfast-system").replace("$SPEAKERS", "holdfast-speaker"))
    for group in groups:
        for rule in group["rules"]:
            del rule["annotations"]  # promtool compares them too
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump(
            {
                "rule_files": ["rules.yaml"],
                "evaluation_interval": f"{STEP_SECONDS}s",
                "tests": [
                    {
                        "interval": f"{STEP_SECONDS}s",
                        "input_series": list(story(before, after)),
                        "promql_expr_test": [
                            {
                                "expr": 'ALERTS{alertstate="firing"}',
                                "eval_time": f"{(BEFORE + AFTER) * STEP_SECONDS}s",
                                "exp_samples": [{"labels": "nothing", "value": 0}],
                            }
                        ],
                    }
                ],
            }
        ),
        encoding="utf-8",
    )
    finished = run([promtool, "test", "rules", "test.yaml"], tmp_path)
    told = finished.stdout + finished.stderr
    got = told.partition("got:")[2].splitlines()
    assert got, told
    found = [yaml.safe_load("{" + labels.replace("=", ": ") + "}") for labels in re.findall(r"{([^}]*)}", got[0])]
    return sorted(
        (one["alertname"], one.get("virtual_ip") or one.get("node") or one.get("service") or "") for one in found
    )


def run(command: Sequence[str], where: Path, words: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=where, input=words, text=True, capture_output=True, check=False)


def test_prometheus_finds_nothing_wrong_with_what_is_served(promtool: str, agents_text: str, tmp_path: Path) -> None:
    for text in (agents_text, scraped_operator(cluster())):
        finished = run([promtool, "check", "metrics"], tmp_path, text)
        assert (finished.returncode, finished.stdout + finished.stderr) == (0, "")


def test_prometheus_takes_the_charts_rules(promtool: str, chart: Path, tmp_path: Path) -> None:
    groups = yaml.safe_load((chart / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    finished = run([promtool, "check", "rules", "rules.yaml"], tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr


# ----- what fires -----


def all_well(agents_text: str, world: World | None = None) -> dict[str, float]:
    return healthy_agents(agents_text) | samples(scraped_operator(world or cluster()))


def without(series: dict[str, float], *words: str) -> dict[str, float]:
    return {name: value for name, value in series.items() if not any(word in name for word in words)}


def dead(series: dict[str, float], *nodes: str) -> dict[str, float]:
    """What is left of the scrapes of speakers whose nodes have died: that they cannot be scraped."""
    gone = without(series, *(f'node="{node}"' for node in nodes))
    return gone | {UP % node: 0.0 for node in nodes}


def test_where_all_is_well_nothing_fires(promtool: str, chart: Path, tmp_path: Path, agents_text: str) -> None:
    fine = all_well(agents_text)
    assert firing(promtool, chart, tmp_path, fine, fine) == []


@pytest.mark.parametrize("operator", ["leads", "is dead too"])
def test_a_vip_whose_members_are_all_dead_is_held_by_nobody(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str, operator: str
) -> None:
    world = cluster()
    before = all_well(agents_text, world)
    world.heard = set()
    after = dead(healthy_agents(agents_text), "n1", "n2")
    if operator == "leads":
        after |= samples(scraped_operator(world))
    fired = firing(promtool, chart, tmp_path, before, after)
    assert ("HoldfastVIPNotHeld", WEB) in fired
    assert {name for name, _ in fired} == {"HoldfastVIPNotHeld", "HoldfastSpeakerDown"} | (
        {"HoldfastSpeakerNotHeard"} if operator == "leads" else {"HoldfastOperatorDown"}
    )


def blind(series: dict[str, float]) -> dict[str, float]:
    """What an operator serves that leads and can list nothing: it goes on telling what it saw last."""
    return {name: 0.0 if "last_list_timestamp" in name else value for name, value in series.items()}


@pytest.mark.parametrize("nodes", ["dead", "kept from it"])
def test_an_operator_that_leads_and_sees_nothing_hides_no_vip_that_nobody_holds(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str, nodes: str
) -> None:
    before = all_well(agents_text)
    agents = {
        name: (float("Initialize" in name) if "router_state" in name else value)
        for name, value in healthy_agents(agents_text).items()
    }
    operator = blind(samples(scraped_operator(cluster())))
    after = operator | (dead(agents, "n1", "n2") if nodes == "dead" else agents)
    assert ("HoldfastVIPNotHeld", WEB) in firing(promtool, chart, tmp_path, before, after)


def test_a_dead_holder_is_no_vip_that_nobody_holds(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str
) -> None:
    world = cluster()
    before = all_well(agents_text, world)
    world.heard = {"n2"}
    world.say(WEB, "n2", "Master", reason="MasterSilent")
    after = dead(before, "n1") | samples(scraped_operator(world))
    after = {
        name: (float("Master" in name) if 'node="n2"' in name and "router_state" in name else value)
        for name, value in after.items()
    }
    assert firing(promtool, chart, tmp_path, before, after) == [
        ("HoldfastSpeakerDown", "n1"),
        ("HoldfastSpeakerNotHeard", "n1"),
    ]


def test_an_agent_that_is_away_is_no_vip_that_nobody_holds(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str
) -> None:
    world = cluster()
    before = all_well(agents_text, world)
    world.heard = {"n2"}
    after = dead(before, "n1") | samples(scraped_operator(world))
    assert firing(promtool, chart, tmp_path, before, after) == [
        ("HoldfastSpeakerDown", "n1"),
        ("HoldfastSpeakerNotHeard", "n1"),
    ]


def test_a_vip_that_is_deleted_is_missed_by_nobody(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str
) -> None:
    world = cluster()
    before = all_well(agents_text, world)
    world.delete("web")
    after = without(before, WEB, "speaker_heard") | samples(scraped_operator(world))
    assert firing(promtool, chart, tmp_path, before, without(after, WEB)) == []


@pytest.mark.parametrize("operator", ["leads", "is away"])
def test_a_vip_that_every_node_is_kept_from_is_held_by_nobody(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str, operator: str
) -> None:
    world = cluster()
    before = all_well(agents_text, world)
    for node in ("n1", "n2"):
        world.say(WEB, node, "Initialize", obstacles=["ServiceFailed"])
    agents = {
        name: (float("Initialize" in name) if "router_state" in name else value)
        for name, value in healthy_agents(agents_text).items()
    }
    after = agents | (samples(scraped_operator(world)) if operator == "leads" else {})
    fired = firing(promtool, chart, tmp_path, before, after)
    assert ("HoldfastVIPNotHeld", WEB) in fired
    assert {name for name, _ in fired} - {"HoldfastVIPNotHeld"} == (
        set() if operator == "leads" else {"HoldfastOperatorDown"}
    )


def test_a_speaker_that_never_came_is_told(promtool: str, chart: Path, tmp_path: Path, agents_text: str) -> None:
    world = cluster()
    before = all_well(agents_text, world)
    world.nodes["n3"] = replace(world.nodes["n2"], name="n3", internal_addresses=("10.0.0.3",))
    world.apply("web", nodes={"names": ["n1", "n2", "n3"]})
    world.links["n3"] = []
    after = healthy_agents(agents_text) | samples(scraped_operator(world))
    assert firing(promtool, chart, tmp_path, before, after) == [("HoldfastSpeakerNotHeard", "n3")]


def test_a_refused_edit_of_a_vip_that_is_held_is_told(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str
) -> None:
    world = cluster()
    before = all_well(agents_text, world)
    world.apply("web", priority=300)
    after = healthy_agents(agents_text) | samples(scraped_operator(world))
    assert firing(promtool, chart, tmp_path, before, after) == [("HoldfastVirtualIPRefused", WEB)]


def test_a_first_pool_that_has_not_the_address_of_a_vip_that_is_held_is_told(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str
) -> None:
    world = cluster()
    before = all_well(agents_text, world)
    world.apply_pool("edge", "192.0.2.0/24")
    after = healthy_agents(agents_text) | samples(scraped_operator(world))
    assert firing(promtool, chart, tmp_path, before, after) == [("HoldfastVirtualIPNotPermitted", WEB)]


def test_a_service_that_waits_for_an_address_is_told_and_one_that_has_it_is_not(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str
) -> None:
    world = cluster()
    services = {"shop/web": ServiceStatus(True, ("10.0.0.9",)), "shop/late": ServiceStatus(True)}
    before = all_well(agents_text, world)
    after = healthy_agents(agents_text) | samples(scraped_operator(world, services=services))
    assert firing(promtool, chart, tmp_path, before, after) == [("HoldfastServiceWithoutAddress", "shop/late")]


def test_one_that_was_never_good_is_refused_and_not_missed(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str
) -> None:
    world = cluster()
    before = all_well(agents_text, world)
    world.apply("bad", priority=300)
    after = healthy_agents(agents_text) | samples(scraped_operator(world))
    assert firing(promtool, chart, tmp_path, before, after) == [("HoldfastVirtualIPRefused", "shop/bad")]


def test_a_holder_whose_ports_are_exposed_is_told_and_a_backup_is_not(
    promtool: str, chart: Path, tmp_path: Path, agents_text: str
) -> None:
    before = all_well(agents_text)
    after = {name: 1.0 if "host_ports_exposed" in name else value for name, value in before.items()}
    assert firing(promtool, chart, tmp_path, before, after) == [("HoldfastHostPortsExposed", WEB)]
