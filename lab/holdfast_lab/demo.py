"""The demo: keepalived's configurations of two hosts, converted, and played through the scenes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType

from holdfast_api.documents import Document, write_text
from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_lab import network, processes
from holdfast_lab.lab import Lab
from holdfast_lab.plan import plan_lab
from holdfast_lab.player import Player, Verdict
from holdfast_lab.record import LabStore
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


def play_demo(*, compare: bool, release: bool, keepalived_on: str | None = None) -> bool:
    """Play it all, shown on standard output, and take everything down again; whether every promise was kept.

    `compare`: with keepalived too, at the same time. `release`: with whenFailing: Release. `keepalived_on`: this host
    runs keepalived, beside Holdfast on the other.

    Raises ConfigurationError when a demo is being played already, EnvironmentFailure when the machine refuses, and
    Interrupted after a signal; whichever it is, nothing is left behind.
    """
    network.require_means()
    if (compare or keepalived_on) and shutil.which("keepalived") is None:
        raise EnvironmentFailure("this needs the command keepalived (Debian package keepalived)")
    script = write_script(release=release)
    if keepalived_on is not None and keepalived_on not in script.configurations:
        raise ConfigurationError(f"must be one of {', '.join(script.configurations)}", field="--keepalived")
    names = [HOLDFAST_LAB, KEEPALIVED_LAB] if compare else [HOLDFAST_LAB]
    for name in names:
        _clear_leftovers(name)
    with _signals_as_exceptions(), tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        try:
            return _play(script, Path(folder), [keepalived_on] if keepalived_on else [], compare=compare)
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


def _play(script: Script, folder: Path, keepalived_on: Collection[str], *, compare: bool) -> bool:
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(ConsoleScreen(several_stages=compare))
        stages = [_stage(script, folder, HOLDFAST_LAB, keepalived_on)]
        if compare:
            stages.append(_stage(script, folder, KEEPALIVED_LAB, script.configurations))
        for stage in stages:
            stack.callback(stage.close)
        first, second = stages[0].hosts
        spec = script.virtual_ips[0].spec
        interval = spec.advertisement_interval_milliseconds
        screen.say(
            f"{first} and {second} share {stages[0].address}, configured by {_file_names(script)} through "
            f"`holdfast convert`: one advertisement every {interval} ms."
        )
        for host in keepalived_on:
            screen.say(f"{host} runs keepalived itself, as {script.configurations[host].name} has it.")
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


def _stage(script: Script, folder: Path, name: str, keepalived_on: Collection[str]) -> Stage:
    converted = folder / "virtual-ips.yaml"
    converted.write_text(write_text(list(script.virtual_ips)), encoding="utf-8")
    files = {host: file if host in keepalived_on else converted for host, file in script.configurations.items()}
    plan = plan_lab([Document("demo", virtual_ip) for virtual_ip in script.virtual_ips], list(files))
    owner = processes.identify(os.getpid())
    return Stage(Lab.create(name, plan, lambda host: [files[host]], keepalived_on=keepalived_on, owner=owner))


def _file_names(script: Script) -> str:
    return " and ".join(file.name for file in script.configurations.values())


def _last_words(stages: Sequence[Stage]) -> str:
    return "; ".join(
        f"{stage.software} on {stage.hosts[0]} said last: {stage.lab.last_words(stage.hosts[0])}"
        for stage in stages
        if stage.holder() != stage.hosts[0]
    )
