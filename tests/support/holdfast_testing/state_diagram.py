"""The state diagram of docs/architecture.md, made from the table that the code obeys.

`scripts/state-diagram` writes it; a test holds page and table together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from holdfast_api.reasons import Reason, State
from holdfast_speaker.vrrp.states import TRANSITIONS

PAGE = Path("docs/architecture.md")
BEGIN = "<!-- made by scripts/state-diagram from holdfast_speaker/vrrp/states.py -->\n"
END = "<!-- end of what scripts/state-diagram made -->\n"

_ON_A_LINE = 3


def diagram(transitions: Mapping[tuple[State, State], frozenset[Reason]] = TRANSITIONS) -> str:
    """The table as a mermaid diagram: an arrow for each pair of states, its reasons in the order of their enum."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> Initialize"]
    for (one, other), reasons in transitions.items():
        names = [reason.value for reason in Reason if reason in reasons]
        rows = [", ".join(names[at : at + _ON_A_LINE]) for at in range(0, len(names), _ON_A_LINE)]
        lines.append(f"    {one} --> {other}: {',<br/>'.join(rows)}")
    return "\n".join([*lines, "```"]) + "\n"


def with_diagram(page: str) -> str:
    """The page with the diagram of today between the two comments. Raises ValueError where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no place for the state diagram: {BEGIN.strip()} ... {END.strip()}")
    return before + BEGIN + diagram() + END + after


if __name__ == "__main__":
    PAGE.write_text(with_diagram(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
