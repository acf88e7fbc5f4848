"""The operator's process: what runs beside what, and what its end means."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from random import Random, SystemRandom
from typing import Final

from holdfast_api import __version__
from holdfast_kube.api_server import APIFailure, APIServer, Patience
from holdfast_kube.back_off import BackOff, BackOffs
from holdfast_kube.certificate import Certificate
from holdfast_kube.scrape_access import ScrapeAccess
from holdfast_operator import health
from holdfast_operator.events import EventRecorder
from holdfast_operator.handlers import Login, Watches
from holdfast_operator.hazards import Held
from holdfast_operator.leader import DEFAULT_TIMING, Elector, LeaseName, Timing
from holdfast_operator.metrics import Metrics
from holdfast_operator.reader import Reader, check_discovery
from holdfast_operator.reconciler import DEFAULT_RHYTHM, Planner, Reconciler, Reconciliation, Rhythm
from holdfast_operator.service_writer import ServiceWriter
from holdfast_operator.settings import Settings
from holdfast_operator.side_watches import SideWatches
from holdfast_operator.standby import Standby
from holdfast_operator.surroundings import speaker_pods
from holdfast_operator.writer import NotLeader, Writer

PATIENCE: Final = Patience(connect=3, request=5, list=30)
"""No write is under way for longer than what lies between a lost Lease and the next leader's first write (5 s)."""

_STUCK_AFTER_SECONDS = 300.0
_ELECTOR_STUCK_AFTER_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Operator:
    """Made inside a running event loop; `run` until `stop`."""

    def __init__(
        self,
        settings: Settings,
        api: APIServer,
        login: Login,
        plan: Planner,
        *,
        timing: Timing = DEFAULT_TIMING,
        rhythm: Rhythm = DEFAULT_RHYTHM,
    ) -> None:
        self._api = api
        self._random: Random = SystemRandom()
        self._rhythm = rhythm
        self._stop = asyncio.Event()
        self._not_started = "nothing has been listed yet"
        self.metrics = Metrics()
        self._elector = Elector(
            api,
            LeaseName(settings.namespace, settings.lease_name),
            settings.identity,
            self._random,
            time.monotonic,
            timing,
        )
        self.metrics.is_leader.set_function(self._elector.is_leader)
        writer = Writer(api, self._elector.is_leader, self.metrics, self._back_offs())
        services = ServiceWriter(api, writer, self._back_offs())
        recorder = EventRecorder(api, writer, settings.identity, time.monotonic)
        speakers = speaker_pods(settings.namespace, settings.speaker_pods)
        self._reader = Reader(api, speakers, with_services=settings.services)
        self._reconciliation = Reconciliation(
            self._reader, plan, writer, services, recorder, self.metrics, settings.rules
        )
        self._reconciler = Reconciler(
            self._reconciliation.once,
            self._random,
            rhythm,
            self._reconciliation.look_again_seconds,
            lambda: self._reconciliation.leave_alone_seconds,
        )
        in_its_place = Writer(api, lambda: not self._elector.is_leader(), self.metrics, self._back_offs())
        self._standby = Standby(
            self._reconciliation.look,
            in_its_place,
            EventRecorder(api, in_its_place, settings.identity, time.monotonic),
            self._elector.is_leader,
            rhythm.stand_in,
        )
        self._watches = Watches(login, self._seen)
        self._side_watches = SideWatches(api, speakers, self._seen, with_services=settings.services)

    def _back_offs(self) -> BackOffs:
        return BackOffs(self._rhythm.first_retry, self._rhythm.last_retry, time.monotonic, self._random)

    def stop(self) -> None:
        """End in good order: the Lease is given back."""
        self._stop.set()

    async def run(self) -> None:
        """Until `stop`. Raises EnvironmentFailure where a watch has ended, and whatever is wrong in the program."""
        stopped = asyncio.create_task(self._stop.wait())
        started = asyncio.create_task(self._first_list())
        await asyncio.wait({stopped, started}, return_when=asyncio.FIRST_COMPLETED)
        tasks = [started]
        if started.done():
            started.result()
            tasks = [
                asyncio.create_task(self._elector.run(self._lead)),
                asyncio.create_task(self._watches.run()),
                asyncio.create_task(self._standby.run()),
                asyncio.create_task(self._side_watches.run()),
            ]
            await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, stopped):
            task.cancel()
        # The Lease goes first and at once; the watches take their time.
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    async def is_alive(self) -> str:
        """What a restart would mend; empty: nothing."""
        now = time.monotonic()
        if not await self._watches.answer():
            return "the watches' event loop does not answer"
        if not self._not_started and now - self._elector.attempted_at > _ELECTOR_STUCK_AFTER_SECONDS:
            return "the Lease has not been asked for in a minute"
        busy_since = self._reconciler.busy_since
        if busy_since is not None and now - busy_since > _STUCK_AFTER_SECONDS:
            return "a reconciliation has been under way for five minutes"
        return ""

    async def is_ready(self) -> str:
        """Why this replica cannot do its work, or could not if it led; empty: it can."""
        if self._not_started:
            return self._not_started
        return self._reconciliation.obstacle if self._elector.is_leader() else ""

    def _seen(self, resource: str) -> None:
        self.metrics.watch_events.labels(resource).inc()
        self._reconciler.mark()
        if resource == "virtualips":
            self._standby.mark()

    async def _first_list(self) -> None:
        """Wait until everything can be read: kopf ends where there is no definition of what it is to watch."""
        back_off = BackOff(self._rhythm.first_retry, self._rhythm.last_retry, self._random)
        while True:
            try:
                await self._reader.read()
                await check_discovery(self._api)
            except (Held, APIFailure) as failure:
                if isinstance(failure, Held):
                    self.metrics.hold(failure.cause)
                if str(failure) != self._not_started:
                    self._not_started = str(failure)
                    _log.warning("waiting: %s", failure)
                at_least = failure.retry_after_seconds if isinstance(failure, APIFailure) else 0.0
                await asyncio.sleep(back_off.failed(at_least))
            else:
                self.metrics.listed()
                self.metrics.hold(None)
                self._not_started = ""
                return

    async def _lead(self) -> None:
        try:
            await self._reconciler.run()
        except NotLeader:
            _log.warning("the Lease ran out during a reconciliation")
        finally:
            self.metrics.forget()


async def run(settings: Settings, login: Login, plan: Planner, certificate: Certificate | None = None) -> None:
    """Run the operator until SIGTERM or SIGINT. With a certificate, metrics are for who may read them.

    Raises ConfigurationError without credentials, EnvironmentFailure."""
    configuration = await login()
    user_agent = f"holdfast-operator/{__version__} ({settings.identity})"
    async with APIServer(configuration, user_agent, PATIENCE) as api:
        operator = Operator(settings, api, login, plan)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, operator.stop)
        access = ScrapeAccess(api, time.monotonic) if certificate is not None else None
        served = health.application(operator.is_alive, operator.is_ready, operator.metrics.registry, access)
        async with health.serving(served, settings.health_address, certificate) as address:
            _log.info("serving /healthz, /readyz and /metrics on %s:%d", address.host, address.port)
            await operator.run()
