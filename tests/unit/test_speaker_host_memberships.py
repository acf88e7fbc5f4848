"""Which links are members of a multicast group, as the kernel lists them."""

from __future__ import annotations

from pathlib import Path

from holdfast_speaker.host.memberships import Memberships

V4, V6 = bytes((224, 0, 0, 18)), bytes.fromhex("ff020000000000000000000000000012")

IGMP = """\
Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
7\teth0      :     2      V3
\t\t\t\t120000E0     1 0:00000000\t\t0
\t\t\t\t010000E0     1 0:00000000\t\t0
12\teth1      :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
"""
IGMP6 = """\
1    lo              ff020000000000000000000000000001     1 0000000C 0
7    eth0            ff020000000000000000000000000012     1 00000004 0
12   eth1            ff0200000000000000000001ff000012     1 00000004 0
"""


def test_a_link_is_a_member_of_what_is_listed_for_it(tmp_path: Path) -> None:
    v4, v6 = tmp_path / "igmp", tmp_path / "igmp6"
    v4.write_text(IGMP)
    v6.write_text(IGMP6)
    memberships = Memberships(v4, v6)
    for group in (V4, V6):
        assert [memberships.is_member(index, group) for index in (1, 7, 12, 70)] == [False, True, False, False]
    v4.unlink()
    v6.unlink()
    assert memberships.is_member(7, V4), "a hundred links are no hundred reads"
    assert Memberships(v4, v6).is_member(7, V4) is None
