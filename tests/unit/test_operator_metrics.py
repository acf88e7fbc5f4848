"""docs/reference/metrics-operator.md says what /metrics serves, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from holdfast_api.cluster import Condition, SpeakerConfigSpec, VirtualIPState, VirtualIPStatus
from holdfast_api.pools import AddressPoolStatus
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.hazards import Cause
from holdfast_operator.metrics import Metrics
from holdfast_operator.planner.cluster.view import ServiceStatus

NOW = "2026-11-23T12:00:00Z"
WEB = "shop/web"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics-operator.md"

Family = tuple[str, str, tuple[str, ...]]


def filled() -> Metrics:
    """Those of an operator that knows a VirtualIP, a node, a Service and a pool."""
    metrics = Metrics()
    metrics.tell_virtual_ips({WEB: VirtualIPStatus(state=VirtualIPState.HELD)})
    metrics.tell_speakers({"n1": planned("n1")}, {"n1"})
    metrics.tell_balance(["n1"], {})
    metrics.tell_services({WEB: ServiceStatus(is_ours=True)})
    metrics.tell_pools({"edge": AddressPoolStatus(capacity=14, assigned=2)})
    return metrics


def planned(node: str, *virtual_ips: str) -> SpeakerConfigSpec:
    routers = [
        VirtualRouterConfiguration(name=name, addresses=["10.0.0.9/24"], virtual_router_id=51)
        for name in virtual_ips or (WEB,)
    ]
    return SpeakerConfigSpec(node_name=node, virtual_routers=routers)


def served() -> set[Family]:
    """Name, type and labels of every family that is not of every process."""
    families = set()
    for family in filled().registry.collect():
        if family.name.startswith("process_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        families.add((name, family.type, tuple(sorted(labels))))
    return families


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its first two lines."""
    section = PAGE.read_text(encoding="utf-8").split(f"# {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_page_has_every_metric_with_its_type_and_labels():
    documented = {
        (name.strip("`"), kind, tuple(sorted(re.findall(r"`(\w+)`", labels))))
        for name, kind, labels, _ in rows("Metrics: operator")
    }
    assert documented == served()


def test_the_page_has_every_value_of_every_label():
    documented = {label.strip("`"): set(re.findall(r"`([\w/]+)`", values)) for label, values in rows("Labels")}
    documented["cause"] = {cause.strip("`") for cause, *_ in rows("Causes")}
    values: dict[str, set[str]] = {}
    for family in Metrics().registry.collect():
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    assert documented == {label: values[label] for label in values if label != "le"}, "those of objects have no end"


def test_names_are_as_prometheus_wants_them():
    for name, kind, _ in served():
        assert name.startswith("holdfast_operator_")
        assert name.endswith("_total") is (kind == "counter")
        assert kind != "histogram" or name.endswith("_seconds")


def value(metrics, name, /, **labels):
    return metrics.registry.get_sample_value(f"holdfast_operator_{name}", labels)


@pytest.mark.parametrize("cause", Cause)
def test_one_cause_at_most_holds(cause):
    metrics = Metrics()
    metrics.hold(Cause.NO_NODES)
    metrics.hold(cause)
    assert [value(metrics, "held", cause=one) for one in Cause] == [one is cause for one in Cause]
    metrics.hold(None)
    assert not any(value(metrics, "held", cause=one) for one in Cause)


def told(state: VirtualIPState, **conditions: Any) -> VirtualIPStatus:
    found = [
        Condition(type=kind, status=status, reason="R", message="", last_transition_time=NOW)
        for kind, status in conditions.items()
    ]
    return VirtualIPStatus(state=state, conditions=found)


def test_virtual_ips_are_counted_by_their_state():
    metrics = Metrics()
    metrics.tell_virtual_ips({"shop/a": told(VirtualIPState.HELD), "shop/b": VirtualIPStatus()})
    metrics.tell_virtual_ips({"shop/a": told(VirtualIPState.HELD), "shop/b": told(VirtualIPState.HELD)})
    assert value(metrics, "virtual_ips", state="Held") == 2
    assert value(metrics, "virtual_ips", state="Pending") == 0


@pytest.mark.parametrize(
    ("status", "held", "stalled"),
    [
        (told(VirtualIPState.HELD, Ready="True"), 1, 0),
        (told(VirtualIPState.UNHELD, Ready="False"), 0, 0),
        (told(VirtualIPState.PENDING, Ready="Unknown"), 0, 0),
        (told(VirtualIPState.SPLIT_BRAIN, Ready="False", SplitBrain="True"), 1, 0),
        (told(VirtualIPState.HELD, Ready="True", Stalled="True"), 1, 1),
        (told(VirtualIPState.REFUSED, Ready="False", Stalled="True"), None, 1),
    ],
    ids=["held", "unheld", "nobody knows", "split brain", "refused edit", "never good"],
)
def test_each_virtual_ip_has_series_of_its_own(status: VirtualIPStatus, held: int | None, stalled: int) -> None:
    metrics = Metrics()
    metrics.tell_virtual_ips({WEB: status})
    labels = {"namespace": "shop", "name": "web", "virtual_ip": WEB}
    assert value(metrics, "virtual_ip_held", **labels) == held
    assert value(metrics, "virtual_ip_stalled", **labels) == stalled
    metrics.tell_virtual_ips({})
    assert value(metrics, "virtual_ip_held", **labels) is None, "one that is deleted has none"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (told(VirtualIPState.HELD, Accepted="True"), 0),
        (told(VirtualIPState.HELD, Accepted="False"), 1),
        (told(VirtualIPState.HELD, Accepted="False", Stalled="True"), 0),
    ],
    ids=["permitted", "in force stays", "refused edit"],
)
def test_what_goes_on_though_it_would_be_refused_is_told(status: VirtualIPStatus, expected: int) -> None:
    metrics = Metrics()
    metrics.tell_virtual_ips({WEB: status})
    labels = {"namespace": "shop", "name": "web", "virtual_ip": WEB}
    assert value(metrics, "virtual_ip_not_permitted", **labels) == expected


def test_a_node_that_runs_nothing_is_not_listened_for():
    metrics = Metrics()
    metrics.tell_speakers({"n1": planned("n1"), "n2": planned("n2"), "n3": SpeakerConfigSpec(node_name="n3")}, {"n1"})
    assert [value(metrics, "speaker_heard", node=node) for node in ("n1", "n2", "n3")] == [1, 0, None]


def test_a_service_that_is_ours_has_as_many_addresses_as_its_status_tells():
    metrics = Metrics()

    def told():
        families = {family.name: family for family in metrics.registry.collect()}
        samples = families["holdfast_operator_service_addresses"].samples
        return {sample.labels["service"]: sample.value for sample in samples}

    dual = ServiceStatus(is_ours=True, ingress=("10.0.0.1", "fd00::1"))
    metrics.tell_services(
        {WEB: dual, "shop/late": ServiceStatus(is_ours=True), "shop/was": ServiceStatus(is_ours=False)}
    )
    assert told() == {WEB: 2, "shop/late": 0}
    metrics.tell_services({})
    assert told() == {}


def test_what_each_node_holds_is_told_also_of_one_that_holds_nothing():
    metrics = Metrics()
    held = {
        "shop/web": VirtualIPStatus(holder="n1", addresses=["10.0.0.9/24", "fd00::9/64"]),
        "shop/db": VirtualIPStatus(holder="n1", addresses=["10.0.0.10/24"]),
        "shop/mail": VirtualIPStatus(addresses=["10.0.0.11/24"]),
    }
    metrics.tell_balance(["n1", "n2"], held)
    assert metrics.registry.get_sample_value("holdfast_operator_node_virtual_ips_held", {"node": "n1"}) == 2
    assert metrics.registry.get_sample_value("holdfast_operator_node_addresses_held", {"node": "n1"}) == 3
    assert metrics.registry.get_sample_value("holdfast_operator_node_addresses_held", {"node": "n2"}) == 0
