"""`holdfast sniff`."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast_api.errors import EnvironmentFailure
from holdfast_cli.sniff.changes import Change
from holdfast_cli.sniff.packets import Malformed, Packet
from holdfast_cli.sniff.render import as_json, as_text, time_of
from holdfast_cli.sniff.watch import Watch

if TYPE_CHECKING:
    from holdfast_cli.sniff.capture import Live

_SECOND = 1_000_000_000


@click.command(short_help="Show VRRP on the wire: who is Master, what changes, what is wrong.")
@click.option("-i", "--interface", "interfaces", metavar="IF", multiple=True, help="Listen there; repeatable.")
@click.option(
    "--pcap",
    "capture",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read a capture (pcap or pcapng; - is standard input) instead; needs no root.",
)
@click.option("-v", "--verbose", is_flag=True, help="A line for each packet, too.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N packets.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="End after S seconds (of the capture, with --pcap).",
)
@click.option(
    "-w",
    "--write",
    "kept",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep what is heard as pcap.",
)
def command(
    interfaces: tuple[str, ...],
    capture: Path | None,
    verbose: bool,
    output: str,
    count: int | None,
    duration: float | None,
    kept: Path | None,
) -> None:
    """Decode VRRP (v2, v3, IPv4, IPv6) and the ARP and neighbour discovery of its addresses, a line for each change.

    Without -i it listens on every interface that is up and has an address. Times are UTC. Ctrl-C ends it.

    \b
    Example:
      holdfast sniff -i eth0
      holdfast sniff --pcap failover.pcap -v
      holdfast sniff -i eth0 -o json | jq 'select(.event == "MasterChanged")'
      ssh n1 tcpdump -Ui eth0 -w - vrrp or arp or icmp6 | holdfast sniff --pcap -
    """
    if capture is not None and (interfaces or kept):
        raise click.UsageError("--pcap reads a file: it goes with neither -i nor -w")
    if importlib.util.find_spec("scapy") is None:
        raise EnvironmentFailure("scapy is not installed: pip install 'holdfast[sniff]'")
    session = _Session(verbose, as_json if output == "json" else as_text, count)
    try:
        if capture is not None:
            session.read(capture, duration)
        else:
            session.listen(list(interfaces), kept, duration)
    except KeyboardInterrupt:
        click.echo("", err=True)  # after the terminal's ^C
    click.echo(session.summary(), err=True)


class _Session:
    """One run: packets in, lines out, and what the last line counts."""

    def __init__(self, verbose: bool, line: Callable[[Packet | Change], str], count: int | None) -> None:
        self._watch = Watch()
        self._verbose = verbose
        self._line = line
        self._count = count
        self._packets = 0
        self._invalid = 0
        self._changes = 0
        self._dropped = 0
        self._first: int | None = None
        self._last = 0
        self._end: int | None = None

    def read(self, capture: Path, duration: float | None) -> None:
        """A capture to its end, or for so many seconds of it."""
        from holdfast_cli.sniff.capture import read
        from holdfast_cli.sniff.decode import decode

        for packet in read(capture):
            at = round(packet.time * _SECOND)
            if self._end is None and duration is not None:
                self._end = at + round(duration * _SECOND)
            if self._take(decode(packet), at):
                return

    def listen(self, interfaces: list[str], kept: Path | None, duration: float | None) -> None:
        """Interfaces of this host, until somebody ends it."""
        from holdfast_cli.sniff.capture import Live, usable_interfaces, write_to
        from holdfast_cli.sniff.decode import decode

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        names = interfaces or usable_interfaces()
        if duration is not None:
            self._end = time.time_ns() + round(duration * _SECOND)
        with contextlib.closing(Live(names)) as live, contextlib.ExitStack() as stack:
            stack.callback(self._count_dropped, live)
            writer = None if kept is None else stack.enter_context(write_to(kept))
            click.echo(f"listening on {', '.join(names)}", err=True)
            for heard in live.packets(self._patience):
                if heard is None:
                    if self._pass(time.time_ns()):
                        return
                    continue
                name, packet = heard
                if writer is not None:
                    writer.write(packet)
                if self._take(decode(packet, name), round(packet.time * _SECOND)):
                    return

    def _patience(self) -> float | None:
        """Seconds until something is due that is no packet."""
        due = min((at for at in (self._end, self._watch.deadline()) if at is not None), default=None)
        return None if due is None else max(0, due - time.time_ns()) / _SECOND

    def _count_dropped(self, live: Live) -> None:
        self._dropped = live.dropped()

    def _pass(self, now: int) -> bool:
        """Time passes; whether it is over."""
        is_over = self._end is not None and now >= self._end
        self._tell(self._watch.tick(now if self._end is None else min(now, self._end)))
        return is_over

    def _take(self, packet: Packet | None, at: int) -> bool:
        """Tell of a packet of the wire; whether that was the last. None: not one of ours, but its time counts."""
        if self._pass(at):
            return True
        self._first, self._last = self._first or at, at
        if packet is None:
            return False
        changes = self._watch.hear(packet)
        if self._watch.concerns(packet):
            self._packets += 1
            self._invalid += isinstance(packet, Malformed)
            if self._verbose:
                click.echo(self._line(packet))
        self._tell(changes)
        return self._packets == self._count

    def _tell(self, changes: list[Change]) -> None:
        self._changes += len(changes)
        for change in changes:
            click.echo(self._line(change))

    def summary(self) -> str:
        """What was heard, in one line."""
        routers = self._watch.virtual_routers
        parts = [
            _counted(self._packets, "packet"),
            _counted(routers, "virtual router"),
            _counted(self._changes, "change"),
            f"{self._invalid} invalid",
        ]
        if self._dropped:
            parts.append(f"{self._dropped} dropped by the kernel")
        span = "" if self._first is None else f"; from {time_of(self._first)} to {time_of(self._last)}"
        return f"{', '.join(parts)}{span}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
