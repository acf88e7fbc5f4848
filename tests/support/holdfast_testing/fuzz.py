"""What is fuzzed: each target takes bytes, and fails by an exception that its parser does not promise.

`python -m holdfast_testing.fuzz TARGET FOLDER [LIBFUZZER-OPTION...]` runs one; tests/fuzz and scripts/fuzz start it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["holdfast_api", "holdfast_speaker", "holdfast_cli", "holdfast_operator"]):
    import msgspec

    from holdfast_api.errors import UNDECODABLE, ConfigurationError, ConfigurationErrors
    from holdfast_api.messages import Configure, Request
    from holdfast_api.reasons import Health
    from holdfast_api.speaker import SpeakerConfiguration
    from holdfast_cli.convert import Input, convert
    from holdfast_speaker.engine.instance import Instance
    from holdfast_speaker.engine.sharing import LastMove
    from holdfast_speaker.engine.state import PublishedState, Snapshot
    from holdfast_speaker.engine.vetting import vet
    from holdfast_speaker.vrrp.configuration import Configuration, Family
    from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
    from holdfast_speaker.vrrp.packet import PacketError, decode, encode
    from holdfast_speaker.vrrp.router import VirtualRouter

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"

_SIDES = {
    4: (bytes((10, 77, 0, 11)), bytes((10, 77, 0, 12)), bytes((224, 0, 0, 18))),
    16: tuple(ip_address(text).packed for text in ("fe80::11", "fe80::12", "ff02::12")),
}
"""Another router's address, our own, and the group's, by width."""

_PACKET_LENGTH_MAX = 80

_TELL_EVERY = 100_000

_counted = {"packets": 0, "advertisements": 0}


def packets_in(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Width, TTL and payload of each packet in the input: a byte of flags, a byte of length, the payload.

    Flag 0x02 mends the checksum, which random bytes do not meet, so that what is behind it is reached too.
    """
    at = 0
    while at + 2 <= len(data):
        flags, length = data[at], data[at + 1] % _PACKET_LENGTH_MAX
        payload = data[at + 2 : at + 2 + length]
        at += 2 + length
        width = 16 if flags & 1 else 4
        if flags & 2 and len(payload) >= 8:
            payload = _with_checksum(payload, width, pseudo_header=payload[0] >> 4 == 3 and not flags & 8)
        yield width, 64 if flags & 4 else 255, payload


def _with_checksum(payload: bytes, width: int, *, pseudo_header: bool) -> bytes:
    other, _, group = _SIDES[width]
    before = b""
    if pseudo_header:
        tail = len(payload).to_bytes(2, "big") if width == 4 else len(payload).to_bytes(4, "big") + bytes(2)
        before = other + group + (bytes((0, 112)) + tail if width == 4 else tail + bytes((0, 112)))
    total = int.from_bytes(before + payload[:6] + b"\0\0" + payload[8:] + bytes(len(payload) % 2), "big") % 0xFFFF
    return payload[:6] + (~total & 0xFFFF).to_bytes(2, "big") + payload[8:]


def a_router() -> VirtualRouter:
    """A Backup with both families, which has heard nobody. A member is obeyed whatever addresses it lists."""
    families = tuple(
        Family(own, (own[:-1] + b"\xc8",), (group,), frozenset({other})) for other, own, group in _SIDES.values()
    )
    router = VirtualRouter(Configuration(51, families, interval=Duration(100 * MILLISECOND)))
    router.start(Instant(SECOND), Health.HEALTHY, frozenset())
    return router


def packets(data: bytes) -> None:
    """Packets to a virtual router: all that is not an advertisement is a PacketError; what is survives a round trip.

    The router never fails, holds a VIP only as Master, and has its next deadline in the future after a poll.
    """
    router, now = a_router(), Instant(2 * SECOND)
    for width, ttl, payload in packets_in(data):
        other, _, group = _SIDES[width]
        now = Instant(now + 37 * MILLISECOND)
        _counted["packets"] += 1
        with contextlib.suppress(PacketError):
            heard = decode(payload, other, group, ttl)
            _counted["advertisements"] += 1
            again = encode(
                heard.version, heard.vrid, heard.priority, heard.interval, heard.addresses, other, group, heard.password
            )
            assert decode(again, other, group, 255)._replace(pseudo_header=heard.pseudo_header) == heard
            router.receive(heard._replace(vrid=51), now)
            router.poll(now)
            deadline = router.next_deadline()
            assert deadline is not None
            assert deadline > now
            assert router.holds_addresses == (router.state_name == "Master")


def state(data: bytes) -> None:
    """The files of the state directory: refused, or such that an engine could go on from them."""
    with contextlib.suppress(*UNDECODABLE):
        msgspec.json.decode(data, type=PublishedState)
    with contextlib.suppress(*UNDECODABLE):
        msgspec.json.decode(data, type=Snapshot)
    with contextlib.suppress(*UNDECODABLE, ConfigurationError):
        _runs(msgspec.json.decode(data, type=SpeakerConfiguration))


def control(data: bytes) -> None:
    """Lines of the control socket: refused, or requests that an engine can carry out."""
    for line in data.split(b"\n"):
        with contextlib.suppress(*UNDECODABLE, ConfigurationError):
            request = msgspec.json.decode(line, type=Request)
            if isinstance(request, Configure):
                _runs(request.configuration)


def _runs(configuration: SpeakerConfiguration) -> None:
    vet(configuration, configuration.node_name)
    for router in configuration.virtual_routers:
        instance = Instance(router, LastMove(""))
        instance.core_configuration({width: bytes(width) for width in instance.widths})


_folder = Path()


def keepalived(data: bytes) -> None:
    """keepalived.conf: ConfigurationErrors, or VirtualIPs (which convert itself reads again)."""
    path = _folder / "n1.conf"
    path.write_bytes(data)
    with contextlib.suppress(ConfigurationErrors):
        convert([Input(path, "n1")])


TARGETS: dict[str, Callable[[bytes], None]] = {
    "packets": packets,
    "state": state,
    "control": control,
    "keepalived": keepalived,
}


def captured_packets() -> list[tuple[bytes, bytes, int, bytes]]:
    """Source, destination, TTL and payload of each advertisement of corpus/packets.txt."""
    lines = (CORPUS / "packets.txt").read_text(encoding="ascii").splitlines()
    fields = [line.split() for line in lines if not line.startswith("#")]
    return [
        (ip_address(source).packed, ip_address(destination).packed, int(ttl), bytes.fromhex(payload))
        for source, destination, ttl, payload in fields
    ]


def seeds(target: str) -> Iterator[bytes]:
    """What a target begins with."""
    if target == "packets":
        for source, _, _, payload in captured_packets():
            packet = bytes((2 | (len(source) == 16), len(payload))) + payload
            yield packet
            yield packet * 4
    else:
        for path in sorted((CORPUS / target).iterdir()):
            yield path.read_bytes()


def main() -> None:
    """Fuzz one target with a folder of its own, until libFuzzer's options say stop.

    A finding is written where libFuzzer's -artifact_prefix says. libFuzzer ends the process without ceremony, so the
    folder is removed by whoever made it, and what was counted is told on the way.
    """
    global _folder
    target, folder = sys.argv.pop(1), Path(sys.argv.pop(1))
    _folder, corpus = folder / "input", folder / "corpus"
    for made in (_folder, corpus):
        made.mkdir()
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    told = 0

    def run(data: bytes) -> None:
        nonlocal told
        TARGETS[target](data)
        if _counted["packets"] - told >= _TELL_EVERY:
            told = _counted["packets"]
            print(f"fuzz: {told} packets, {_counted['advertisements']} of them advertisements", flush=True)

    atheris.Setup([*sys.argv, str(corpus)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
