"""Sets of addresses by their first and last ones do what sets of addresses do."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from holdfast_operator.planner.cluster.spans import Span, Spans, span_of

spans = st.builds(
    lambda version, ends: Span(version, min(ends), max(ends)),
    st.sampled_from([4, 6]),
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
many = st.lists(spans, max_size=5)


def members(of: list[Span] | Spans) -> set[IPv4Address | IPv6Address]:
    return {span.at(number) for span in of for number in range(span.first, span.last + 1)}


@given(many)
def test_as_many_as_they_are_and_each_once(some: list[Span]) -> None:
    assert members(Spans(some)) == members(some)
    assert Spans(some).size == len(members(some))
    assert all(address in Spans(some) for address in members(some))
    assert not any(address in Spans(some) for address in members([Span(4, 0, 40), Span(6, 0, 40)]) - members(some))


@given(many, many)
def test_what_is_left_without_others(some: list[Span], others: list[Span]) -> None:
    assert members(Spans(some).without(Spans(others))) == members(some) - members(others)
    assert (Spans(some).meeting(Spans(others)) is None) == members(some).isdisjoint(members(others))


@given(many, st.sampled_from([4, 6]), st.sets(st.integers(0, 30)))
def test_the_lowest_that_is_free(some: list[Span], version: int, taken: set[int]) -> None:
    gone = {Span(version, 0, 0).at(number) for number in taken}
    left = {address for address in members(some) if address.version == version} - gone
    assert Spans(some).free(version, gone) == min(left, key=int, default=None)


def test_a_prefix_of_ipv6_is_as_quick_as_one_address() -> None:
    whole = Spans([Span(6, 0, 2**128 - 1)])
    assert whole.without(Spans([span_of(ip_address("::"))])).free(6, {}) == ip_address("::1")
    assert whole.size == 2**128


def test_they_are_written_as_in_a_pool() -> None:
    assert str(Span(4, int(IPv4Address("10.0.0.1")), int(IPv4Address("10.0.0.3")))) == "10.0.0.1-10.0.0.3"
    assert str(span_of(ip_address("fd00::5"))) == "fd00::5"
