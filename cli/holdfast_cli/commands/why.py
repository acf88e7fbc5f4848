"""`holdfast why`."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import click

from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_api.messages import GetHistory, History, Transition
from holdfast_api.reasons import State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_cli.client import ask
from holdfast_cli.commands.status import STATE_DIRECTORY

_NANOSECONDS = 1_000_000_000


@click.command(short_help="Tell why a VIP moved.")
@click.argument("virtual_ip", metavar="VIP")
@click.option("--journal", "journal_file", type=click.Path(path_type=Path), help="Write the journal there, for replay.")
@STATE_DIRECTORY
def command(virtual_ip: str, journal_file: Path | None, state_dir: Path) -> None:
    """Tell the story of the last moves of a VIP on this host: when, why, who decided it, and how long nobody held.

    Where holdfast run keeps a journal (--journal), also what was heard last before each move. The journal is of the
    whole engine: all its VirtualIPs, their configuration and, with VRRPv2, its simple passwords.

    \b
    Example:
      holdfast why shop/web
      holdfast why shop/web --journal web.journal && holdfast replay web.journal
    """
    answer = ask(state_dir, GetHistory(virtual_ip=virtual_ip))
    if not isinstance(answer, History):
        raise EnvironmentFailure("the engine answered something else than a history")
    if journal_file is not None:
        _write(journal_file, answer)
    heard = _heard_before_each(answer.virtual_ip, answer.journal)
    lines = [line for transition in answer.transitions for line in _story(transition, heard)]
    click.echo("\n".join(lines) if lines else f"{answer.virtual_ip} has not moved since the engine started")


def _write(path: Path, history: History) -> None:
    if not history.journal:
        raise ConfigurationError("no journal is kept: start holdfast run with --journal", field=history.virtual_ip)
    try:
        path.write_text("\n".join(history.journal) + "\n", encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be written: {error.strerror}") from error


def _story(transition: Transition, heard: list[tuple[str, str, list[str]]]) -> list[str]:
    move = f"{transition.from_state} -> {transition.to_state}"
    lines = [f"{transition.time}  {move}  {transition.reason}: {transition.message}"]
    if transition.to_state is State.MASTER and transition.silent_milliseconds:
        seconds = transition.silent_milliseconds / 1000
        lines.append(f"    nothing was heard for {seconds:.3f} s: nobody held for at most so long")
    for index, (to_state, reason, last) in enumerate(heard):
        if (to_state, reason) == (transition.to_state, transition.reason):
            lines += [f"    {line}" for line in last]
            del heard[: index + 1]
            break
    return lines


def _heard_before_each(virtual_ip: str, lines: list[str]) -> list[tuple[str, str, list[str]]]:
    """For each recorded transition, to which state and why, the last advertisement of each router heard before it."""
    if not lines:
        return []
    from holdfast_speaker.engine.replay import read, transitions_of

    head, inputs = read(line.encode() for line in lines)
    vrid = _vrid(virtual_ip, head.checkpoint.configuration)
    found: list[tuple[str, str, list[str]]] = []
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
                found.append((transition.to_state, transition.reason, told))
    return found


def _vrid(virtual_ip: str, configuration: SpeakerConfiguration) -> int | None:
    asked = (item for item in configuration.virtual_routers if virtual_ip in item.virtual_ip_names)
    return next((item.virtual_router_id for item in asked), None)
