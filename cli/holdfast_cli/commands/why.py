"""`holdfast why`."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import click
import msgspec
from msgspec import Struct, structs

from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_api.messages import GetHistory, History, Transition
from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_cli.client import ask
from holdfast_cli.commands.options import STATE_DIRECTORY
from holdfast_cli.standalone.past_moves import kept_moves, together

_NANOSECONDS = 1_000_000_000


@click.command(short_help="Tell why a VIP moved.")
@click.argument("virtual_ip", metavar="VIP")
@click.option("--journal", "journal_file", type=click.Path(path_type=Path), help="Write the journal there, for replay.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@STATE_DIRECTORY
def command(virtual_ip: str, journal_file: Path | None, output: str, state_dir: Path) -> None:
    """Tell the story of the last moves of a VIP on this host: when, why, who decided it, and how long nobody held.

    Moves from before a restart of holdfast run are told, too, and where it does not run, what its state directory has.

    Where holdfast run keeps a journal (--journal), also what was heard last before each move. The journal is of the
    whole engine: all its VirtualIPs, their configuration and, with VRRPv2, its simple passwords.

    \b
    Example:
      holdfast why shop/web
      holdfast why shop/web -o json | jq '.moves[-1].transition.reason'
      holdfast why shop/web --journal web.journal && holdfast replay web.journal
    """
    history = _history(virtual_ip, state_dir)
    if journal_file is not None:
        _write(journal_file, history)
    stories = _stories(history)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(_Told(history.virtual_ip, stories)), indent=2))
        return
    lines = [line for story in stories for line in _lines(story)]
    click.echo("\n".join(lines) if lines else f"{history.virtual_ip} has not moved since the engine started")


class _Story(Struct, frozen=True, rename=kubernetes_name):
    """One move, and the last advertisement of each router that was heard before it, where a journal tells."""

    transition: Transition
    heard_before: list[str]


class _Told(Struct, frozen=True, rename=kubernetes_name):
    virtual_ip: str
    moves: list[_Story]


def _history(virtual_ip: str, state_dir: Path) -> History:
    """Of the engine that runs and of those before it; where none runs, or not this VIP, of those before it alone."""
    kept = kept_moves(state_dir)
    try:
        answer = ask(state_dir, GetHistory(virtual_ip=virtual_ip))
    except (EnvironmentFailure, ConfigurationError) as failure:
        key = _key(virtual_ip, kept)
        if key is None:
            raise
        click.echo(f"from the state directory: {failure}", err=True)
        answer = History(virtual_ip=key, transitions=[], journal=[])
    if not isinstance(answer, History):
        raise EnvironmentFailure("the engine answered something else than a history")
    before = [move for move in kept if move.virtual_ip == answer.virtual_ip]
    return structs.replace(answer, transitions=together(before, answer.transitions))


def _key(virtual_ip: str, moves: list[Transition]) -> str | None:
    names = {move.virtual_ip for move in moves}
    found = [name for name in names if virtual_ip in (name, name.partition("/")[2])]
    return virtual_ip if virtual_ip in names else found[0] if len(found) == 1 else None


def _write(path: Path, history: History) -> None:
    if not history.journal:
        raise ConfigurationError("no journal is kept: start holdfast run with --journal", field=history.virtual_ip)
    try:
        path.write_text("\n".join(history.journal) + "\n", encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be written: {error.strerror}") from error


def _lines(story: _Story) -> list[str]:
    transition = story.transition
    move = f"{transition.from_state} -> {transition.to_state}"
    lines = [f"{transition.time}  {move}  {transition.reason}: {transition.message}"]
    if transition.to_state is State.MASTER and transition.silent_milliseconds:
        seconds = transition.silent_milliseconds / 1000
        lines.append(f"    nothing was heard for {seconds:.3f} s: nobody held for at most so long")
    return lines + [f"    {line}" for line in story.heard_before]


def _stories(history: History) -> list[_Story]:
    heard = _heard_before_each(history.virtual_ip, history.journal)
    return [_Story(transition, _take_heard_before(transition, heard)) for transition in history.transitions]


def _take_heard_before(transition: Transition, heard: list[tuple[Transition, list[str]]]) -> list[str]:
    """What the journal has of it, which goes from there, with what was before it."""
    for index, (recorded, last) in enumerate(heard):
        if recorded == transition:
            del heard[: index + 1]
            return last
    return []


def _heard_before_each(virtual_ip: str, lines: list[str]) -> list[tuple[Transition, list[str]]]:
    """For each recorded transition, the last advertisement of each router heard before it."""
    if not lines:
        return []
    from holdfast_speaker.engine.replay import read, transitions_of

    head, inputs = read(line.encode() for line in lines)
    vrid = _vrid(virtual_ip, head.checkpoint.configuration)
    found: list[tuple[Transition, list[str]]] = []
    last: dict[str, tuple[int, int]] = {}
    for recorded in inputs:
        now = recorded.at or 0
        match recorded.verb, recorded.arguments:
            case "configure", (configuration,):
                vrid = _vrid(virtual_ip, configuration)
            case "receive", (_, datagrams):
                for payload, source, _, _ in datagrams:
                    if len(payload) > 2 and payload[1] == vrid:  # RFC 9568 section 5.2: the VRID, then the priority
                        last[str(ip_address(source))] = (now, payload[2])
        for transition in transitions_of(recorded):
            if transition.virtual_ip == virtual_ip:
                told = [
                    f"last heard of {source}: priority {priority}, {(now - at) / _NANOSECONDS:.3f} s before"
                    for source, (at, priority) in sorted(last.items())
                ]
                found.append((transition, told))
    return found


def _vrid(virtual_ip: str, configuration: SpeakerConfiguration) -> int | None:
    asked = (item for item in configuration.virtual_routers if virtual_ip in item.virtual_ip_names)
    return next((item.virtual_router_id for item in asked), None)
