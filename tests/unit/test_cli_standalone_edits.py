"""Which edits of the files count, and that none gives VIPs up which nobody meant to give up."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast_api.documents import Contents, read_contents
from holdfast_api.errors import ConfigurationErrors
from holdfast_cli.standalone.edits import Looks, require_intended
from holdfast_cli.standalone.feed import Feed


def vip(name: str, vrid: int) -> str:
    return (
        f"apiVersion: holdfast.dev/v1alpha1\nkind: VirtualIP\nmetadata: {{name: {name}}}\n"
        f"spec: {{addresses: [10.0.0.{vrid}/24], virtualRouterID: {vrid}}}\n"
    )


WEB, DB = vip("web", 51), vip("db", 52)
BOTH = f"{WEB}---\n{DB}"


def look(**files: str):
    return tuple(Contents(f"{name}.yaml", text.encode()) for name, text in sorted(files.items()))


def refused(before, after) -> list[str]:
    try:
        require_intended(read_contents(before), read_contents(after), after)
    except ConfigurationErrors as errors:
        return [str(error) for error in errors.errors]
    return []


def test_a_change_counts_when_two_looks_agree() -> None:
    looks = Looks(look(a=WEB))
    seen = [look(a=WEB), look(a=""), look(a=BOTH), look(a=BOTH), look(a=BOTH)]
    assert [looks.counts(one, at_once=False) for one in seen] == [False, False, False, True, False]


def test_a_file_that_was_away_for_a_moment_is_no_change() -> None:
    looks = Looks(look(a=WEB, b=DB))
    seen = [look(a=WEB), look(a=WEB, b=DB), look(a=WEB, b=DB)]
    assert [looks.counts(one, at_once=False) for one in seen] == [False, False, False]


def test_who_says_that_the_files_are_ready_is_believed_at_once() -> None:
    looks = Looks(look(a=WEB))
    assert looks.counts(look(a=BOTH), at_once=True)
    assert not looks.counts(look(a=BOTH), at_once=False), "it is in force"
    assert looks.counts(look(a=BOTH), at_once=True), "what is wrong with it is told again"


@pytest.mark.parametrize("text", ["", "# web is gone\n", "---\n# later\n", "null\n"])
def test_a_file_that_has_none_left_must_say_so(text: str) -> None:
    told = "does not have default/web any more, nor another: write a document `items: []` if that is meant"
    assert refused(look(a=WEB), look(a=text)) == [f"a.yaml: {told}"]
    assert refused(look(a=WEB, b=DB), look(a=text, b=DB)) == [f"a.yaml: {told}"], "other files have some"


@pytest.mark.parametrize("end", ["---", "---\n"])
def test_a_file_that_ends_in_the_middle_gives_nothing_up(end: str) -> None:
    told = "a.yaml: ends at `---` as if there was more to come, and does not have default/db any more"
    assert refused(look(a=BOTH), look(a=WEB + end)) == [told]
    assert refused(look(a=WEB), look(a=WEB + end)) == [], "nothing is given up"


def test_one_of_several_may_go_and_so_may_a_file_and_what_moves_to_another_file() -> None:
    assert refused(look(a=BOTH), look(a=WEB)) == []
    assert refused(look(a=WEB, b=DB), look(b=DB)) == []
    assert refused(look(a=WEB, b=DB), look(a="# see b.yaml\n", b=BOTH)) == []


def test_from_some_to_none_only_by_saying_so() -> None:
    told = "a.yaml, b.yaml: no VirtualIP is left at all: write a document `items: []` if that is meant"
    assert refused(look(a=WEB, b=DB), look()) == [told]
    assert refused(look(a=WEB), look(a="items: []\n")) == []
    assert refused(look(a=WEB, b=DB), look(a="", b="items: []\n")) == []
    assert refused(look(), look()) == []


def test_what_is_refused_leaves_the_plan_in_force_and_what_comes_later_is_compared_with_that(tmp_path: Path) -> None:
    file = tmp_path / "vip.yaml"
    file.write_text(BOTH, encoding="utf-8")
    feed = Feed([tmp_path], "n1", None)
    first = feed.plan(feed.look())
    for text in ("", "metadata: [", f"{WEB}---\n"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigurationErrors, match=r"vip\.yaml"):
            feed.plan(feed.look())
    file.unlink()
    with pytest.raises(ConfigurationErrors, match="no VirtualIP is left"):
        feed.plan(feed.look())
    file.write_text("items: []\n", encoding="utf-8")
    last = feed.plan(feed.look())
    assert (len(first.configuration.virtual_routers), last.configuration.virtual_routers) == (2, [])
    assert (first.configuration.generation, last.configuration.generation) == (1, 2)


def test_at_the_first_look_an_empty_file_is_a_file_without_virtual_ips(tmp_path: Path) -> None:
    (tmp_path / "vip.yaml").write_text("", encoding="utf-8")
    feed = Feed([tmp_path / "vip.yaml"], "n1", None)
    assert feed.plan(feed.look()).configuration.virtual_routers == []


def test_what_is_read_in_an_odd_way_is_among_the_warnings(tmp_path: Path) -> None:
    (tmp_path / "vip.yaml").write_text(WEB.replace("virtualRouterID: 51", "virtualRouterID: 051"), encoding="utf-8")
    feed = Feed([tmp_path], "n1", None)
    (warning,) = feed.plan(feed.look()).warnings
    assert "spec.virtualRouterID: 051 is taken for 41" in warning
