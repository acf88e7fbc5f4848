"""What holds of the chart's files without rendering them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from holdfast_api import __version__
from holdfast_operator.planner.cluster.view import ServiceStatus
from holdfast_testing.planner_world import World
from holdfast_testing.scrapes import scraped_operator

Values = dict[str, Any]


def leaves(values: Values, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that a user sets as a whole, by its path: a map that is empty or of the user's own names is one."""
    for name, value in values.items():
        place = f"{path}.{name}".lstrip(".")
        if isinstance(value, dict) and value and name not in {"nodeSelector", "resources", "labels"}:
            yield from leaves(value, place)
        else:
            yield place, value


def documented(text: str) -> dict[str, str]:
    """What values.yaml says of each value: the comment that begins with `# --` above it."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"\s*# (-- )?(.*)", line):
            comment = [match[2]] if match[1] else [*comment, match[2]] if comment else []
        elif match := re.match(r"( *)(\w+):", line):
            path = [(indent, name) for indent, name in path if indent < len(match[1])]
            path.append((len(match[1]), match[2]))
            if comment:
                found[".".join(name for _, name in path)] = " ".join(comment)
            comment = []
    return found


def test_the_definitions_are_those_of_the_top_level_folder(root: Path, chart: Path) -> None:
    source = {path.name: path.read_bytes() for path in (root / "crds").glob("*.yaml")}
    assert source
    copies = {path.name: path.read_bytes() for path in (chart / "files" / "crds").glob("*")}
    assert copies == source, "scripts/chart-crds copies them"


def test_chart_and_image_have_the_version_of_the_product(root: Path, chart: Path) -> None:
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    assert about["appVersion"] == __version__
    dockerfile = (root / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^ARG VERSION=(.*)$", dockerfile, re.MULTILINE) == [__version__]


def test_every_value_is_documented_and_nothing_else(chart: Path, default_values: Values) -> None:
    text = (chart / "values.yaml").read_text(encoding="utf-8")
    assert set(documented(text)) == {path for path, _ in leaves(default_values)}


def test_the_reference_page_has_every_value_with_its_default(root: Path, chart: Path, default_values: Values) -> None:
    page = (root / "docs" / "reference" / "values.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (.+) \|$", page, re.MULTILINE)
    said = documented((chart / "values.yaml").read_text(encoding="utf-8"))
    assert rows == [(path, json.dumps(value), said[path]) for path, value in leaves(default_values)]


def test_the_schema_knows_the_values_and_nothing_else(chart: Path, default_values: Values) -> None:
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    assert schema["properties"].pop("global")["type"] == "object"  # Helm hands it to every chart

    def compare(values: Values, part: Values, path: str) -> None:
        assert part["additionalProperties"] is False, path
        assert set(part["properties"]) == set(values), path
        for name, value in values.items():
            inner = part["properties"][name]
            if isinstance(value, dict) and "properties" in inner:
                compare(value, inner, f"{path}.{name}".lstrip("."))

    compare(default_values, schema, "")


def test_every_value_is_used_by_a_template(chart: Path, default_values: Values) -> None:
    templates = [path for path in (chart / "templates").rglob("*") if path.is_file()]
    text = "\n".join(path.read_text(encoding="utf-8") for path in templates)
    used = set(re.findall(r"\.Values\.([\w.]+)", text))
    # The labels of pods are asked for by the component's name.
    assert "index $root.Values (index . 1)" in text
    used |= {f"{component}.podLabels" for component in ("operator", "speaker") if "$values.podLabels" in text}
    known = {path for path, _ in leaves(default_values)}
    # Whether a section is there at all is asked for the sake of older releases' values.
    sections = {path for path in used if any(one.startswith(f"{path}.") for one in known)}
    assert used - sections == known


# ----- alerts and dashboard -----


def speaker_metrics(root: Path) -> dict[str, set[str]]:
    """The agent's metrics with their labels, which docs/metrics.md tells."""
    page = (root / "docs" / "metrics.md").read_text(encoding="utf-8")
    found = {}
    for name, kind, labels in re.findall(r"^\| `(holdfast_\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE):
        known = {"node", *re.findall(r"\w+", labels)}
        if kind == "histogram":
            found[f"{name}_bucket"] = known | {"le"}
        found[name] = known
    return found


def operator_metrics() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    world = World("n1")
    world.apply("web")
    services = {"shop/web": ServiceStatus(True, ("10.0.0.9",))}
    for family in text_string_to_metric_families(scraped_operator(world, services=services)):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions(chart: Path) -> dict[str, str]:
    """Every PromQL expression of the chart, by where it is."""
    groups = yaml.safe_load((chart / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    found = {f"alert {rule['alert']}": rule["expr"] for group in groups for rule in group["rules"]}
    dashboard = json.loads((chart / "files" / "dashboards" / "holdfast.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_alerts_and_dashboard_ask_for_metrics_and_labels_that_exist(root: Path, chart: Path) -> None:
    known = operator_metrics() | speaker_metrics(root)
    of_prometheus = {"namespace", "service"}
    asked = expressions(chart)
    assert len(asked) > 20
    for place, expression in asked.items():
        for name, matchers in re.findall(r"(holdfast_\w+)(?:\{([^}]*)\})?", expression):
            assert name in known, f"{place}: {name}"
            labels = set(re.findall(r"(\w+)\s*[=!]~?", re.sub(r'"[^"]*"', '""', matchers)))
            assert labels <= known[name] | of_prometheus, f"{place}: {name}"
        names = re.findall(r"holdfast_\w+", expression)
        for grouping in re.findall(r"\bby \(([^)]*)\)", expression):
            labels = set(re.findall(r"\w+", grouping))
            assert any(labels <= known[name] for name in names), f"{place}: by ({grouping})"


def test_parentheses_of_every_expression_match(chart: Path) -> None:
    for place, expression in expressions(chart).items():
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), place


def test_every_alert_says_how_bad_it_is_and_what_to_do(chart: Path) -> None:
    groups = yaml.safe_load((chart / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        # What a summary shows must have survived the expression's grouping.
        for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
            assert re.search(rf"by \(([^)]*, )?{label}\b", rule["expr"]) or rule["alert"] == "HoldfastSpeakerDown"


def test_the_page_about_kubernetes_names_every_alert(root: Path, chart: Path) -> None:
    page = (root / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(Holdfast\w+)` \| (\w+) \|", page, re.MULTILINE)
    groups = yaml.safe_load((chart / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    alerts = [(rule["alert"], rule["labels"]["severity"]) for group in groups for rule in group["rules"]]
    assert rows == alerts


def test_panels_of_the_dashboard_do_not_overlap(chart: Path) -> None:
    dashboard = json.loads((chart / "files" / "dashboards" / "holdfast.json").read_text(encoding="utf-8"))
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for cell in (
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ):
            assert taken.setdefault(cell, panel["title"]) == panel["title"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


# ----- image -----


def test_the_image_is_built_of_every_package_and_nothing_that_nobody_needs(root: Path) -> None:
    allowed = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in allowed
    for needed in ("api", "kube", "operator", "speaker", "cli", "lab", "examples/keepalived"):
        assert f"!{needed}/" in allowed
    for needed in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        assert f"!{needed}" in allowed


@pytest.mark.parametrize("forbidden", ["--chmod", "--mount", "--link", "COPY <<", "RUN <<"])
def test_the_dockerfile_needs_no_buildkit(root: Path, forbidden: str) -> None:
    assert forbidden not in (root / "Dockerfile").read_text(encoding="utf-8")
