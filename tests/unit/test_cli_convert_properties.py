"""What holds for every configuration: nothing is dropped silently, and nothing but a clear error comes of nonsense."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.documents import read_text
from holdfast_api.errors import ConfigurationErrors
from holdfast_cli.convert import Conversion, keywords
from holdfast_cli.convert.ledger import Kind
from holdfast_operator.planner.host.policies import violations
from holdfast_testing.keepalived_files import ADDRESS, SCRIPT, addresses, convert_texts, instance, unsettled

PLAIN = (
    "state MASTER",
    "state BACKUP",
    "priority 1",
    "priority 49",
    "priority 200",
    "priority 255",
    "advert_int 0.3",
    "advert_int 3",
    "version 2",
    "version 3",
    "nopreempt",
    "preempt",
    "preempt_delay 3.5",
    "mcast_src_ip 10.77.0.1",
    "unicast_src_ip 10.77.0.2",
    "mcast_dst_ip 224.0.0.18",
    "mcast_dst_ip 224.0.0.99",
    "check_unicast_src",
    "native_ipv6",
    "accept",
    "accept extra words",
)
BLOCKS = (
    "unicast_peer {\n10.77.0.3 min_ttl 255\n10.77.0.4\n}",
    "unicast_peer {\n}",
    "authentication {\nauth_type PASS\nauth_pass secret678\n}",
    "authentication {\nauth_type AH\nauth_pass secret678\n}",
    "authentication {\n}",
    addresses("10.77.0.201/25 dev eth0 label eth0:1 scope link no_track", "10.77.0.200"),
    "virtual_ipaddress_excluded {\n10.77.0.202 dev eth1\nfd00::1/64 preferred_lft 0\n}",
    "track_script {\nchk weight -2\n}",
    "track_script {\nchk weight 3 reverse\nother\n}",
    "track_interface {\neth0\neth1 weight 7\neth2 weight -1 reverse\neth3\n}",
    *(f"{keyword} {{\nsomething 1 {{\nmore\n}}\n}}" for keyword in ("virtual_routes", "virtual_rules", "track_file")),
)
WITHOUT_COUNTERPART = tuple(f"{keyword} x" for keyword in keywords.INSTANCE)
OTHER = (
    "vrrp_script other {\nscript \"/bin/x 'a b'\"\ninterval 3\ntimeout 1\n"
    "weight 4\nrise 2\nfall 3\nuser u\ninit_fail\n}\n"
)
GROUP = "vrrp_sync_group g {\ngroup {\nVI_1 VI_2\n}\nnotify x\ntrack_interface {\neth7\n}\n}\n"
GLOBALS = tuple(f"{keyword} x" for keyword in keywords.GLOBAL)
TOPS = tuple(f"{keyword} x {{\nany thing {{\nat all\n}}\n}}\n" for keyword in keywords.TOP_LEVEL)


def configurations() -> st.SearchStrategy[str]:
    lines = st.lists(st.sampled_from(PLAIN + BLOCKS + WITHOUT_COUNTERPART), max_size=12)
    made = st.builds(lambda found: instance(*found), lines)
    second = st.builds(lambda found: instance(*found, name="VI_2", vrid=52, block=addresses("10.78.0.1")), lines)
    group = st.sampled_from(("", GROUP))
    head = st.lists(st.sampled_from((*GLOBALS, "vrrp_version 3", "router_id r")), max_size=5)
    tops = st.lists(st.sampled_from(TOPS), max_size=2)

    def whole(first: str, other: str, sync: str, globals_: list[str], rest: list[str]) -> str:
        return "global_defs {\n" + "\n".join(globals_) + "\n}\n" + SCRIPT + OTHER + first + other + sync + "".join(rest)

    return st.builds(whole, made, second, group, head, tops)


def converted(*texts: str) -> Conversion | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return convert_texts(Path(folder), *texts)
        except ConfigurationErrors as refused:
            errors = refused.errors
    assert errors
    assert [error for error in errors if "\n" in str(error) or not error.reason or not error.file] == []
    return None


@settings(max_examples=200, deadline=None)
@given(st.lists(configurations(), min_size=1, max_size=3))
def test_each_statement_is_carried_over_or_in_the_report_and_the_result_is_valid(texts: list[str]) -> None:
    conversion = converted(*texts)
    if conversion is None:
        return
    assert [statement.words for statement in unsettled(conversion)] == []
    again = [document.virtual_ip for document in read_text(conversion.yaml, "converted")]
    assert again == [made.virtual_ip for made in conversion.converted]
    assert [violation for virtual_ip in again for violation in violations(virtual_ip)] == []
    assert len({virtual_ip.metadata.name for virtual_ip in again}) == len(again)


def test_each_of_two_lines_that_contend_is_carried_over_or_in_the_report(tmp_path: Path) -> None:
    lines = (*PLAIN, *BLOCKS)
    for first in lines:
        for second in lines:
            text = SCRIPT + OTHER + instance(first, second)
            try:
                conversion = convert_texts(tmp_path, text)
            except ConfigurationErrors:
                continue
            assert [statement.words for statement in unsettled(conversion)] == []


@settings(max_examples=100, deadline=None)
@given(configurations())
def test_every_note_is_in_the_report(text: str) -> None:
    conversion = converted(text)
    if conversion is not None:
        for note in conversion.ledger.notes:
            (told,) = [line for line in conversion.report if line.endswith(f": {note.kind}: {note.text}")]
            places, _, keywords = told.removesuffix(f": {note.kind}: {note.text}").partition(": ")
            assert note.keyword in keywords.split(", ")
            lines = dict(place.rsplit(":", 1) for place in places.split(" "))
            assert str(note.place.line) in lines[note.place.file].split(",")


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_gives_a_result_or_clear_errors(text: str) -> None:
    converted(text)


FRAGMENTS = st.one_of(
    st.sampled_from(
        (
            *PLAIN,
            *BLOCKS,
            "{",
            "}",
            "{ }",
            "\n",
            " ",
            '"',
            "'",
            "\\",
            "$A=",
            "$A",
            "${A}",
            "${A",
            "\\\n",
            "@n1 ",
            "@^n1 ",
        )
    ),
    st.sampled_from(
        ("vrrp_instance a ", "vrrp_script chk ", "global_defs ", "track_script ", "virtual_server ", ADDRESS)
    ),
    st.sampled_from(("~SEQ(A, 1, 3) ", "~LST({A,B},{1,2}) ", "include *", "include n1.conf", "${_RANDOM}", "#", "!")),
    st.text(max_size=8),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(FRAGMENTS, st.just("\n")), max_size=40))
def test_any_sequence_of_what_configurations_are_made_of_gives_a_result_or_clear_errors(parts: list[str]) -> None:
    converted("".join(parts))


@settings(max_examples=200, deadline=None)
@given(configurations(), st.data())
def test_a_configuration_with_a_piece_cut_out_gives_a_result_or_clear_errors(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    converted(text[:start] + text[end:])


@pytest.mark.parametrize("keyword", sorted(keywords.INSTANCE))
def test_each_keyword_without_a_counterpart_is_reported_with_its_line(tmp_path: Path, keyword: str) -> None:
    conversion = convert_texts(tmp_path, instance(f"{keyword} x"))
    (note,) = [note for note in conversion.ledger.notes if note.keyword == keyword]
    assert (note.kind, note.place.line, note.text) == (Kind.LEFT_OUT, 7, keywords.INSTANCE[keyword])
