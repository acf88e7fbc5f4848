"""What both programs are given, and what is read from the wire and from /proc."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # bench/ is a folder of scripts and is not installed

from bench.accounts import parent, processor_seconds, proportional_kibibytes, proportional_mebibytes, ticks_of
from bench.configurations import holdfast_documents, keepalived_configuration
from bench.loads import last_moved_ms, lateness_ms, loads
from bench.run import main
from bench.sniffer import parse
from bench.works import works

from holdfast_api.documents import read_text
from holdfast_lab.processes import identify


def test_both_programs_get_the_same_routers() -> None:
    documents = read_text(holdfast_documents(255, 30), "vip.yaml")
    text = keepalived_configuration("n2", 255, 30)
    assert len(documents) == text.count("vrrp_instance ") == text.count("nopreempt") == 255
    for document in documents:
        spec = document.virtual_ip.spec
        assert spec.nopreempt
        assert spec.version == 3
        assert f"virtual_router_id {spec.virtual_router_id}\n" in text
        assert f"        {spec.addresses[0]}\n" in text
        assert spec.advertisement_interval_milliseconds == 30
        assert {entry.node_name: entry.priority for entry in spec.nodes.priorities} == {"n1": 110, "n2": 100}
    assert text.count("advert_int 0.03\n") == text.count("priority 100\n") == 255


def test_an_advertisement_is_read_from_an_ip_packet() -> None:
    header = bytes([0x46, 0xC0, 0, 36]) + bytes(8) + bytes([10, 78, 0, 11, 224, 0, 0, 18]) + bytes(4)
    heard = parse(header + bytes([0x31, 7, 110, 1, 0, 10, 0, 0, 10, 78, 1, 7]), 5)
    assert heard is not None
    assert (heard.at_ns, heard.source, heard.vrid, heard.priority) == (5, "10.78.0.11", 7, 110)


@pytest.mark.parametrize("length", [0, 1, 19, 27, 31])
def test_a_packet_that_is_too_short_is_none(length: int) -> None:
    assert parse((bytes([0x46]) + bytes(40))[:length], 0) is None


def test_the_last_one_moved_counts_by_its_first_advertisement() -> None:
    assert last_moved_ms([(1, 5_000_000), (2, 9_000_000), (1, 50_000_000)], 1_000_000) == 8.0


def test_early_advertisements_are_not_late() -> None:
    assert lateness_ms([0, 9_000_000, 19_500_000], 10) == [0.0, 0.5]


def test_processor_time_is_read_past_any_name() -> None:
    assert ticks_of("7 (a) b) c) S 1 1 1 0 -1 0 0 0 0 0 30 12 99 99 20 0 1 0 5") == 42


def test_proportional_size_is_the_line_pss_and_no_other() -> None:
    assert proportional_kibibytes("0-1 ---p [rollup]\nRss:  9 kB\nPss_Dirty: 8 kB\nPss:   7 kB\n") == 7
    with pytest.raises(ValueError, match="no line Pss"):
        proportional_kibibytes("Rss: 9 kB\n")


def test_this_very_process_has_used_time_and_memory_and_has_a_parent() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert processor_seconds([me]) > 0
    assert proportional_mebibytes([me.pid]) > 1
    assert parent(me.pid) == os.getppid()


def test_works_have_names_of_their_own_and_series_with_titles_of_their_own() -> None:
    everything = works() + loads()
    titles = [one.title for work in everything for one in work.series.values()]
    assert len({work.key for work in everything}) == len(everything)
    assert len(set(titles)) == len(titles)


def test_an_unknown_work_and_no_repetition_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, reason in ((["--only", "nothing"], "nothing"), (["--repetitions", "0"], "at least one")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert reason in capsys.readouterr().err
