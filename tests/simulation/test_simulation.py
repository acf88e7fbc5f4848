"""Elections under faults in virtual time: at least twenty hours of them, and the proof that each law can fail.

By hand for longer: make simulate HOURS=100. A failure names its seed: make simulate ARGS="--seed 4711".
"""

from __future__ import annotations

import msgspec
import pytest

from holdfast_speaker.vrrp.actions import NOTHING, Actions
from holdfast_speaker.vrrp.instants import Duration, Instant
from holdfast_speaker.vrrp.packet import Advertisement
from holdfast_speaker.vrrp.router import Checkpoint, VirtualRouter
from holdfast_speaker.vrrp.states import Master
from holdfast_testing.sim.options import draw
from holdfast_testing.sim.run import Run, simulate
from holdfast_testing.sim.world import Violation

CHUNKS = 18
SEEDS_IN_CHUNK = 10
HOURS_IN_ALL = 20


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_law_is_broken(chunk: int) -> None:
    report = simulate(range(chunk * SEEDS_IN_CHUNK, (chunk + 1) * SEEDS_IN_CHUNK))
    assert report.seeds == SEEDS_IN_CHUNK
    assert report.moves


def test_the_chunks_are_twenty_hours() -> None:
    """By the seeds alone: a bad time and, after it, at least half a minute of good."""
    bad_times = sum(draw(seed).bad_time for seed in range(CHUNKS * SEEDS_IN_CHUNK))
    assert bad_times / 3600e9 + CHUNKS * SEEDS_IN_CHUNK * 30 / 3600 >= HOURS_IN_ALL


def test_a_seed_is_played_the_same_again() -> None:
    first, second = Run(7), Run(7)
    assert first.play() == second.play()
    assert list(first.world.trace) == list(second.world.trace)


# ----- mutants: each law catches the bug that it is there for -----


class NeverYields(VirtualRouter):
    """A Master that does not mind others."""

    def receive(self, advertisement: Advertisement, now: Instant) -> Actions:
        return NOTHING if isinstance(self.state, Master) else super().receive(advertisement, now)


class KeepsAddresses(VirtualRouter):
    """Once it held the addresses, it does not let go."""

    held = False

    @property
    def holds_addresses(self) -> bool:
        self.held |= isinstance(self.state, Master)
        return self.held


class KnowsNoBands(VirtualRouter):
    """What keepalived's nopreempt is: a failing Master is as good as any."""

    def _may_challenge(self, advertisement: Advertisement, now: Instant) -> bool:
        return False


class Preempts(VirtualRouter):
    """nopreempt is not obeyed: a Backup that hears a lower priority does not wait."""

    def _may_challenge(self, advertisement: Advertisement, now: Instant) -> bool:
        return 0 < advertisement.priority < self.configuration.priority


class Impatient(VirtualRouter):
    """Two intervals are enough."""

    def _down_at(self, now: Instant, interval: Duration) -> Instant:
        return Instant(super()._down_at(now, interval) - interval - interval // 2)


class ForgetsItsRecovery(VirtualRouter):
    """A restarted engine knows no recovery hold."""

    def resume_as_backup(self, now: Instant, recovered_at: Instant | None = None) -> None:
        super().resume_as_backup(now)


class DoesNothingInTime(VirtualRouter):
    """Its timer is due for ever."""

    def poll(self, now: Instant) -> Actions:
        return NOTHING


@pytest.mark.parametrize(
    ("mutant", "told"),
    [
        (NeverYields, "both answer|these hold"),
        (KeepsAddresses, "its kernel holds: True"),
        (KnowsNoBands, "fails and holds|in a lower band"),
        (Preempts, "took over from|it moves though nothing happens"),
        (Impatient, "from a silent Master that was heard"),
        (ForgetsItsRecovery, "and took over from one that fails"),
        (DoesNothingInTime, "due again at once"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_planted_bug_breaks_its_law(
    mutant: type[VirtualRouter], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("HOLDFAST_ARTIFACTS", str(tmp_path))
    broken = []
    for seed in range(150):
        try:
            Run(seed, mutant).play()
        except Violation as violation:
            broken.append(str(violation))
            with pytest.raises(Violation, match=told):
                raise
            break
    assert broken, "no seed found it"
    assert f"seed {seed}, commit " in broken[0]


def test_what_is_kept_of_a_violation_can_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    monkeypatch.setenv("HOLDFAST_ARTIFACTS", str(folder))
    run = Run(3)
    run.play()
    kept = run.keep("nothing was wrong")
    assert "-- everything is mended" in (kept / "trace.txt").read_text(encoding="utf-8")
    routers = {host.name: host.router.checkpoint() for host in run.world.hosts.values() if host.router is not None}
    assert routers
    for name, known in routers.items():
        assert msgspec.json.decode((kept / f"{name}.json").read_bytes(), type=Checkpoint) == known
