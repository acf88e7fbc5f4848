"""docs/reference/metrics-operator.md says what /metrics serves, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast_api.cluster import VirtualIPState, VirtualIPStatus
from holdfast_operator.hazards import Cause
from holdfast_operator.metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics-operator.md"

Family = tuple[str, str, tuple[str, ...]]


def served() -> set[Family]:
    """Name, type and labels of every family that is not of every process."""
    families = set()
    for family in Metrics().registry.collect():
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
    assert documented == {label: values[label] for label in values if label != "le"}


def test_names_are_as_prometheus_wants_them():
    for name, kind, _ in served():
        assert name.startswith("holdfast_operator_")
        assert name.endswith("_total") is (kind == "counter")
        assert kind != "histogram" or name.endswith("_seconds")


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"holdfast_operator_{name}", labels)


@pytest.mark.parametrize("cause", Cause)
def test_one_cause_at_most_holds(cause):
    metrics = Metrics()
    metrics.hold(Cause.NO_NODES)
    metrics.hold(cause)
    assert [value(metrics, "held", cause=one) for one in Cause] == [one is cause for one in Cause]
    metrics.hold(None)
    assert not any(value(metrics, "held", cause=one) for one in Cause)


def test_virtual_ips_are_counted_by_their_state():
    metrics = Metrics()
    metrics.count_virtual_ips([VirtualIPStatus(state=VirtualIPState.HELD), VirtualIPStatus()])
    metrics.count_virtual_ips([VirtualIPStatus(state=VirtualIPState.HELD), VirtualIPStatus(state=VirtualIPState.HELD)])
    assert value(metrics, "virtual_ips", state="Held") == 2
    assert value(metrics, "virtual_ips", state="Pending") == 0
