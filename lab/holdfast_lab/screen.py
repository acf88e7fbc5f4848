"""Shows a play to people: a timeline that scrolls, and at its end a table. Plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from holdfast_lab.evidence import Measurement
from holdfast_lab.happenings import Happening, Kind
from holdfast_lab.player import Verdict
from holdfast_lab.scenes import Scene
from holdfast_lab.stage import Stage

_STYLES = {Kind.DONE: "bold yellow", Kind.SAID: "cyan", Kind.KERNEL: "dim", Kind.CLIENT: "magenta"}
_PLAIN_WIDTH = 120


class ConsoleScreen:
    """A terminal, or a file that gets the same lines without colours and without the line at the bottom that moves."""

    def __init__(self, *, several_stages: bool, console: Console | None = None) -> None:
        self._console = console or _console()
        self._several = several_stages
        self._live = Live(console=self._console, refresh_per_second=10, transient=True)

    def __enter__(self) -> ConsoleScreen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        """A line outside of the scenes."""
        self._console.print(Text(text, style), soft_wrap=True)

    def scene(self, number: int, scene: Scene) -> None:
        """A scene begins."""
        self.say("")
        heading = Text(f"{number}  {scene.title}", "bold")
        heading.append(f"   promised: {scene.promise}", "not bold italic")
        self._console.print(heading, soft_wrap=True)
        if scene.note:
            self.say(f"   ({scene.note})", "dim")

    def happening(self, stage: Stage, happening: Happening, seconds: float) -> None:
        """One line of the timeline."""
        line = Text(f"  {seconds:+7.2f} s  ", "dim")
        if self._several:
            line.append(f"{stage.software:<10}  ", "green" if stage.software == "Holdfast" else "blue")
        line.append(f"{happening.where:<6}  ", "bold")
        line.append(happening.text, _STYLES[happening.kind])
        self._console.print(line, soft_wrap=True)

    def verdict(self, verdict: Verdict) -> None:
        """The line that a scene ends with."""
        line = Text("  ")
        if self._several:
            line.append(f"{verdict.software}: ", "bold")
        line.append(_seen(verdict))
        line.append("  ")
        line.append_text(_judgement(verdict))
        self._console.print(line, soft_wrap=True)

    def tick(self, stages: Sequence[Stage]) -> None:
        """The line at the bottom: who holds now."""
        if self._console.is_terminal:
            self._live.update(Text("   ").join(_now(stage) for stage in stages))

    def summary(self, verdicts: Sequence[Sequence[Verdict]]) -> None:
        """The table at the end: a row per scene, a group of columns per software."""
        table = Table(title="as measured on the spot, one probe a millisecond", title_style="italic")
        table.add_column("scene")
        table.add_column("promised")
        for verdict in verdicts[0] if verdicts else ():
            table.add_column(verdict.software)
            table.add_column("lost", justify="right")
        for number, row in enumerate(verdicts, start=1):
            cells: list[str | Text] = [f"{number} {row[0].scene.title}", row[0].scene.promise]
            for verdict in row:
                cells += [_cell(verdict), str(verdict.measurement.lost)]
            table.add_row(*cells)
        self._console.print()
        self._console.print(table)


def _cell(verdict: Verdict) -> Text:
    cell = Text(_moves(verdict.measurement) + "\n")
    if verdict.kept:
        return cell.append("kept", "green")
    return cell.append(f"broken: {'; '.join(verdict.complaints)}", "bold red")


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def _moves(measurement: Measurement) -> str:
    holder = f"{measurement.holder} holds" if measurement.holder else "nobody holds"
    return f"{holder}, {measurement.moves} {'move' if measurement.moves == 1 else 'moves'}"


def _seen(verdict: Verdict) -> str:
    measurement = verdict.measurement
    text = f"{_moves(measurement)}, {measurement.lost} of {measurement.sent} probes lost"
    if measurement.lost:
        text += f", longest outage {measurement.longest_outage_ms:.0f} ms"
    if verdict.observation.shared_ms >= 1:
        text += f", two hosts had the address for {verdict.observation.shared_ms:.0f} ms"
    return text


def _judgement(verdict: Verdict) -> Text:
    if verdict.kept:
        return Text("PROMISE KEPT", "bold green")
    return Text(f"PROMISE BROKEN: {'; '.join(verdict.complaints)}", "bold red")


def _now(stage: Stage) -> Text:
    holder = stage.holder()
    line = Text.assemble((f"{stage.software}: ", "bold"))
    for host in stage.hosts:
        line.append(f" {host} ", "black on green" if host == holder else "white on grey30")
        line.append(" ")
    line.append("" if holder else "nobody answers", "bold red")
    return line
