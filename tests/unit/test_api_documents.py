"""Bad input is refused on one line that names file, document, field and reason; never with another exception."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_api.documents import read_paths, read_text, write_text
from holdfast_api.errors import ConfigurationErrors

GOOD = """apiVersion: holdfast.dev/v1alpha1
kind: VirtualIP
metadata: {name: web, namespace: shop}
spec:
  addresses: [192.168.213.200/24]
  priority: 100
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationErrors) as refused:
        read_text(text, "vip.yaml")
    assert len(refused.value.errors) == 1
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (": [", "vip.yaml: line 1, column 1: is not YAML: expected <block end>, but found ':'"),
        ("\tx: 1", "vip.yaml: line 1, column 1: is not YAML: found character '\\t' that cannot start any token"),
        ("text", "vip.yaml: document 1: expected `object`, got `str`"),
        (GOOD + "  colour: red\n", "vip.yaml: VirtualIP web: spec.colour: unknown field"),
        (GOOD.replace("100", "high"), "vip.yaml: VirtualIP web: spec.priority: expected `int`, got `str`"),
        (GOOD.replace("100", "300"), "vip.yaml: VirtualIP web: spec.priority: expected `int` <= 254"),
        (GOOD.replace("100", "49"), "vip.yaml: VirtualIP web: spec.priority: expected `int` >= 50"),
        (GOOD.replace("name: web, ", ""), "vip.yaml: document 1: metadata: object missing required field `name`"),
        (GOOD.replace("kind: VirtualIP\n", ""), "vip.yaml: VirtualIP web: kind: is missing"),
        (GOOD.replace("apiVersion: holdfast.dev/v1alpha1\n", ""), "vip.yaml: VirtualIP web: apiVersion: is missing"),
        (GOOD.replace("VirtualIP\n", "Pod\n"), "vip.yaml: VirtualIP web: kind: invalid enum value 'Pod'"),
        (
            GOOD + "  priority: 99\n",
            "vip.yaml: line 7, column 3: is not YAML: priority comes twice",
        ),
        ("a: &x [1]\nb: *x\n", "vip.yaml: line 2, column 4: is not YAML: aliases are not taken"),
        ("[" * 5000, "vip.yaml: is nested too deeply"),
    ],
)
def test_what_is_wrong_is_told_on_one_line(text: str, expected: str) -> None:
    assert refusal(text) == expected


def test_several_documents_in_a_file_are_read_and_empty_ones_passed_over() -> None:
    documents = read_text(f"---\n{GOOD}---\n---\n{GOOD.replace('web', 'db')}", "vip.yaml")
    assert [document.virtual_ip.key for document in documents] == ["shop/web", "shop/db"]


def test_what_is_written_is_read_again() -> None:
    virtual_ips = [document.virtual_ip for document in read_text(GOOD, "vip.yaml")]
    assert [document.virtual_ip for document in read_text(write_text(virtual_ips), "again")] == virtual_ips


def test_everything_that_is_wrong_in_every_file_is_told_in_one_go(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.replace("100", "1"), encoding="utf-8")
    (tmp_path / "b.yml").write_bytes(b"\xff\xfe")
    (tmp_path / "c.txt").write_text("not read", encoding="utf-8")
    with pytest.raises(ConfigurationErrors) as refused:
        read_paths([tmp_path, tmp_path / "missing.yaml"])
    told = [error.file.rpartition("/")[2] for error in refused.value.errors]
    assert told == ["a.yaml", "b.yml", "missing.yaml"]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_text_gives_documents_or_configuration_errors(text: str) -> None:
    with contextlib.suppress(ConfigurationErrors):
        read_text(text, "any")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["metadata", "spec", "kind", "apiVersion"]), VALUES)
def test_any_value_anywhere_gives_documents_or_configuration_errors(where: str, value: object) -> None:
    import yaml

    document = yaml.safe_load(GOOD)
    document[where] = value
    with contextlib.suppress(ConfigurationErrors):
        read_text(yaml.safe_dump(document, allow_unicode=True), "any")
