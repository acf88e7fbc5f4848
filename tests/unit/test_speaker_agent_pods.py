from __future__ import annotations

import msgspec
import pytest

from holdfast_api.reasons import Health
from holdfast_api.resources import LabelSelector, TrackedPods
from holdfast_speaker.agent.objects import Pod
from holdfast_speaker.agent.pods import RISE_SECONDS, PodStore, Steadied, Verdict, judge
from holdfast_testing.agent_fixtures import pod, terminating

HEALTHY = Verdict(Health.HEALTHY)
FAILING = Verdict(Health.FAILING, "why")


def decoded(item):
    return msgspec.convert(item, Pod)


def tracked(minimum=1):
    return TrackedPods(selector=LabelSelector(match_labels={"app": "web"}), min_ready=minimum)


@pytest.mark.parametrize(
    ("item", "is_ready", "state"),
    [
        (pod("p"), True, "is ready"),
        (pod("p", ready=False), False, "is not ready"),
        (terminating(pod("p")), False, "is terminating"),
        ({**pod("p"), "status": {"phase": "Pending"}}, False, "is Pending"),
        ({**pod("p"), "status": {**pod("p")["status"], "phase": "Succeeded"}}, False, "is Succeeded"),
        ({**pod("p"), "status": {"phase": "Running", "conditions": None}}, False, "is not ready"),
        ({**pod("p"), "status": {}}, False, "is not running"),
    ],
)
def test_a_pod_is_ready_when_it_runs_says_so_and_is_to_stay(item, is_ready, state):
    assert (decoded(item).is_ready, decoded(item).state) == (is_ready, state)


def test_enough_ready_pods_are_healthy():
    pods = [decoded(pod("web-1")), decoded(pod("web-2")), decoded(pod("web-3", ready=False))]
    assert judge(tracked(2), pods) == HEALTHY


def test_too_few_ready_pods_are_failing_and_the_others_are_named():
    pods = [decoded(pod(f"web-{number}", ready=False)) for number in range(5)] + [decoded(pod("db", app="db"))]
    assert judge(tracked(2), [*pods, decoded(pod("web-9"))]) == Verdict(
        Health.FAILING,
        "1 of at least 2 tracked pods on this node are ready: "
        "web-0 is not ready, web-1 is not ready, web-2 is not ready and 2 more",
    )


def test_a_selector_that_selects_nothing_is_failing_and_says_so():
    health, detail = judge(tracked(), [decoded(pod("db", app="db"))])
    assert health is Health.FAILING
    assert detail.endswith("the selector selects none")


def test_a_selector_that_is_none_leaves_the_health_unknown():
    bad = TrackedPods(selector=LabelSelector(match_expressions=[{"key": "app", "operator": "Like"}]))
    health, detail = judge(bad, [decoded(pod("web"))])
    assert health is Health.UNKNOWN
    assert detail.startswith("track.pods.selector: matchExpressions.operator")


def test_getting_worse_counts_at_once():
    assert Steadied(HEALTHY).after(FAILING, 0.0).shown == FAILING


def test_getting_better_counts_when_it_has_held():
    waiting = Steadied(FAILING).after(HEALTHY, 10.0)
    assert (waiting.shown, waiting.due) == (FAILING, 10.0 + RISE_SECONDS)
    assert waiting.after(HEALTHY, 10.0 + RISE_SECONDS / 2).shown == FAILING
    assert waiting.after(HEALTHY, 10.0 + RISE_SECONDS) == Steadied(HEALTHY)


def test_a_relapse_begins_the_wait_anew():
    waiting = Steadied(FAILING).after(HEALTHY, 10.0).after(FAILING, 10.5).after(HEALTHY, 10.9)
    assert waiting.due == 10.9 + RISE_SECONDS


def test_what_is_known_first_counts_at_once():
    unknown = Verdict(Health.UNKNOWN)
    assert Steadied(unknown).after(HEALTHY, 0.0).shown == HEALTHY


def test_pods_of_other_namespaces_do_not_count():
    changes = []
    store = PodStore(lambda: changes.append(1))
    assert not store.is_known
    store.replace({("shop", "web-1"): decoded(pod("web-1")), ("other", "web-1"): decoded(pod("web-1"))})
    store.put(("shop", "web-2"), decoded(pod("web-2")))
    store.remove(("shop", "web-1"))
    store.remove(("shop", "never-there"))
    assert store.is_known
    assert [one.metadata.name for one in store.of("shop")] == ["web-2"]
    assert len(changes) == 4
