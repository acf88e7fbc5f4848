from __future__ import annotations

import pytest

from holdfast_api.errors import ConfigurationError
from holdfast_api.resources import LabelSelector
from holdfast_kube.selectors import selects

LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("labels", "expressions", "taken"),
    [
        ({}, [], True),
        ({"app": "web"}, [], True),
        ({"app": "web", "tier": "back"}, [], False),
        ({"missing": ""}, [], False),
        ({}, [{"key": "app", "operator": "In", "values": ["db", "web"]}], True),
        ({}, [{"key": "app", "operator": "In", "values": ["db"]}], False),
        ({}, [{"key": "missing", "operator": "In", "values": ["db"]}], False),
        ({}, [{"key": "app", "operator": "NotIn", "values": ["web"]}], False),
        ({}, [{"key": "missing", "operator": "NotIn", "values": ["web"]}], True),
        ({}, [{"key": "app", "operator": "Exists"}], True),
        ({}, [{"key": "missing", "operator": "Exists"}], False),
        ({}, [{"key": "missing", "operator": "DoesNotExist"}], True),
        ({}, [{"key": "app", "operator": "DoesNotExist"}], False),
        ({"app": "web"}, [{"key": "tier", "operator": "In", "values": ["back"]}], False),
    ],
)
def test_labels_and_expressions_must_all_hold(labels, expressions, taken):
    assert selects(LabelSelector(match_labels=labels, match_expressions=expressions), LABELS) is taken


def test_an_operator_that_is_none_is_refused_with_its_field():
    with pytest.raises(ConfigurationError, match=r"^matchExpressions.operator: must be .* and is 'Like'$"):
        selects(LabelSelector(match_expressions=[{"key": "app", "operator": "Like"}]), LABELS)
