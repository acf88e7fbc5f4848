"""The schemas in crds/ say what the models in holdfast_api say, field by field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from holdfast_api.cluster import NODES_MAX, SpeakerConfig, VirtualIPStatus
from holdfast_api.pools import AddressPool, AddressPoolStatus
from holdfast_api.resources import VirtualIP

CRDS = Path(__file__).parents[2] / "crds"
BOUNDS = ("minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "pattern")
TIGHTER = {"maxLength", "minLength", "maxItems"}
"""What a schema may bound though the model does not: the API server wants every size bounded."""


WITHOUT_DEFAULT = {
    "spec.startDelaySeconds",
    "spec.announcementIntervalSeconds",
    "spec.conflictDetection",
    "spec.virtualRouterSharing",
    "spec.hostPorts",
}
"""Fields that came after 0.1. In an upgrade the schema comes before the operator, and an operator of an earlier version
refuses what it does not know: with a default, every VirtualIP. To be given one a release later."""

OF_THE_TEMPLATE = {"spec.advertisementIntervalMilliseconds", "spec.transport", "spec.nopreempt"}
"""What the template of an AddressPool can say: stored, a default would count as the user's."""


def definition(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CRDS / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


def version(name: str) -> dict[str, Any]:
    (only,) = definition(name)["spec"]["versions"]
    found: dict[str, Any] = only
    return found


def schema(name: str, part: str) -> dict[str, Any]:
    found: dict[str, Any] = version(name)["schema"]["openAPIV3Schema"]["properties"][part]
    return found


def model(kind: type, part: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    whole = msgspec.json.schema(kind)
    top = resolved(whole, whole["$defs"])
    return (resolved(top["properties"][part], whole["$defs"]) if part else top), whole["$defs"]


def resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in node:
        (node,) = (one for one in node["anyOf"] if one != {"type": "null"})
    while "$ref" in node:
        node = definitions[node["$ref"].rpartition("/")[2]]
    return node


def pairs(
    ours: dict[str, Any], theirs: dict[str, Any], definitions: dict[str, Any], path: str
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every field of both, the model's side with its references resolved."""
    bare = resolved(ours, definitions)
    yield path, bare, theirs
    if "properties" in bare:
        for name, field in bare["properties"].items():
            assert name in theirs["properties"], f"{path}.{name} is not in the schema"
            yield from pairs(field, theirs["properties"][name], definitions, f"{path}.{name}")
    elif bare.get("type") == "array" and not path.endswith("matchExpressions"):
        yield from pairs(bare["items"], theirs["items"], definitions, f"{path}[]")


def fields(name: str, kind: type, part: str, of: str | None) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    ours, definitions = model(kind, of)
    return list(pairs(ours, schema(name, part), definitions, part))


EVERYTHING = [
    *fields("virtualip", VirtualIP, "spec", "spec"),
    *fields("virtualip", VirtualIPStatus, "status", None),
    *fields("addresspool", AddressPool, "spec", "spec"),
    *fields("addresspool", AddressPoolStatus, "status", None),
    *fields("speakerconfig", SpeakerConfig, "spec", "spec"),
    *fields("speakerconfig", SpeakerConfig, "status", "status"),
]


@pytest.mark.parametrize(("path", "ours", "theirs"), EVERYTHING, ids=[path for path, _, _ in EVERYTHING])
def test_model_and_schema_agree(path: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    if "properties" in ours:
        assert set(ours["properties"]) == set(theirs["properties"])
        assert sorted(ours.get("required", [])) == sorted(theirs.get("required", []))
    if "enum" in ours:
        assert sorted(ours["enum"]) == sorted(theirs["enum"])
    elif theirs["type"] == "object":
        assert ours["type"] == "object"
    else:
        assert ours["type"] == theirs["type"]
    if theirs.get("format") == "date-time":
        return
    for bound in BOUNDS:
        if bound in ours:
            assert theirs.get(bound) == ours[bound], bound
        elif bound in theirs:  # metav1.Condition has a pattern for the reason
            assert bound in TIGHTER or path.endswith("conditions[].reason"), f"{bound} is in the schema alone"


@pytest.mark.parametrize(("of", "kind"), [("virtualip", VirtualIP), ("addresspool", AddressPool)])
def test_every_default_of_the_specification_is_the_models(of: str, kind: type) -> None:
    """Stored objects are explicit, so that a later version with other defaults does not change what runs."""
    ours, definitions = model(kind, "spec")
    for path, schema_of, theirs in pairs(ours, schema(of, "spec"), definitions, "spec"):
        for name, field in schema_of.get("properties", {}).items():
            default = field.get("default")
            if default not in (None, [], {}) and f"{path}.{name}" not in WITHOUT_DEFAULT | OF_THE_TEMPLATE:
                assert theirs["properties"][name]["default"] == default, f"{path}.{name}"
            else:
                assert "default" not in theirs["properties"][name], f"{path}.{name}"


def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, field in node.get("properties", {}).items():
        yield from walk(field, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")


@pytest.mark.parametrize("name", ["virtualip", "speakerconfig", "addresspool"])
def test_everything_is_explained_and_bounded_and_every_list_says_how_it_merges(name: str) -> None:
    for part in ("spec", "status"):
        for path, node in walk(schema(name, part), part):
            if not path.endswith("[]"):
                assert node.get("description", "").strip(), f"{path} has no description for kubectl explain"
            if node["type"] == "array":
                assert node["x-kubernetes-list-type"] in ("atomic", "map", "set"), path
                assert node["maxItems"] <= 1000, path
            if node["type"] == "string" and "enum" not in node and node.get("format") != "date-time":
                assert node["maxLength"] <= 32768, path


@pytest.mark.parametrize("name", sorted(path.stem for path in CRDS.glob("*.yaml")))
def test_every_time_is_utc_in_a_form_that_any_version_can_read(name: str) -> None:
    """The API server's date-time has any number of digits, year 0, and offsets that leave the calendar."""
    times = [node for _, node in walk(schema(name, "status"), "status") if node.get("format") == "date-time"]
    assert times
    for node in times:
        pattern = re.compile(node["pattern"])
        for readable in ("2026-01-01T00:00:00Z", "2026-12-31T23:59:59.999Z", "1970-01-01T00:00:00.123456Z"):
            assert pattern.search(readable)
            assert datetime.fromisoformat(readable).tzinfo == UTC
        for other in ("0000-01-01T00:00:00Z", "2026-01-01T00:00:60Z", f"2026-01-01T00:00:00.{'1' * 45}Z"):
            assert not pattern.search(other)
        assert not pattern.search("2026-01-01T00:00:00+14:00")


@pytest.mark.parametrize("name", ["virtualip", "speakerconfig", "addresspool"])
def test_what_a_list_is_of_is_not_explained_with_the_words_for_something_else(name: str) -> None:
    owners: dict[str, str] = {}
    for part in ("spec", "status"):
        for path, node in walk(schema(name, part), part):
            if node["type"] == "object":
                field = path.rpartition(".")[2]
                assert owners.setdefault(node["description"], field) == field, path


def test_the_column_of_addresses_shows_what_it_has_wherever_that_came_from() -> None:
    (column,) = (one for one in version("virtualip")["additionalPrinterColumns"] if one["name"] == "Address")
    assert column["jsonPath"] == ".status.addresses[0]"


def test_the_column_of_moves_has_a_number_before_the_first_move() -> None:
    assert schema("virtualip", "status")["properties"]["moves"]["default"] == 0


def test_each_node_owns_its_own_entry_of_the_status() -> None:
    nodes = schema("virtualip", "status")["properties"]["nodes"]
    assert (nodes["x-kubernetes-list-type"], nodes["x-kubernetes-list-map-keys"]) == ("map", ["nodeName"])
    assert nodes["maxItems"] == NODES_MAX
    conditions = schema("virtualip", "status")["properties"]["conditions"]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])


def test_names_columns_and_status_are_what_kubectl_users_expect() -> None:
    spec = definition("virtualip")["spec"]
    assert (spec["group"], spec["scope"]) == ("holdfast.dev", "Namespaced")
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == (["vip"], ["holdfast"])
    columns = [
        column["name"] for column in version("virtualip")["additionalPrinterColumns"] if "priority" not in column
    ]
    assert columns == ["Address", "Holder", "State", "Moves", "Last-Move", "Reason", "Age"]
    assert definition("speakerconfig")["spec"]["scope"] == "Cluster"
    assert definition("addresspool")["spec"]["scope"] == "Cluster"
    for name in ("virtualip", "speakerconfig", "addresspool"):
        assert version(name)["subresources"] == {"status": {}}


def test_every_cross_field_rule_has_a_message_that_says_what_must_be() -> None:
    rules = [
        rule
        for path, node in walk(schema("virtualip", "spec"), "spec")
        for rule in node.get("x-kubernetes-validations", [])
    ]
    assert len(rules) >= 8
    assert all("must" in rule["message"] for rule in rules)
