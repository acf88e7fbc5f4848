"""docs/reference/virtualip.md, addresspool.md and speakerconfig.md say of every field what the models say; service.md
says of every word what the contract says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec import NODEFAULT, inspect

from holdfast_api import services
from holdfast_api.cluster import SpeakerConfig
from holdfast_api.pools import AddressPool
from holdfast_api.resources import VirtualIP
from holdfast_operator.planner.cluster.plan import plan_cluster
from holdfast_operator.planner.cluster.view import ClusterView
from holdfast_operator.planner.host.policies import violations

Row = tuple[str, str, str, str]
"""Field, type, range and default, as the page writes them."""


EXPLAINED_ELSEWHERE = (".selector", "tracking[].pods", "tracking[].probes")
"""A selector is Kubernetes' own type; pods and probes are those of the VirtualIP."""


@pytest.mark.parametrize("kind", [VirtualIP, AddressPool, SpeakerConfig])
def test_the_page_has_every_field_with_its_type_range_and_default(root: Path, kind: type) -> None:
    page = (root / "docs" / "reference" / f"{kind.__name__.lower()}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \| [^|]{5,} \|$", page, re.MULTILINE)
    assert rows == list(_rows(inspect.type_info(kind), ""))


def test_the_examples_of_the_page_are_accepted(root: Path) -> None:
    page = (root / "docs" / "reference" / "virtualip.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        assert violations(msgspec.convert(yaml.safe_load(example), VirtualIP)) == []


def test_the_example_of_a_pool_is_accepted(root: Path) -> None:
    page = (root / "docs" / "reference" / "addresspool.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert msgspec.convert(yaml.safe_load(example), AddressPool).spec.auto_assign


def test_the_example_of_a_pool_gives_its_virtual_ip_an_address(root: Path) -> None:
    path = root / "examples" / "kubernetes" / "addresspool.yaml"
    pool, virtual_ip = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    pool["metadata"]["creationTimestamp"] = virtual_ip["metadata"]["creationTimestamp"] = "2026-11-27T00:00:00Z"
    view = ClusterView([virtual_ip], [], pools=[pool], namespaces={"shop": {"team": "shop"}})
    plan = plan_cluster(view, "2026-11-27T00:00:01.000Z")
    assert plan.statuses["shop/web"].addresses == ["192.168.213.200"]
    assert plan.pools["shop"].conditions[0].status == "True"


@pytest.fixture
def service_page(root: Path) -> str:
    return (root / "docs" / "reference" / "service.md").read_text(encoding="utf-8")


def test_the_page_of_services_has_every_annotation_condition_and_reason(service_page: str) -> None:
    first_columns = set(re.findall(r"^\| `([^`]+)` \|", service_page, re.MULTILINE))
    annotations = {services.POOL_ANNOTATION, services.ADDRESSES_ANNOTATION, services.SHARING_KEY_ANNOTATION}
    told = {*services.ServiceConditionType, *services.ServiceConditionReason}
    assert annotations | told <= first_columns
    assert {name for name in first_columns if name.startswith("holdfast.dev/")} <= annotations | told


def test_the_example_of_a_service_is_given_an_address_of_both_families(service_page: str) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", service_page, re.MULTILINE | re.DOTALL)
    service = yaml.safe_load(example)
    service["metadata"] |= {"uid": "1", "creationTimestamp": "2026-11-27T00:00:00Z"}
    service["spec"]["ipFamilies"] = ["IPv4", "IPv6"]  # as the API server says in a cluster that has both
    addresses = ["192.168.213.200-192.168.213.219", "2001:db8:213::c8/125"]
    pool = {"metadata": {"name": "shop", "creationTimestamp": "2026-11-27T00:00:00Z"}, "spec": {"addresses": addresses}}
    plan = plan_cluster(ClusterView([], [], pools=[pool], services=[service]), "2026-11-27T00:00:01.000Z")
    assert plan.virtual_ips["shop/web"]["spec"]["addresses"] == ["192.168.213.200", "2001:db8:213::c9"]
    assert [one.reason for one in plan.services["shop/web"].conditions] == ["Assigned"]


def _rows(kind: inspect.Type, path: str) -> Iterator[Row]:
    if isinstance(kind, inspect.StructType):
        for field in () if path.removesuffix("[]").endswith(EXPLAINED_ELSEWHERE) else kind.fields:
            place = f"{path}.{field.encode_name}".lstrip(".")
            value = _without_none(field.type)
            yield place, _type(value), _range(value), _default(field)
            yield from _rows(value.item_type if isinstance(value, inspect.ListType) else value, _inside(place, value))


def _inside(place: str, kind: inspect.Type) -> str:
    return f"{place}[]" if isinstance(kind, inspect.ListType) else place


def _without_none(kind: inspect.Type) -> inspect.Type:
    if isinstance(kind, inspect.UnionType):
        (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType | inspect.CustomType))
    return kind


def _type(kind: inspect.Type) -> str:
    match kind:
        case inspect.StructType():
            return "object"
        case inspect.ListType():
            return f"list of {_type(kind.item_type)}s"
        case inspect.DictType():
            return "map"
        case inspect.BoolType():
            return "boolean"
        case inspect.IntType() | inspect.LiteralType(values=(int(), *_)):
            return "integer"
        case inspect.StrType() | inspect.EnumType() | inspect.LiteralType():
            return "string"
    raise AssertionError(f"the page has no word for {kind}")


def _range(kind: inspect.Type) -> str:
    match kind:
        case inspect.EnumType():
            return ", ".join(f"`{value.value}`" for value in kind.cls)
        case inspect.LiteralType():
            return ", ".join(f"`{value}`" for value in kind.values)
        case inspect.IntType() if kind.le is not None:
            return f"{kind.ge} to {kind.le}" + (f", a multiple of {kind.multiple_of}" if kind.multiple_of else "")
        case inspect.StrType() if kind.max_length is not None:
            return f"{kind.min_length or 0} to {kind.max_length} characters"
        case inspect.ListType() if kind.max_length is not None:
            return f"{kind.min_length or 0} to {kind.max_length}"
    return "any"


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value: Any = field.default
    if value is NODEFAULT and field.default_factory is not NODEFAULT:
        value = field.default_factory()
    if value is None or value is NODEFAULT:  # a field that is UNSET by default has none
        return "none"
    written = msgspec.to_builtins(value)
    return f"`{written}`" if isinstance(written, str) else f"`{msgspec.json.encode(written).decode()}`"
