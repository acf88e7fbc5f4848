"""Which nodes a VirtualIP asks for. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from holdfast_api.resources import LabelSelector, NodeSelection
from holdfast_kube.selectors import selects
from holdfast_operator.planner.cluster.view import ClusterRules, NodeView

_EXCLUDED: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
_CONTROL_PLANES: Final = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


def selected(
    selection: NodeSelection, nodes: Sequence[NodeView], rules: ClusterRules, kept: Container[str]
) -> list[NodeView]:
    """The nodes that both names and selector allow; where neither is given, every node.

    A node that is kept free of load balancers, and a control plane, takes part only where spec.nodes names it: in
    `names`, or by a selector that asks for the very label that keeps it out; or where it takes part since before such
    labels counted (`kept`).
    """
    return [
        node
        for node in nodes
        if fits(selection, node) and (node.name in kept or not _stands_aside(selection, node, rules))
    ]


def fits(selection: NodeSelection, node: NodeView) -> bool:
    """Whether both names and selector allow the node; where neither is given, it does."""
    return (not selection.names or node.name in selection.names) and (
        selection.selector is None or selects(selection.selector, node.labels)
    )


def _stands_aside(selection: NodeSelection, node: NodeView, rules: ClusterRules) -> bool:
    """The selection is known to fit the node."""
    if node.name in selection.names:
        return False
    return any(not _asks_for(selection.selector, label) for label in _reasons(node, rules))


def stands_aside(node: NodeView, rules: ClusterRules) -> bool:
    """Whether it takes part only where it is named."""
    return bool(_reasons(node, rules))


def _reasons(node: NodeView, rules: ClusterRules) -> list[str]:
    labels = [_EXCLUDED, *(() if rules.control_planes else _CONTROL_PLANES)]
    return [label for label in labels if label in node.labels]


def _asks_for(selector: LabelSelector | None, label: str) -> bool:
    """Whether it selects nodes that have the label, and for having it."""
    if selector is None:
        return False
    return label in selector.match_labels or any(
        requirement["key"] == label and requirement["operator"] in ("In", "Exists")
        for requirement in selector.match_expressions
    )


def fits_any(selection: NodeSelection, nodes: Sequence[NodeView]) -> bool:
    """Whether it fits a node at all, be it one that stands aside."""
    return any(fits(selection, node) for node in nodes)


def is_open(selection: NodeSelection) -> bool:
    """Whether the user left it open which nodes take part: then only those that have a speaker do."""
    return not selection.names and selection.selector is None
