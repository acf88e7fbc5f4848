"""Which nodes a VirtualIP asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast_api.resources import LabelSelector, NodeSelection
from holdfast_operator.planner.view import NodeView


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """metav1.LabelSelector: all of matchLabels and matchExpressions; an empty one matches everything.

    The policies have seen to it that its requirements are well-formed.
    """
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _meets(requirement, labels) for requirement in selector.match_expressions
    )


def _meets(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = requirement["key"], requirement.get("values", [])
    match requirement["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            # As Kubernetes has it, a node without the label meets this too.
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def selected(selection: NodeSelection, nodes: Sequence[NodeView]) -> list[NodeView]:
    """The nodes that both names and selector allow; where neither is given, every node."""
    return [
        node
        for node in nodes
        if (not selection.names or node.name in selection.names)
        and (selection.selector is None or matches(selection.selector, node.labels))
    ]


def is_open(selection: NodeSelection) -> bool:
    """Whether the user left it open which nodes take part: then only those that have a speaker do."""
    return not selection.names and selection.selector is None
