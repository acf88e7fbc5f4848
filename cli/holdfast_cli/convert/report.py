"""What a conversion made of what, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast_cli.convert.ledger import Kind, Note
from holdfast_cli.convert.virtual_ips import Converted


def lines(converted: Sequence[Converted], notes: Sequence[Note], files: Sequence[str]) -> Iterator[str]:
    """The VirtualIPs with where they come from, every note in the order of the files, and a summary."""
    for made in converted:
        origins = ", ".join(
            f"{member.node} ({member.statement.place}, {member.name})" for member in made.router.everyone
        )
        addresses = ", ".join(made.virtual_ip.spec.addresses)
        yield f"VirtualIP {made.virtual_ip.metadata.name}: {addresses}, from {origins}"
    order = {file: index for index, file in enumerate(files)}
    # A file that is included comes after those that were asked for.
    for note in sorted(notes, key=lambda note: (order.get(note.place.file, len(order)), note.place)):
        yield str(note)
    if len(files) == 1:
        yield (
            "note: only one host is known, so every node may hold these VirtualIPs, the others with the priority 100; "
            "convert the files of all hosts together to have their priorities"
        )
    counts = {kind: sum(note.kind is kind for note in notes) for kind in Kind}
    summary = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    yield f"VirtualIPs {len(converted)}, files {len(files)}: {summary}"
