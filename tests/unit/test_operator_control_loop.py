"""Edits of who takes part, on planner, agents and engines at once: nothing is lost, and nobody holds beside another.

A node that takes over has the addresses before the former holder has heard its first advertisement. That is the only
time in which two have them: 0.1 ms here, which is how long a packet travels.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from holdfast_operator.planner.cluster import membership, routers
from holdfast_testing import control_loop
from holdfast_testing.control_loop import ControlLoop, Verdict

OVERLAP_MILLISECONDS = 1.0
SEEDS = 2
STORIES = 6
NAMES = ("n1", "n2", "n3", "n4")


def settled(seed: int, interval: int, *, nopreempt: bool = True) -> ControlLoop:
    """Every node has held the VIP or heard another one that did."""
    loop = ControlLoop(*NAMES, random=Random(seed), interval_milliseconds=interval, nopreempt=nopreempt)
    loop.run(15)
    for _ in range(2):
        holder = loop.holder
        loop.label(holder, on=False)
        loop.run(8)
        loop.label(holder, on=True)
        loop.run(4)
    return loop


def is_clean(verdict: Verdict) -> bool:
    return not verdict.lost and all(span <= OVERLAP_MILLISECONDS for span in verdict.double)


def label_is_taken_off_and_put_on(loop: ControlLoop) -> None:
    holder = loop.holder
    loop.label(holder, on=False)
    loop.run(4 * loop.random.random())
    loop.label(holder, on=True)
    loop.run(10)


def selector_is_edited(loop: ControlLoop) -> None:
    others = [name for name in NAMES if name != loop.holder]
    loop.edit(nodes={"names": others[:2]})
    loop.run(10)
    assert loop.holder in others[:2]
    loop.edit(nodes={})
    loop.run(5)


def everybody_is_replaced(loop: ControlLoop) -> None:
    loop.edit(nodes={"names": ["n1", "n2"]})
    loop.run(10)
    loop.edit(nodes={"names": ["n3", "n4"]})
    loop.run(10)
    assert loop.holder in ("n3", "n4")


def node_is_deleted_and_comes_back(loop: ControlLoop) -> None:
    holder = loop.holder
    loop.delete_node(holder, pod_goes_after=1 + 5 * loop.random.random())
    loop.run(80)
    assert holder not in loop.world.speakers
    loop.bring_back(holder)
    loop.run(10)
    assert holder in loop.world.speakers


def is_as_before(loop: ControlLoop, holder: str) -> None:
    loop.agents[holder].is_away = True  # the others speak first
    loop.run(6)
    loop.agents[holder].is_away = False
    loop.run(16)
    assert loop.holder == holder
    assert len(loop.world.speakers) == len(NAMES)
    assert loop.planned == set(NAMES)


def speakers_definition_is_made_anew(loop: ControlLoop) -> None:
    loop.make_definition_of_speakers_anew()
    is_as_before(loop, loop.holder)


def both_definitions_are_made_anew(loop: ControlLoop) -> None:
    loop.make_definitions_anew(applied_after=(0, 200))
    is_as_before(loop, loop.holder)


def both_definitions_are_made_anew_and_the_virtual_ip_is_applied_later(loop: ControlLoop) -> None:
    loop.make_definitions_anew(applied_after=(500, 12000))
    is_as_before(loop, loop.holder)


def holder_is_renumbered(loop: ControlLoop) -> None:
    loop.renumber(loop.holder, "10.0.0.77")
    loop.run(10)


def backup_is_renumbered(loop: ControlLoop) -> None:
    before = loop.holder
    loop.renumber(next(name for name in NAMES if name != before), "10.0.0.77")
    loop.run(10)
    assert loop.holder == before


def subnet_goes_and_comes(loop: ControlLoop) -> None:
    loop.renumber(loop.holder, "192.168.7.1")
    loop.run(10)


def newcomer_preempts(loop: ControlLoop) -> None:
    loop.label("n4", on=False)
    loop.edit(nopreempt=False, nodes=loop.spec["nodes"] | {"priorities": [{"nodeName": "n4", "priority": 200}]})
    loop.run(8)
    slow = loop.agents[loop.holder]
    slow.is_away = True
    loop.label("n4", on=True)
    loop.run(4)
    slow.is_away = False
    loop.run(8)
    assert loop.holder == "n4"


SCENES: list[Callable[[ControlLoop], None]] = [
    label_is_taken_off_and_put_on,
    selector_is_edited,
    everybody_is_replaced,
    node_is_deleted_and_comes_back,
    speakers_definition_is_made_anew,
    both_definitions_are_made_anew,
    both_definitions_are_made_anew_and_the_virtual_ip_is_applied_later,
    holder_is_renumbered,
    backup_is_renumbered,
    subnet_goes_and_comes,
    newcomer_preempts,
]


@pytest.mark.parametrize("interval", [100, 1000])
@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_lost_and_nobody_holds_beside_another(scene: Callable[[ControlLoop], None], interval: int) -> None:
    for seed in range(SEEDS):
        loop = settled(seed, interval)
        since = loop.lan.now
        scene(loop)
        verdict = loop.verdict(since)
        assert is_clean(verdict), f"seed {seed}: {verdict}"


def story(loop: ControlLoop) -> None:
    """Somebody who cannot make up their mind; one node that is labelled and there is left at any time."""
    on, there = set(NAMES), set(NAMES)
    numbers = iter(range(60, 90))
    for _ in range(12):
        node = loop.random.choice(NAMES)
        match loop.random.randrange(6):
            case 0 | 1 if len((on & there) - {node}) > 1:
                on.discard(node)
                loop.label(node, on=False)
            case 2 if node in there:
                on.add(node)
                loop.label(node, on=True)
            case 3 if len(there) == len(NAMES) and len((on & there) - {node}) > 1:
                there.discard(node)
                loop.delete_node(node, pod_goes_after=1 + 5 * loop.random.random())
            case 4 if node not in there:
                there.add(node)
                loop.bring_back(node)
                loop.label(node, on=node in on)
            case 5 if node in there:
                loop.renumber(node, f"10.0.0.{next(numbers)}")
        loop.run(6 * loop.random.random())
    loop.run(20)
    assert loop.holder in on & there


@pytest.mark.parametrize("nopreempt", [True, False])
def test_whatever_is_done_in_whatever_order(nopreempt: bool) -> None:
    for seed in range(STORIES):
        loop = ControlLoop(*NAMES, random=Random(seed), nopreempt=nopreempt)
        loop.run(15)
        since = loop.lan.now
        story(loop)
        verdict = loop.verdict(since)
        assert is_clean(verdict), f"seed {seed}: {verdict}"


# ----- that these tests can see what they are there for -----


def forgets_at_once(patch: pytest.MonkeyPatch) -> None:
    """A node that is deselected loses its configuration and its addresses in one plan."""
    patch.setattr(membership, "leaving", lambda *_, **__: None)


def knows_no_silent_nodes(patch: pytest.MonkeyPatch) -> None:
    """Who has not said anything yet is nobody."""
    patch.setattr(membership, "_on_trust", lambda _virtual_ip, node, _networks: membership.Member(node, is_known=False))
    patch.setattr(membership, "_is_missed", lambda *_: False)


def lets_newcomers_in_at_once(patch: pytest.MonkeyPatch) -> None:
    """A node that comes may take over before the others know it."""
    patch.setattr(routers, "_unknown_to_others", lambda *_: set())


def forgets_what_engines_run(patch: pytest.MonkeyPatch) -> None:
    """What went with its definition was deleted."""
    patch.setattr(control_loop, "lost_on_nodes", lambda *_: {})


PLANTED: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[ControlLoop], None]]] = [
    (forgets_at_once, selector_is_edited),
    (knows_no_silent_nodes, speakers_definition_is_made_anew),
    (lets_newcomers_in_at_once, newcomer_preempts),
    (forgets_what_engines_run, both_definitions_are_made_anew_and_the_virtual_ip_is_applied_later),
]


@pytest.mark.parametrize(("plant", "scene"), PLANTED)
def test_a_planted_fault_is_seen(
    plant: Callable[[pytest.MonkeyPatch], None],
    scene: Callable[[ControlLoop], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    for seed in range(10):
        loop = settled(seed, 100)
        since = loop.lan.now
        try:
            scene(loop)
        except AssertionError:
            return
        if not is_clean(loop.verdict(since)):
            return
    pytest.fail("nothing was seen")
