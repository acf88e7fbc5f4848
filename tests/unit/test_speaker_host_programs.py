"""Whether another program on the host speaks VRRP, by the kernel's list of raw sockets."""

from __future__ import annotations

from pathlib import Path

from holdfast_speaker.host.programs import others_speak_vrrp

HEADER = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
)
LINE = "{sl:4}: {address}:{protocol:04X} 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 {inode} 2 0000 0"


def listed(path: Path, *sockets: tuple[int, int], address: str = "00000000") -> Path:
    """A list of sockets, each with its protocol and inode."""
    lines = [LINE.format(sl=protocol, address=address, protocol=protocol, inode=inode) for protocol, inode in sockets]
    path.write_text("\n".join([HEADER, *lines, "garbage"]) + "\n", encoding="ascii")
    return path


def test_a_socket_of_vrrp_that_is_none_of_ours_is_another_programs(tmp_path: Path) -> None:
    v4 = listed(tmp_path / "raw", (1, 10), (112, 11), (112, 12))
    v6 = listed(tmp_path / "raw6", (112, 13), (58, 14), address="0" * 32)
    assert not others_speak_vrrp({11, 12, 13}, (v4, v6))
    assert others_speak_vrrp({11, 12}, (v4, v6))
    assert others_speak_vrrp({11, 13}, (v4, v6))


def test_where_the_kernel_does_not_say_there_is_none(tmp_path: Path) -> None:
    assert not others_speak_vrrp(frozenset(), (tmp_path / "raw",))
