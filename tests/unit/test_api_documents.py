"""Bad input is refused on one line that names file, document, field and reason; never with another exception."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_api.documents import (
    FILE_BYTES_MAX,
    Contents,
    Reading,
    look_at,
    read_contents,
    read_paths,
    read_text,
    write_text,
)
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
        (
            GOOD + "  virtualRouterId: 7\n",
            "vip.yaml: VirtualIP web: spec.virtualRouterId: unknown field; did you mean virtualRouterID?",
        ),
        (GOOD + "  adress: []\n", "vip.yaml: VirtualIP web: spec.adress: unknown field; did you mean addresses?"),
        (
            "global_defs {\n}\nvrrp_instance VI_1 {\n  state MASTER\n}\n",
            "vip.yaml: is a configuration of keepalived: make VirtualIPs of it with `holdfast convert`",
        ),
        (GOOD.replace("VirtualIP\n", "Pod\n"), "vip.yaml: VirtualIP web: kind: must be VirtualIP, not 'Pod'"),
        (
            GOOD + "  conflictDetection: warn\n",
            "vip.yaml: VirtualIP web: spec.conflictDetection: must be Refuse or Warn, not 'warn'",
        ),
        (
            GOOD + "  track: {probes: [{name: http, httpGet: {port: 80, scheme: https}}]}\n",
            "vip.yaml: VirtualIP web: spec.track.probes[0].httpGet.scheme: must be HTTP or HTTPS, not 'https'",
        ),
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


def reading(text: str) -> Reading:
    return read_contents([Contents("vip.yaml", text.encode())])


def listed(head: str) -> str:
    return head + "items:\n" + "".join(f"- {one.strip()}\n".replace("\n", "\n  ").rstrip(" ") for one in (GOOD,))


V1_LIST = "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\n"
OWN_LIST = "apiVersion: holdfast.dev/v1alpha1\nkind: VirtualIPList\nmetadata: {resourceVersion: '17'}\n"


@pytest.mark.parametrize("head", [V1_LIST, OWN_LIST, ""])
def test_a_list_as_kubectl_prints_it_is_read(head: str) -> None:
    found = reading(listed(head) + "---\n" + GOOD.replace("web", "db"))
    assert [document.virtual_ip.key for document in found.documents] == ["shop/web", "shop/db"]
    assert found.says_none == frozenset()


@pytest.mark.parametrize("head", [V1_LIST, OWN_LIST, ""])
def test_an_empty_list_says_that_there_is_none(head: str) -> None:
    found = reading(head + "items: []\n")
    assert (found.documents, found.says_none) == ((), {"vip.yaml"})


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "---\n---\n", "null\n"])
def test_nothing_does_not_say_that_there_is_none(text: str) -> None:
    assert (reading(text).documents, reading(text).says_none) == ((), frozenset())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("items:\n", "vip.yaml: document 1: items: must be a list; [] says that there is none"),
        (V1_LIST, "vip.yaml: document 1: items: must be a list; [] says that there is none"),
        ("items: []\nspec: {}\n", "vip.yaml: document 1: spec: unknown field"),
        ("items: [7]\n", "vip.yaml: document 1: items[0]: expected `object`, got `int`"),
        (
            "kind: List\nitems: []\n",
            "vip.yaml: document 1: kind: must be a List of v1 or a VirtualIPList of holdfast.dev/v1alpha1,"
            " not 'List' of None",
        ),
        (listed(V1_LIST).replace("100", "300"), "vip.yaml: VirtualIP web: spec.priority: expected `int` <= 254"),
        (GOOD + "items: []\n", "vip.yaml: VirtualIP web: items: unknown field"),
    ],
)
def test_a_list_that_is_none_is_refused(text: str, expected: str) -> None:
    assert refusal(text) == expected


@pytest.mark.parametrize("end", ["---", "---\n", "--- \n"])
def test_a_file_that_ends_where_another_document_begins_is_open_ended(end: str) -> None:
    assert reading(GOOD + end).open_ended == {"vip.yaml"}
    assert reading(GOOD + "---\n" + GOOD.replace("web", "db")).open_ended == frozenset()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("051", "051 is taken for 41: write 41, or 51 if that was meant"),
        ("0_51", "0_51 is taken for 41: write 41, or 51 if that was meant"),
        ("0b110011", "0b110011 is taken for 51: write 51"),
        ("5_1", "5_1 is taken for 51: write 51"),
        ("1:30", "1:30 is taken for 90: write 90"),
    ],
)
def test_a_number_that_others_read_as_another_one_is_warned_of(written: str, told: str) -> None:
    field = "spec.virtualRouterID"
    assert reading(f"{GOOD}  virtualRouterID: {written}\n").warnings == (
        f"vip.yaml: VirtualIP web: {field}: {told} (a later version refuses it)",
    )
    assert len(reading(listed("").rstrip(" \n") + f"\n    virtualRouterID: {written}\n").warnings) == 1


def test_every_integer_field_is_looked_at_and_plain_ones_are_not_warned_of() -> None:
    probes = "track: {probes: [{name: a, tcpSocket: {port: 0120}, timeoutSeconds: 0x10}]}"
    assert reading(f"{GOOD}  {probes}\n  preemptDelaySeconds: 0\n  virtualRouterID: +51\n").warnings == (
        "vip.yaml: VirtualIP web: spec.track.probes[0].tcpSocket.port: 0120 is taken for 80: write 80, or 120 if that"
        " was meant (a later version refuses it)",
    )
    assert reading(GOOD.replace("web", "'051'")).warnings == (), "in quotes it is text"


def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "huge.yaml").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "nothing.yaml").symlink_to("/dev/null")
    problems = {Path(contents.file).stem: contents.problem for contents in look_at([tmp_path])}
    assert problems == {
        "fifo": "must be a regular file or a folder",
        "folder": "must be a regular file or a folder",
        "huge": "is larger than 8 MiB",
        "loop": "cannot be read: Too many levels of symbolic links",
        "nothing": "",
    }


def test_a_file_that_is_given_twice_is_read_once_and_hidden_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD, encoding="utf-8")
    for backup in (".web.yaml.swp", "web.yaml~", ".#web.yaml", "web.yaml.bak"):
        (tmp_path / backup).write_text("not: [yaml", encoding="utf-8")
    (tmp_path / ".#lock.yaml").symlink_to("root@host.4711")
    found = read_paths([tmp_path, tmp_path / "web.yaml", tmp_path / ".." / tmp_path.name, tmp_path])
    assert [document.virtual_ip.key for document in found] == ["shop/web"]


def test_a_look_shows_a_change_that_no_time_and_no_size_tells(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(GOOD, encoding="utf-8")
    before, facts = look_at([file]), file.stat()
    file.write_text(GOOD.replace("100", "101"), encoding="utf-8")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert look_at([file]) != before


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


def test_api_version_and_kind_may_be_left_out_and_other_ones_are_refused() -> None:
    bare = GOOD.replace("apiVersion: holdfast.dev/v1alpha1\n", "").replace("kind: VirtualIP\n", "")
    assert read_text(bare, "vip.yaml") == read_text(GOOD, "vip.yaml")
    assert refusal("kind: Service\n" + bare).startswith("vip.yaml: VirtualIP web: ")


def test_everything_that_is_wrong_with_a_document_is_told() -> None:
    text = (
        "metadata: {name: web}\nspec:\n  adresses: [10.0.0.1]\n  virtualRouterID: 300\n  transport: Carrier\n"
        "  nodes: {priorities: [{nodeName: n1, priority: 60}, {nodeName: n2, priority: 50}]}\n"
        "  track: {probes: [{name: a, execc: {}}, {name: b, periodSeconds: often}]}\n"
    )
    with pytest.raises(ConfigurationErrors) as refused:
        read_text(text, "vip.yaml")
    assert [str(error).removeprefix("vip.yaml: VirtualIP web: spec.") for error in refused.value.errors] == [
        "adresses: unknown field; did you mean addresses?",
        "virtualRouterID: expected `int` <= 255",
        "transport: must be Multicast or Unicast, not 'Carrier'",
        "track.probes[0].execc: unknown field; did you mean exec?",
        "track.probes[1].periodSeconds: expected `int | null`, got `str`",
    ]


def test_what_must_be_there_and_is_wrong_does_not_hide_the_rest() -> None:
    text = (
        "metadata: {name: web}\nSpec: {}\nspec:\n  addresses: 10.0.0.1\n  adress: []\n"
        "  nodes: {priorities: [{nodeName: n1, priority: 3}, {nodeName: n2, nodename: x, priority: 999}]}\n"
        "  track: {probes: [{name: 7, exec: {command: []}}]}\n"
    )
    with pytest.raises(ConfigurationErrors) as refused:
        read_text(text, "vip.yaml")
    told = [str(error).removeprefix("vip.yaml: VirtualIP web: ") for error in refused.value.errors]
    assert sorted(told) == [
        "Spec: unknown field; did you mean spec?",
        "spec.addresses: expected `array`, got `str`",
        "spec.adress: unknown field; did you mean addresses?",
        "spec.nodes.priorities[0].priority: expected `int` >= 50",
        "spec.nodes.priorities[1].nodename: unknown field; did you mean nodeName?",
        "spec.nodes.priorities[1].priority: expected `int` <= 255",
        "spec.track.probes[0].exec.command: expected `array` of length >= 1",
        "spec.track.probes[0].name: expected `str`, got `int`",
    ]


def test_what_is_missing_is_told_and_ends_what_is_told_of_a_document() -> None:
    text = GOOD + "  nodes: {priorities: [{nodename: n2, priority: 60}]}\n"
    with pytest.raises(ConfigurationErrors) as refused:
        read_text(text, "f")
    assert [str(error).partition("priorities[0]")[2] for error in refused.value.errors] == [
        ".nodename: unknown field; did you mean nodeName?",
        ": object missing required field `nodeName`",
    ]
