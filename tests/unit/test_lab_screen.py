"""What people read of a play where there is no terminal."""

from __future__ import annotations

import dataclasses
import io
from types import SimpleNamespace

from rich.console import Console

from holdfast_lab.evidence import Measurement, Stretch
from holdfast_lab.happenings import Happening, Kind
from holdfast_lab.player import Verdict
from holdfast_lab.scenes import Observation, Scene
from holdfast_lab.screen import ConsoleScreen

SCENE = Scene("power off n1", "n2 holds", 5.0, (), lambda observation: iter(()))


def screen(*, several_stages=False):
    written = io.StringIO()
    return ConsoleScreen(several_stages=several_stages, console=Console(file=written, width=120)), written


def verdict(*complaints, lost=3610, shared_ms=0.0, holder="n2", software="Holdfast"):
    measurement = Measurement(5000, lost, float(lost), (Stretch(0, "n2", is_change=True),), holder)
    return Verdict(SCENE, software, Observation("n1", measurement, shared_ms, None), complaints)


def test_a_scene_is_announced_with_its_promise():
    shown, written = screen()
    shown.scene(1, SCENE)
    assert written.getvalue() == "\n1  power off n1   promised: n2 holds\n"


def test_a_note_follows_the_announcement():
    shown, written = screen()
    shown.scene(5, dataclasses.replace(SCENE, note="there is another choice"))
    assert written.getvalue().endswith("promised: n2 holds\n   (there is another choice)\n")


def test_a_happening_has_its_time_and_place():
    shown, written = screen()
    shown.happening(SimpleNamespace(software="Holdfast"), Happening(0, Kind.SAID, "n2", "[Backup] → Master"), 3.614)
    assert written.getvalue() == "    +3.61 s  n2      [Backup] → Master\n"


def test_with_several_stages_a_happening_tells_on_which():
    shown, written = screen(several_stages=True)
    shown.happening(SimpleNamespace(software="keepalived"), Happening(0, Kind.DONE, "n1", "power off"), 0)
    assert written.getvalue() == "    +0.00 s  keepalived  n1      power off\n"


def test_a_verdict_tells_holder_moves_losses_and_judgement():
    shown, written = screen()
    shown.verdict(verdict())
    shown.verdict(verdict("it moved 2 times", "n1 holds", lost=0, shared_ms=12.4, holder=None))
    assert written.getvalue() == (
        "  n2 holds, 1 move, 3610 of 5000 probes lost, longest outage 3610 ms  PROMISE KEPT\n"
        "  nobody holds, 1 move, 0 of 5000 probes lost, two hosts had the address for 12 ms"
        "  PROMISE BROKEN: it moved 2 times; n1 holds\n"
    )


def test_the_table_has_a_row_per_scene_and_columns_per_software():
    shown, written = screen(several_stages=True)
    shown.summary([[verdict(), verdict("n1 holds", software="keepalived", lost=17)]])
    table = written.getvalue()
    for part in ("as measured on the spot", "Holdfast", "keepalived", "1 power off n1", "3610", "17"):
        assert part in table
    assert table.count("kept") == table.count("broken: n1 holds") == 1


def test_what_is_no_terminal_gets_no_line_that_moves():
    shown, written = screen()
    with shown:
        shown.tick([])
    assert written.getvalue() == ""
