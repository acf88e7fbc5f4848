"""What a conversion made of what, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast_cli.convert.ledger import Kind, Note
from holdfast_cli.convert.virtual_ips import Converted


def lines(converted: Sequence[Converted], notes: Sequence[Note], files: Sequence[str]) -> Iterator[str]:
    """The VirtualIPs with where they come from, the notes, what differs first, and a summary."""
    for made in converted:
        origins = ", ".join(
            f"{member.node} ({member.statement.place}, {member.name})" for member in made.router.everyone
        )
        addresses = ", ".join(made.virtual_ip.spec.addresses)
        yield f"VirtualIP {made.virtual_ip.metadata.name}: {addresses}, from {origins}"
    yield from once_each(notes, files)
    if len(files) == 1:
        yield (
            "note: only one host is known, so every node may hold these VirtualIPs, the others with the priority 100; "
            "convert the files of all hosts together to have their priorities"
        )
    counts = {kind: sum(note.kind is kind for note in notes) for kind in Kind}
    summary = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    yield f"VirtualIPs {len(converted)}, files {len(files)}: {summary}"


def once_each(notes: Sequence[Note], files: Sequence[str]) -> Iterator[str]:
    """By kinds, then in the order of the files; what is said several times once, with all its places and keywords."""
    order = {file: index for index, file in enumerate(files)}
    kinds = list(Kind)
    # A file that is included comes after those that were asked for.
    ordered = sorted(
        notes, key=lambda note: (kinds.index(note.kind), order.get(note.place.file, len(order)), note.place)
    )
    alike: dict[tuple[Kind, str], list[Note]] = {}
    for note in ordered:
        alike.setdefault((note.kind, note.text), []).append(note)
    for (kind, text), said in alike.items():
        keywords = ", ".join(dict.fromkeys(note.keyword for note in said))
        yield f"{_places(said)}: {keywords}: {kind}: {text}"


def _places(notes: Sequence[Note]) -> str:
    """Each file with its lines: n1.conf:5,9 n2.conf:5."""
    lines_of: dict[str, dict[int, None]] = {}
    for note in notes:
        lines_of.setdefault(note.place.file, {})[note.place.line] = None
    return " ".join(f"{file}:{','.join(map(str, numbers))}" for file, numbers in lines_of.items())
