"""What the cluster's bench counts, and the cluster that it makes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # bench/ is a folder of scripts and is not installed

from bench.cluster_size import Size
from bench.cluster_world import counts_of
from bench.figures import Goal, Series, Statistic, table_alone

METRICS = """\
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",group="holdfast.dev",resource="speakerconfigs",subresource="",verb="APPLY"} 3
apiserver_request_total{code="200",group="holdfast.dev",resource="virtualips",subresource="status",verb="APPLY"} 4
apiserver_request_total{code="409",group="holdfast.dev",resource="virtualips",subresource="status",verb="APPLY"} 9
apiserver_request_total{code="200",group="holdfast.dev",resource="virtualips",subresource="",verb="PATCH"} 1
apiserver_request_total{code="200",group="coordination.k8s.io",resource="leases",subresource="",verb="PUT"} 50
apiserver_request_total{code="201",group="",resource="events",subresource="",verb="POST"} 2
apiserver_request_total{code="200",group="",resource="nodes",subresource="",verb="LIST"} 5
apiserver_response_sizes_sum{group="",resource="nodes",subresource="",verb="LIST"} 1.5e+03
apiserver_response_sizes_sum{group="",resource="nodes",subresource="",verb="GET"} 700
"""


def test_what_holdfast_writes_is_counted_where_it_was_taken_and_the_lease_is_not() -> None:
    counts = counts_of(METRICS)
    assert counts.writes == {"speakerconfigs": 3, "virtualips/status": 4, "events": 2}
    assert (counts.lists, counts.listed_bytes) == (5, 1500.0)
    assert (counts - counts).writes.total() == 0


def test_every_vip_is_on_the_link_of_the_nodes_that_can_hold_it() -> None:
    size = Size(vips=9, nodes=7, links=3, agents=2)
    assert [name for link in range(3) for name in size.on_link(link)] == [
        "node-0000",
        "node-0003",
        "node-0006",
        "node-0001",
        "node-0004",
        "node-0002",
        "node-0005",
    ]
    assert all(size.holders[vip] == size.on_link(link)[0] for link in range(3) for vip in size.vips_of(link))
    addresses = [size.address(number) for number in range(7)] + [size.vip_address(number) for number in range(9)]
    assert len(set(addresses)) == len(addresses)


@pytest.mark.parametrize(
    ("vips", "nodes", "links", "agents"), [(1, 1, 1, 1), (1, 4, 2, 1), (600, 4, 2, 1), (4, 4, 2, 5)]
)
def test_a_size_that_cannot_be_is_refused(vips: int, nodes: int, links: int, agents: int) -> None:
    with pytest.raises(ValueError, match="link"):
        Size(vips, nodes, links, agents)


def test_the_table_says_what_is_reached() -> None:
    writes = Series("writes", "writes", Goal(Statistic.MAXIMUM, 4), [5.0, 3.0, 4.0])
    assert table_alone([writes]).splitlines()[2] == "| writes | writes | 3 | 3 / 4 / 5 | <= 4 | **no** |"
