from __future__ import annotations

import msgspec
import pytest

from holdfast_api.cluster import NodeStatus
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_speaker.agent.node_statuses import LastTransitions, after, entry, entry_without_engine
from holdfast_speaker.agent.split_brain import SUSPICION_SECONDS, Rivals, SplitBrainWatch
from holdfast_testing.agent_fixtures import NODE, router_status

WEB = VirtualRouterConfiguration(name="shop/web", addresses=["10.0.0.9/24"], virtual_router_id=51)


def router(**fields):
    return router_status(WEB, **fields)


def transition(number=1, to=State.MASTER, silent=310):
    return Transition(
        virtual_ip="shop/web",
        from_state=State.BACKUP,
        to_state=to,
        reason=Reason.MASTER_SILENT,
        message="words",
        time=f"2026-01-01T00:00:0{number}.000Z",
        peer="10.0.0.2",
        silent_milliseconds=silent,
    )


def test_an_entry_says_what_the_router_says():
    failing = router(
        state=State.INITIALIZE,
        effective_priority=9,
        health=Health.FAILING,
        health_detail="probe p: refused",
        obstacles=[Obstacle.KERNEL_REFUSED],
        obstacle_detail="the kernel refused 10.0.0.9: Operation not permitted",
    )
    assert entry(NODE, failing, 310) == NodeStatus(
        node_name=NODE,
        state=State.INITIALIZE,
        since=failing.since,
        priority=9,
        health=Health.FAILING,
        health_message="probe p: refused",
        reason=Reason.STARTED,
        message="the kernel refused 10.0.0.9: Operation not permitted",
        obstacles=[Obstacle.KERNEL_REFUSED],
        interface="eth0",
    )


def test_an_entry_says_that_host_ports_are_exposed():
    assert entry(NODE, router(host_ports_exposed=True), 0).host_ports_exposed
    assert not entry_without_engine(NODE, router(host_ports_exposed=True), "").host_ports_exposed


def test_warnings_stand_behind_the_reason_in_an_order_of_their_own():
    told = entry(NODE, router(state=State.MASTER, warnings=["b", "a"]), 0)
    assert told.message == "started; warning: a; warning: b"


def test_what_keeps_a_router_out_is_told_alone():
    told = entry(NODE, router(obstacle_detail="10.0.0.9 is in use by x", warnings=["10.0.0.9 is in use by x"]), 0)
    assert told.message == "10.0.0.9 is in use by x"


def test_only_a_master_tells_of_a_silence():
    assert entry(NODE, router(state=State.MASTER), 310).silent_milliseconds == 310
    assert entry(NODE, router(state=State.BACKUP), 310).silent_milliseconds == 0


def test_every_entry_fits_the_schema():
    long = router(message="x" * 5000, health_detail="y" * 5000, interface="z" * 40, obstacles=list(Obstacle) * 4)
    told = msgspec.to_builtins(entry(NODE, long, 0))
    assert msgspec.convert(told, NodeStatus).message == "x" * 1024


def test_an_engine_that_is_away_holds_nothing():
    told = entry_without_engine(NODE, router(state=State.MASTER), "2026-01-01T00:00:00Z")
    assert (told.state, told.reason, told.health) == (State.INITIALIZE, Reason.STOPPED, Health.UNKNOWN)


def test_a_transition_changes_the_status_that_was_known():
    changed = after(router(), transition())
    assert (changed.state, changed.since, changed.reason) == (State.MASTER, transition().time, Reason.MASTER_SILENT)
    assert changed.priority == router().priority


def test_the_silence_is_that_of_the_transition_to_the_present_state():
    last_transitions = LastTransitions()
    assert last_transitions.take(transition(1))
    assert last_transitions.silent_ms(router(since=transition(1).time)) == 310
    assert last_transitions.peer(router(since=transition(1).time)) == "10.0.0.2"
    assert last_transitions.silent_ms(router(since=transition(2).time)) == 0
    assert last_transitions.peer(router(since=transition(2).time)) is None, "nobody has said yet"


def test_a_transition_that_is_known_is_no_news():
    last_transitions = LastTransitions()
    assert last_transitions.take(transition(2))
    assert not last_transitions.take(transition(2))
    assert not last_transitions.take(transition(1))
    assert last_transitions.take(transition(2, to=State.BACKUP))


def test_what_is_lacking_is_what_has_moved_since():
    last_transitions = LastTransitions()
    assert last_transitions.lacking([router(reason=None)]) == []
    assert last_transitions.lacking([router(since=transition(1).time)]) == ["shop/web"]
    last_transitions.take(transition(1))
    assert last_transitions.lacking([router(since=transition(1).time)]) == []
    last_transitions.keep_only([])
    assert last_transitions.last_time("shop/web") == ""


class Watch:
    def __init__(self):
        self.now = 0.0
        self.watch = SplitBrainWatch(lambda: self.now)

    def look(self, heard=0, state=State.MASTER, claims=(), is_told_otherwise=False):
        rivals = {"shop/web": Rivals(frozenset(claims), is_told_otherwise)} if claims else {}
        self.watch.look([router(state=state, counters={"lower-priority": heard})], rivals)
        self.now += SUSPICION_SECONDS / 2

    @property
    def suspected(self):
        return self.watch.suspected("shop/web")


@pytest.fixture
def seen():
    return Watch()


def test_rivals_that_keep_advertising_are_suspected(seen):
    for heard in (0, 5, 9):
        assert not seen.suspected
        seen.look(heard)
    assert seen.suspected


def test_looks_in_quick_succession_do_not_hide_a_rival(seen):
    for heard in (0, 5, 9):
        seen.look(heard)
        seen.now -= SUSPICION_SECONDS / 2
        seen.look(heard)
    assert seen.suspected


def test_a_rival_that_yields_is_none(seen):
    for heard in (0, 5, 5, 5):
        seen.look(heard)
    assert not seen.suspected


N2 = ("n2", "2026-01-01T00:00:00.000Z")
N2_LATER = ("n2", "2026-01-01T00:10:00.000Z")


def test_another_node_that_becomes_master_beside_this_one_is_suspected_when_that_lasts(seen):
    seen.look()
    seen.look(claims=[N2])
    assert not seen.suspected
    seen.look(claims=[N2])
    seen.look(claims=[N2])
    assert seen.suspected
    seen.look()
    assert not seen.suspected


def test_a_former_master_that_died_is_no_rival(seen):
    """Nor one whose agent is away: it said so before this node took over, and cannot say anything else."""
    seen.look(state=State.BACKUP, claims=[N2])
    for _ in range(10):
        seen.look(claims=[N2])
    assert not seen.suspected
    for _ in range(3):
        seen.look(claims=[N2_LATER])
    assert seen.suspected, "it has become Master anew"


@pytest.mark.parametrize("is_told_otherwise", [True, False])
def test_an_agent_that_begins_beside_a_master_asks_the_operators_word(seen, is_told_otherwise):
    for _ in range(4):
        seen.look(claims=[N2], is_told_otherwise=is_told_otherwise)
    assert seen.suspected is is_told_otherwise


def test_a_backup_suspects_nothing(seen):
    for heard in (0, 5, 9, 14):
        seen.look(heard, state=State.BACKUP, claims=[N2], is_told_otherwise=True)
    assert not seen.suspected
