"""keepalived configurations for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from holdfast_cli.convert import Conversion, Input, convert
from holdfast_cli.convert.ledger import Kind, Statement

ADDRESS = "virtual_ipaddress {\n10.77.0.200/24\n}"
SCRIPT = "vrrp_script chk {\nscript /bin/true\n}\n"


def addresses(*entries: str) -> str:
    """A virtual_ipaddress block."""
    return "virtual_ipaddress {\n" + "".join(f"{entry}\n" for entry in entries) + "}"


def instance(*lines: str, name: str = "VI_1", vrid: int = 51, interface: str = "eth0", block: str = ADDRESS) -> str:
    """A vrrp_instance; with the default block of addresses, further lines begin in its seventh line."""
    own = [f"virtual_router_id {vrid}", *([f"interface {interface}"] if interface else []), block]
    return f"vrrp_instance {name} {{\n" + "\n".join([*own, *lines]) + "\n}\n"


def convert_texts(folder: Path, *texts: str, strict: bool = False, sticky: bool = False) -> Conversion:
    """Convert the texts as the configurations of n1, n2, ..."""
    inputs = []
    for number, text in enumerate(texts, start=1):
        path = folder / f"n{number}.conf"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        inputs.append(Input(path, f"n{number}"))
    return convert(inputs, strict=strict, sticky=sticky)


def unsettled(conversion: Conversion) -> Iterator[Statement]:
    """Statements of which nothing was said, and which are in no block that was left out as a whole."""
    blocks = [
        (note.place.file, statement.place.line, statement.last_line)
        for note in conversion.ledger.notes
        if note.kind is Kind.LEFT_OUT
        for statement in conversion.statements
        if statement.place == note.place and statement.block is not None
    ]
    for statement in conversion.statements:
        place = statement.place
        inside = any(file == place.file and first <= place.line <= last for file, first, last in blocks)
        if not conversion.ledger.settles(statement) and not inside:
            yield statement
