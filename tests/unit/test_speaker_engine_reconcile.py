"""The difference between the wanted and the present addresses."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from holdfast_speaker.engine.reconcile import KernelAddress, Plan, plan
from holdfast_speaker.host.netlink import ADDRESS_PROTOCOL, LinkAddress

VIP, OTHER = socket.inet_aton("10.0.0.200"), socket.inet_aton("10.0.0.201")


def present(index, address, prefix_length=24, protocol=ADDRESS_PROTOCOL):
    return LinkAddress(index, socket.AF_INET, address, prefix_length, protocol, 0x80, 0, 3)


def wanted(index, address, prefix_length=24):
    return KernelAddress(index, address, prefix_length)


def test_a_wanted_address_that_is_absent_is_added():
    assert plan({wanted(2, VIP)}, [], set()) == Plan(add=(wanted(2, VIP),), remove=(), foreign=())


def test_a_wanted_address_that_is_present_is_left():
    assert plan({wanted(2, VIP)}, [present(2, VIP)], {VIP}) == Plan((), (), ())


def test_an_address_of_ours_that_is_not_wanted_is_removed_when_it_is_known():
    assert plan(set(), [present(2, VIP)], {VIP}) == Plan(add=(), remove=(wanted(2, VIP),), foreign=())


def test_an_address_of_another_engine_is_left_to_expire():
    assert plan(set(), [present(2, OTHER)], {VIP}) == Plan((), (), ())


def test_an_address_moves_with_its_link_and_its_prefix_length():
    there = [present(3, VIP), present(2, VIP, 32)]
    assert plan({wanted(2, VIP)}, there, {VIP}) == Plan(
        add=(wanted(2, VIP),), remove=(wanted(2, VIP, 32), wanted(3, VIP)), foreign=()
    )


def test_a_wanted_address_that_somebody_else_has_is_neither_added_nor_touched():
    foreign = present(4, VIP, 32, protocol=0)
    assert plan({wanted(2, VIP)}, [foreign], {VIP}) == Plan(add=(), remove=(), foreign=(foreign,))


def test_the_addresses_of_somebody_else_are_no_concern_when_they_are_not_wanted():
    assert plan(set(), [present(2, VIP, protocol=18)], {VIP}) == Plan((), (), ())


addresses = st.sampled_from([VIP, OTHER, socket.inet_aton("10.0.0.202")])
kernel_addresses = st.builds(KernelAddress, st.integers(1, 3), addresses, st.sampled_from([24, 32]))
link_addresses = st.builds(
    present,
    st.integers(1, 3),
    addresses,
    st.sampled_from([24, 32]),
    st.sampled_from([0, 18, ADDRESS_PROTOCOL]),
)


@given(st.sets(kernel_addresses), st.sets(link_addresses), st.sets(addresses))
def test_carrying_out_a_plan_leaves_nothing_to_do_and_what_is_not_ours_as_it_was(want, there, known):
    first = plan(want, there, known)
    remaining = {
        a for a in there if KernelAddress(a.index, a.address, a.prefix_length) not in first.remove or not a.ours
    }
    after = remaining | {present(a.index, a.address, a.prefix_length) for a in first.add}
    assert {a for a in after if not a.ours} == {a for a in there if not a.ours}
    second = plan(want, after, known)
    assert (second.add, second.remove, set(second.foreign)) == ((), (), set(first.foreign))
