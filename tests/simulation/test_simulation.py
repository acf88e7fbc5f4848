"""The whole engine under faults in virtual time: at least twenty hours of it, and the proof that each law can fail.

By hand for longer: make simulate HOURS=100. A failure names its seed: make simulate ARGS="--seed 4711".
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import msgspec
import pytest

from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_speaker.engine import replay
from holdfast_speaker.engine.addresses import RENEWAL_INTERVAL, HeldAddresses
from holdfast_speaker.engine.engine import Engine
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.listening import Listening
from holdfast_speaker.engine.ports import KernelAddress
from holdfast_speaker.engine.sending import Sending
from holdfast_speaker.engine.turn import Turn
from holdfast_speaker.vrrp.actions import NOTHING, Actions, SendAdvertisement
from holdfast_speaker.vrrp.instants import Duration, Instant
from holdfast_speaker.vrrp.packet import Advertisement
from holdfast_speaker.vrrp.router import Checkpoint, VirtualRouter
from holdfast_speaker.vrrp.states import Master
from holdfast_testing.sim import kernel as simulated_kernel
from holdfast_testing.sim.options import Fault, draw
from holdfast_testing.sim.packet_filter import PacketFilter
from holdfast_testing.sim.routes import SCOPE_GLOBAL
from holdfast_testing.sim.run import Run, simulate
from holdfast_testing.sim.world import Violation

CHUNKS = 20
SEEDS_IN_CHUNK = 10
HOURS_IN_ALL = 20
SEEDS_UNTIL_FOUND = 60


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_law_is_broken(chunk: int) -> None:
    report = simulate(range(chunk * SEEDS_IN_CHUNK, (chunk + 1) * SEEDS_IN_CHUNK))
    assert report.seeds == SEEDS_IN_CHUNK
    assert report.moves
    # The law of stickiness has something to say of nearly every takeover.
    assert report.judged >= 0.8 * (report.judged + report.excused)


def test_the_chunks_are_twenty_hours() -> None:
    """By the seeds alone: a bad time and, around it, at least a minute of good."""
    bad_times = sum(draw(seed).bad_time for seed in range(CHUNKS * SEEDS_IN_CHUNK))
    assert bad_times / 3600e9 + CHUNKS * SEEDS_IN_CHUNK * 60 / 3600 >= HOURS_IN_ALL


def test_a_seed_is_played_the_same_again() -> None:
    first, second = Run(draw(7)), Run(draw(7))
    assert first.play() == second.play()
    assert list(first.world.trace) == list(second.world.trace)


# ----- mutants: each law catches the bug that it is there for -----

Plant = Callable[[pytest.MonkeyPatch], None]


def never_yields(patch: pytest.MonkeyPatch) -> None:
    """A Master that does not mind others."""
    receive = VirtualRouter.receive

    def deaf(router: VirtualRouter, advertisement: Advertisement, now: Instant) -> Actions:
        return NOTHING if isinstance(router.state, Master) else receive(router, advertisement, now)

    patch.setattr(VirtualRouter, "receive", deaf)


def keeps_addresses(patch: pytest.MonkeyPatch) -> None:
    """What is given up is not taken off the kernel, and is renewed."""
    patch.setattr(HeldAddresses, "take", lambda *_: None)


def knows_no_bands(patch: pytest.MonkeyPatch) -> None:
    """What keepalived's nopreempt is: a failing Master is as good as any."""
    patch.setattr(VirtualRouter, "_may_challenge", lambda *_: False)


def preempts(patch: pytest.MonkeyPatch) -> None:
    """nopreempt is not obeyed: a Backup that hears a lower priority does not wait."""

    def may_challenge(router: VirtualRouter, advertisement: Advertisement, _now: Instant) -> bool:
        return 0 < advertisement.priority < router.configuration.priority

    patch.setattr(VirtualRouter, "_may_challenge", may_challenge)


def is_impatient(patch: pytest.MonkeyPatch) -> None:
    """Two intervals are enough."""
    down_at = VirtualRouter._down_at

    def sooner(router: VirtualRouter, now: Instant, interval: Duration) -> Instant:
        return Instant(down_at(router, now, interval) - interval - interval // 2)

    patch.setattr(VirtualRouter, "_down_at", sooner)


def forgets_its_recovery(patch: pytest.MonkeyPatch) -> None:
    """A restarted engine knows no recovery hold."""
    resume = VirtualRouter.resume_as_backup

    def forgetful(router: VirtualRouter, now: Instant, *_: object) -> None:
        resume(router, now)

    patch.setattr(VirtualRouter, "resume_as_backup", forgetful)


def does_nothing_in_time(patch: pytest.MonkeyPatch) -> None:
    """Its timer is due for ever."""
    patch.setattr(VirtualRouter, "poll", lambda *_: NOTHING)


def timers_before_ingress(patch: pytest.MonkeyPatch) -> None:
    """What has arrived is read when the timers have acted."""
    run = Turn.run

    def hasty(turn: Turn, *arguments: object, **named: object) -> None:
        turn._engine.poll(turn._clock.now())
        run(turn, *arguments, **named)  # type: ignore[arg-type]  # as they came

    patch.setattr(Turn, "run", hasty)


def never_puts_back(patch: pytest.MonkeyPatch) -> None:
    """An address that somebody took away, and that nobody renews, stays away."""

    def no_renewal(held: HeldAddresses, now: Instant) -> dict[KernelAddress, int]:
        if held._renew_at is not None and held._renew_at <= now:
            held._renew_at = Instant(now + RENEWAL_INTERVAL)
        return {}

    patch.setattr(HeldAddresses, "_renew", no_renewal)
    patch.setattr(HeldAddresses, "_put_back", lambda *_: frozenset())


def takes_what_is_the_hosts(patch: pytest.MonkeyPatch) -> None:
    """With a VIP that is released goes an address of the host's own."""
    take = HeldAddresses.take

    def greedy(held: HeldAddresses, addresses: Collection[KernelAddress], owner: str) -> None:
        take(held, addresses, owner)
        for address in addresses:
            others = [one for one in held.table.others(address.index) if len(one.address) == len(address.address)]
            held._remove([KernelAddress(one.index, one.address, one.prefix_length) for one in others[:1]])

    patch.setattr(HeldAddresses, "take", greedy)


def takes_before_it_gives(patch: pytest.MonkeyPatch) -> None:
    """An address that changes hands leaves the kernel in between."""
    patch.setattr(Engine, "_next_holder", lambda *_: None)
    patch.setattr(HeldAddresses, "change_hands", lambda *_: None)


def is_a_source(patch: pytest.MonkeyPatch) -> None:
    """A VIP of the scope of other addresses is one that the host's own traffic can come from."""
    patch.setattr(simulated_kernel, "SCOPE_HOST", SCOPE_GLOBAL)


def never_joins_again(patch: pytest.MonkeyPatch) -> None:
    """A socket that has lost its group goes on without it."""
    patch.setattr(Listening, "doubt", lambda *_: None)

    def no_poll(_listening: Listening, _instances: object, _now: Instant) -> bool:
        return False

    patch.setattr(Listening, "poll", no_poll)
    patch.setattr(Listening, "next_deadline", lambda _listening: None)


def does_not_see_that_nothing_leaves(patch: pytest.MonkeyPatch) -> None:
    """What could not be sent is taken for sent."""
    send = Sending.send

    def blind(sending: Sending, instance: Instance, action: SendAdvertisement, now: Instant) -> bool:
        send(sending, instance, action, now)
        return False

    patch.setattr(Sending, "send", blind)


def begins_anew_when_edited(patch: pytest.MonkeyPatch) -> None:
    """An edit makes it another virtual router."""

    def becomes_another(instance: Instance, configuration: VirtualRouterConfiguration) -> bool:
        return (instance.configuration.interface, instance.configuration.addresses) != (
            configuration.interface,
            configuration.addresses,
        )

    patch.setattr(Instance, "becomes_another_router", becomes_another)


def asserts_after_a_stall(patch: pytest.MonkeyPatch) -> None:
    """A Master that stood still goes on as if nothing had happened."""

    def goes_on(_router: VirtualRouter, state: Master, _now: Instant) -> Master:
        return state

    patch.setattr(VirtualRouter, "_go_on_after_a_stall", goes_on)


def announces_nothing(patch: pytest.MonkeyPatch) -> None:
    """Nobody is told where the addresses are."""
    patch.setattr(Sending, "announce", lambda *_: None)


def opens_before_it_gives(patch: pytest.MonkeyPatch) -> None:
    """What is to be closed is closed when the addresses are there already."""
    patch.setattr(Engine, "_close_host_ports", lambda *_: None)


def opens_at_the_end_of_the_process(patch: pytest.MonkeyPatch) -> None:
    """Who hands over opens what stays on the kernel."""
    hand_over = Engine.hand_over

    def careless(engine: Engine, now: Instant) -> None:
        hand_over(engine, now)
        engine.host_ports.end()

    patch.setattr(Engine, "hand_over", careless)


def never_looks_at_its_rules(patch: pytest.MonkeyPatch) -> None:
    """Who flushes the rules has opened every node for good."""
    patch.setattr(PacketFilter, "flush", _flush_for_good)


def _flush_for_good(packet_filter: PacketFilter) -> None:
    packet_filter.closed = None
    packet_filter._changed()


PLANTED: list[tuple[Plant, tuple[Fault, ...], str]] = [
    (never_yields, (Fault.CUT,), "both answer|these hold"),
    (keeps_addresses, (Fault.SWITCHOVER,), "holds what it should not|both answer"),
    (knows_no_bands, (Fault.HEALTH,), "fails and holds|in a lower band"),
    (preempts, (Fault.POWER_OFF,), "took over from|it moves though nothing happens"),
    (is_impatient, (Fault.POWER_OFF,), "took over from"),
    (forgets_its_recovery, (Fault.BACKEND, Fault.HEALTH, Fault.ENGINE_KILLED), "and took over from one that fails"),
    (does_nothing_in_time, (Fault.POWER_OFF,), "due again at once"),
    (timers_before_ingress, (Fault.FREEZE,), "took over from"),
    (never_puts_back, (Fault.POWER_OFF,), "has not what it should hold"),
    (takes_what_is_the_hosts, (Fault.SWITCHOVER,), "other addresses or routes of its own"),
    (takes_before_it_gives, (Fault.EDIT_ADDRESS,), "and put it back"),
    (is_a_source, (Fault.ADDRESS_GONE,), "would send to"),
    (never_joins_again, (Fault.SMALL_MTU, Fault.LINK_REMOVED), "is deaf in the family"),
    (does_not_see_that_nothing_leaves, (Fault.FIREWALL,), "is Master and dumb|both answer"),
    (begins_anew_when_edited, (Fault.EDIT_INTERFACE, Fault.EDIT_ADDRESS), "after an edit|and put it back"),
    (asserts_after_a_stall, (Fault.PAUSE,), "which had stood still"),
    (opens_before_it_gives, (Fault.POWER_OFF,), "are reached through"),
    (opens_at_the_end_of_the_process, (Fault.HAND_OVER,), "are reached through"),
    (never_looks_at_its_rules, (Fault.RULES_FLUSHED,), "are reached through"),
    (announces_nothing, (Fault.POWER_OFF, Fault.MAC_CHANGED), "a client does not find it"),
]
"""What is planted, the faults that bring it to light, and what the law says."""


def play_until_found(faults: tuple[Fault, ...]) -> None:
    for seed in range(SEEDS_UNTIL_FOUND):
        Run(replace(draw(seed), faults=faults)).play()


@pytest.mark.parametrize(("plant", "faults", "told"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED])
def test_a_planted_bug_breaks_its_law(
    plant: Plant, faults: tuple[Fault, ...], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("HOLDFAST_ARTIFACTS", str(tmp_path))
    monkeypatch.setattr(Run, "_played_again", lambda run: run)  # journals take as long again, and nobody reads them
    plant(monkeypatch)
    with pytest.raises(Violation, match=rf"seed \d+, commit \w+: .*({told})"):
        play_until_found(faults)


def test_what_is_kept_of_a_violation_can_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    monkeypatch.setenv("HOLDFAST_ARTIFACTS", str(folder))
    run = Run(draw(3), keeps_journals=True)
    run.play()
    kept = run.keep("nothing was wrong")
    assert "-- everything is mended" in (kept / "trace.txt").read_text(encoding="utf-8")
    for name, host in run.world.hosts.items():
        decoded = msgspec.json.decode((kept / f"{name}.json").read_bytes(), type=dict[str, Checkpoint])
        assert decoded == {key: one.router.checkpoint() for key, one in host.engine.instances.items()}
        played = list(replay.play((kept / f"{name}.journal").read_bytes().splitlines()))
        assert played
        assert all(one.recorded == one.replayed for one in played)


def test_what_broke_a_law_is_played_again_with_journals(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    monkeypatch.setenv("HOLDFAST_ARTIFACTS", str(folder))
    is_impatient(monkeypatch)
    with pytest.raises(Violation):
        play_until_found((Fault.POWER_OFF,))
    journals = list(folder.glob("*/*.journal"))
    assert journals
    for journal in journals:
        played = list(replay.play(journal.read_bytes().splitlines()))
        *whole, last = played  # the violation may have come in the middle of the last one
        assert all(one.recorded == one.replayed for one in whole)
        assert b"Transition" in last.replayed
