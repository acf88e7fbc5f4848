"""All probes of this host: one task each on a fixed schedule, and this node's health for each VIP out of them."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence

from holdfast_api.reasons import Health
from holdfast_api.resources import Probe
from holdfast_speaker.health.connections import Names
from holdfast_speaker.health.policy import ProbeJudgement, Result, next_start, overall
from holdfast_speaker.health.probes import Prober
from holdfast_speaker.health.reports import Report, Reports

_Place = tuple[str, str]
"""The VIP and the name of its probe."""

_log = logging.getLogger(__name__)


class HealthMonitor:
    """Runs probes and reports every change of a VIP's health or of the reason for it. Needs a running event loop.

    An edit of the configuration is no failure: a probe that was changed keeps its judgement until results speak
    against it, and a VIP whose health is known keeps it while a probe that was added has no result yet.
    """

    def __init__(
        self,
        probes: Mapping[str, Sequence[Probe]],
        report: Report,
        permits: Callable[[str, str], bool] = lambda _virtual_ip, _address: True,
        environment: Callable[[str], Mapping[str, str]] = lambda _virtual_ip: {},
    ) -> None:
        """`permits`: whether a probe of a VIP (namespace/name) may connect to an address. `environment`: the variables
        that a command of a VIP has besides this process's own, asked for before each run."""
        self._reports = Reports(report)
        self._permits = permits
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._probes: dict[_Place, Probe] = {}
        self._judgements: dict[str, dict[str, ProbeJudgement]] = {}
        self._tasks: dict[_Place, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._names = Names()
        self._unrun: set[_Place] = set()
        self.replace(probes)

    def replace(self, probes: Mapping[str, Sequence[Probe]]) -> None:
        """Run these from now on. Equal ones go on undisturbed; a removed one's command is killed."""
        wanted = {(key, probe.name): probe for key, of_one in probes.items() for probe in of_one}
        for place in [place for place in self._tasks if self._probes[place] != wanted.get(place)]:
            self._stop(place)
        before, self._judgements = self._judgements, {}
        for (key, name), probe in wanted.items():
            judgement = before.get(key, {}).get(name, ProbeJudgement(name))
            if (key, name) not in self._tasks:
                judgement = judgement.under(probe)
            self._judgements.setdefault(key, {})[name] = judgement
        self._probes = wanted
        self._unrun &= wanted.keys()
        for place in wanted:
            if place not in self._tasks:
                self._start(place)
        self._reports.keep_only(self._judgements)
        for key in self._judgements:
            self._publish(key)

    def current(self) -> dict[str, tuple[Health, str]]:
        """The health of every VIP that has probes, as last reported."""
        return self._reports.current()

    async def watch(self) -> None:
        """Never returns. Raises what a probe's task died of: an error in the program, which nobody shall survive."""
        await asyncio.shield(self._broken)

    async def close(self) -> None:
        """Stop all probes, and wait until their commands are killed."""
        for place in list(self._tasks):
            self._stop(place)
        if self._ending:
            await asyncio.wait(self._ending)

    def _start(self, place: _Place) -> None:
        key, name = place
        task = self._loop.create_task(self._run(place, self._probes[place]), name=f"probe {name} of {key}")
        task.add_done_callback(self._ended)
        self._tasks[place] = task

    def _stop(self, place: _Place) -> None:
        task = self._tasks.pop(place)
        task.cancel()
        self._ending.add(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.critical("%s died, its health is not watched any more", task.get_name(), exc_info=error)
            if not self._broken.done():
                self._broken.set_exception(error)

    async def _run(self, place: _Place, probe: Probe) -> None:
        prober = Prober(
            probe,
            self._names,
            functools.partial(self._permits, place[0]),
            functools.partial(self._environment, place[0]),
        )
        period = probe.period_ms / 1000
        due = self._loop.time()
        while True:
            self._take_in(place, await prober.run())
            due = next_start(due, self._loop.time(), period)
            await asyncio.sleep(due - self._loop.time())

    def _take_in(self, place: _Place, result: Result) -> None:
        key, name = place
        if result.is_conclusive:
            self._unrun.discard(place)
        elif place not in self._unrun:
            self._unrun.add(place)
            _log.warning("probe %s of %s cannot be run, what it found last stands: %s", name, key, result.message)
        self._judgements[key][name] = self._judgements[key][name].after(result)
        self._publish(key)

    def _publish(self, key: str) -> None:
        self._reports.tell(key, overall(tuple(self._judgements[key].values())))
