"""The demo: keepalived's configurations of two hosts, converted, and played through the scenes of a VIP's life."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from holdfast_api.documents import Document, write_text
from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_lab import network, processes
from holdfast_lab.lab import Lab
from holdfast_lab.plan import plan_lab
from holdfast_lab.player import Player, Verdict
from holdfast_lab.record import LabStore, Software
from holdfast_lab.scenes import Pace, scenes
from holdfast_lab.screen import ConsoleScreen
from holdfast_lab.script import Script, write_script
from holdfast_lab.stage import Stage

HOLDFAST_LAB = "demo"
KEEPALIVED_LAB = "demo-keepalived"

_FIRST_HOLDER_SECONDS = 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked for the end by a signal; what was made is taken down on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def play_demo(*, compare: bool, release: bool) -> bool:
    """Play it all, shown on standard output, and take everything down again; whether every promise was kept.

    `compare`: with keepalived too, at the same time. `release`: with whenFailing: Release.

    Raises ConfigurationError when a demo is being played already, EnvironmentFailure when the machine refuses, and
    Interrupted after a signal; whichever it is, nothing is left behind.
    """
    network.require_means()
    if compare and shutil.which("keepalived") is None:
        raise EnvironmentFailure("--compare needs the command keepalived (Debian package keepalived)")
    script = write_script(release=release)
    names = [HOLDFAST_LAB, KEEPALIVED_LAB] if compare else [HOLDFAST_LAB]
    for name in names:
        _clear_leftovers(name)
    with _signals_as_exceptions(), tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        try:
            return _play(script, Path(folder), compare=compare)
        finally:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            for name in names:
                _take_down_own(name)


def _clear_leftovers(name: str) -> None:
    store = LabStore(name)
    if not store.exists():
        return
    owner = store.load().owner
    if owner is None:
        raise ConfigurationError(
            f"a lab of this name is up: `holdfast lab down --name {name}` removes it", field=f"lab {name}"
        )
    if processes.is_running(owner):
        raise ConfigurationError(f"a demo is being played already, by process {owner.pid}", field=f"lab {name}")
    Lab.open(name).down()


def _take_down_own(name: str) -> None:
    store = LabStore(name)
    if store.exists() and store.load().owner == processes.identify(os.getpid()):
        Lab.open(name).down()


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    def interrupt(number: int, _: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number)

    before = [signal.signal(number, interrupt) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)


def _play(script: Script, folder: Path, *, compare: bool) -> bool:
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(ConsoleScreen(several_stages=compare))
        stages = [_holdfast_stage(script, folder)]
        if compare:
            stages.append(_keepalived_stage(script))
        for stage in stages:
            stack.callback(stage.close)
        first, second = stages[0].hosts
        spec = script.virtual_ips[0].spec
        interval = spec.advertisement_interval_milliseconds
        screen.say(
            f"{first} and {second} share {stages[0].address}, configured by {_file_names(script)} through "
            f"`holdfast convert`: one advertisement every {interval} ms."
        )
        for line in script.differences:
            screen.say(f"  {line}", "dim")
        screen.say("A client sends one ICMP echo a millisecond and notes which host answers it.")
        player = Player(stages, screen)
        if not player.wait_for_holder(first, _FIRST_HOLDER_SECONDS):
            raise EnvironmentFailure(
                f"{first} did not take the VIP in {_FIRST_HOLDER_SECONDS} s: {_last_words(stages)}"
            )
        verdicts: list[list[Verdict]] = []
        for number, scene in enumerate(scenes(first, second, Pace.of(spec), spec.track.when_failing), start=1):
            verdicts.append(player.play(number, scene))
        screen.summary(verdicts)
    return all(row[0].kept for row in verdicts)


def _holdfast_stage(script: Script, folder: Path) -> Stage:
    file = folder / "virtual-ips.yaml"
    file.write_text(write_text(list(script.virtual_ips)), encoding="utf-8")
    return _stage(script, HOLDFAST_LAB, Software.HOLDFAST, dict.fromkeys(script.configurations, file))


def _keepalived_stage(script: Script) -> Stage:
    return _stage(script, KEEPALIVED_LAB, Software.KEEPALIVED, script.configurations)


def _stage(script: Script, name: str, software: Software, files: dict[str, Path]) -> Stage:
    plan = plan_lab([Document("demo", virtual_ip) for virtual_ip in script.virtual_ips], list(files))
    owner = processes.identify(os.getpid())
    return Stage(Lab.create(name, plan, lambda host: [files[host]], software=software, owner=owner))


def _file_names(script: Script) -> str:
    return " and ".join(file.name for file in script.configurations.values())


def _last_words(stages: Sequence[Stage]) -> str:
    return "; ".join(
        f"{stage.software} on {stage.hosts[0]} said last: {stage.lab.last_words(stage.hosts[0])}"
        for stage in stages
        if stage.holder() != stage.hosts[0]
    )
