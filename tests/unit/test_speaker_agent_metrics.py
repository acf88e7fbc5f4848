"""docs/metrics.md against the answer of an agent to a scrape, and what the numbers mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from holdfast_api.messages import Transition
from holdfast_api.reasons import Reason, State
from holdfast_speaker.agent.metrics import Moves
from holdfast_speaker.vrrp.counters import Counter
from holdfast_testing.agent_fixtures import NODE
from holdfast_testing.scrapes import WEB, scraped_agent

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def rows_of(text: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name as in the page, type, and labels but for node."""
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert "node" in labels, f"{name} has no sample"
        yield name, family.type, tuple(sorted(labels - {"node"}))


def test_the_page_has_every_metric_with_its_type_and_labels():
    speaker = PAGE.read_text(encoding="utf-8").partition("\n## Speaker\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| [^|]{10,} \|$", speaker, re.MULTILINE)
    documented = {(name, kind, tuple(sorted(re.findall(r"\w+", labels)))) for name, kind, labels in told}
    assert documented == set(rows_of(scraped_agent()))


def test_values_are_the_engines():
    text = scraped_agent()
    for line in (
        f'holdfast_virtual_router_state{{node="{NODE}",state="Master",virtual_ip="{WEB}"}} 1.0',
        f'holdfast_virtual_router_state{{node="{NODE}",state="Backup",virtual_ip="{WEB}"}} 0.0',
        f'holdfast_virtual_router_transitions_total{{node="{NODE}",reason="MasterSilent",to="Master",'
        f'virtual_ip="{WEB}"}} 1.0',
        f'holdfast_virtual_router_outage_seconds_total{{node="{NODE}",virtual_ip="{WEB}"}} 0.31',
        f'holdfast_virtual_router_warnings{{node="{NODE}",virtual_ip="{WEB}"}} 2.0',
        f'holdfast_virtual_router_unproved{{node="{NODE}",virtual_ip="{WEB}"}} 1.0',
        f'holdfast_takeover_outage_seconds_bucket{{le="0.25",node="{NODE}"}} 0.0',
        f'holdfast_takeover_outage_seconds_bucket{{le="0.5",node="{NODE}"}} 1.0',
        f'holdfast_engine_timer_lateness_seconds{{node="{NODE}",quantile="1"}} 9e-05',
        f'holdfast_engine_restarts_total{{node="{NODE}"}} 2.0',
        f'holdfast_speaker_config_generation{{node="{NODE}"}} 1.0',
        f'holdfast_api_server_reachable{{node="{NODE}",resource="pods"}} 1.0',
    ):
        assert line in text.splitlines(), line


def test_every_counter_of_the_engine_is_in_one_metric():
    families = {family.name: family for family in text_string_to_metric_families(scraped_agent())}
    names = ("sent", "received", "refused", "noticed")
    shown = [
        sample.value
        for name in (*(f"holdfast_virtual_router_advertisements_{name}" for name in names),)
        for sample in families[name].samples
    ]
    shown += [sample.value for sample in families["holdfast_virtual_router_send_errors"].samples]
    assert sorted(shown) == [float(number) for number in range(1, len(Counter) + 1)]


def test_what_runs_here_no_longer_is_not_shown():
    registry = CollectorRegistry()
    moves = Moves(NODE, registry)
    for name in (WEB, "shop/db"):
        moves.take(
            Transition(
                virtual_ip=name,
                from_state=State.BACKUP,
                to_state=State.MASTER,
                reason=Reason.MASTER_SILENT,
                message="",
                time="",
                silent_milliseconds=10,
            )
        )
    moves.keep_only({"shop/db"})
    shown = {
        sample.labels["virtual_ip"]
        for metric in registry.collect()
        for sample in metric.samples
        if "virtual_ip" in sample.labels
    }
    assert shown == {"shop/db"}
