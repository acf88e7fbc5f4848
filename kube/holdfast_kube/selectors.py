"""metav1.LabelSelector, evaluated. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast_api.errors import ConfigurationError
from holdfast_api.resources import LabelSelector


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether the selector takes an object with these labels; an empty selector takes every one.

    Raises ConfigurationError for an expression that is none.

    >>> selects(LabelSelector(match_labels={"app": "web"}), {"app": "web", "tier": "front"})
    True
    """
    if any(labels.get(name) != value for name, value in selector.match_labels.items()):
        return False
    return all(_holds(expression, labels) for expression in selector.match_expressions)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values") or ()
    match operator:
        case "In":
            return labels.get(str(key)) in values
        case "NotIn":  # an object without the label is not in
            return labels.get(str(key)) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ConfigurationError(
        f"must be In, NotIn, Exists or DoesNotExist, and is {operator!r}", field="matchExpressions.operator"
    )
