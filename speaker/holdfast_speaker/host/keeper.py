"""The keeper: the engine's parent, which forks it anew when it dies.

It has everything imported and parses nothing from the network. An engine that dies, of a signal or its own fault, is
followed in milliseconds by one that goes on where the last snapshot says. One that keeps dying is released: its VIPs
are given up with priority 0, and it is tried again after a pause.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable

from holdfast_speaker.host import clock, realtime
from holdfast_speaker.host.estate import Estate
from holdfast_speaker.host.log import Log
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant

DEATHS_IN_WINDOW = 5
WINDOW = Duration(10 * SECOND)
"""An engine that dies this often in this time is released."""

_PAUSE_MINIMUM = SECOND
_PAUSE_MAXIMUM = Duration(30 * SECOND)


class Keeper:
    """Forks engines until one ends as it was told to."""

    def __init__(self, estate: Estate, run_engine: Callable[[Estate], int], log: Log) -> None:
        self._estate = estate
        self._run_engine = run_engine
        self._log = log
        self._deaths: deque[Instant] = deque(maxlen=DEATHS_IN_WINDOW)
        self._stopping = False
        self._pause = _PAUSE_MINIMUM
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)

    def run(self) -> int:
        """Until SIGTERM, or until an engine ends by itself as it should. The exit status."""
        realtime.schedule()
        self._estate.cpu_latency = realtime.keep_processors_awake()
        gc.collect()
        gc.freeze()
        while True:
            status = self._fork_and_wait()
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 and not self._estate.only_releases:
                return 0
            if self._stopping:
                return 0 if self._estate.only_releases else 1
            if not self._prepare_the_next(status):
                return 0

    def _fork_and_wait(self) -> int:
        signal.set_wakeup_fd(self._waker.fileno())
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        pid = os.fork()
        if pid == 0:
            os._exit(self._run_engine(self._estate))
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(self._estate.safekeeping, select.POLLIN)
        while True:
            if self._told_to_stop(poller, None):
                os.kill(pid, signal.SIGTERM)
            self._estate.safekeeping.collect()
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._estate.safekeeping.collect()
                return status

    def _told_to_stop(self, poller: select.poll, timeout_ms: int | None) -> bool:
        """Wait for something to happen; whether SIGTERM was among it."""
        poller.poll(timeout_ms)
        told = False
        try:
            told = signal.SIGTERM in self._wake.recv(4096)
        except BlockingIOError:
            return False
        self._stopping |= told
        return told

    def _prepare_the_next(self, status: int) -> bool:
        """Decide how the next engine begins. Returns False where there shall be none."""
        estate = self._estate
        if estate.only_releases:
            return self._begin_anew_after_a_pause()
        now = clock.monotonic()
        self._deaths.append(now)
        estate.restarts += 1
        estate.last_death = f"{clock.timestamp()}: {_told(status)}"
        estate.resumes = True
        if len(self._deaths) == DEATHS_IN_WINDOW and now - self._deaths[0] < WINDOW:
            often = f"{DEATHS_IN_WINDOW} times in {WINDOW // SECOND} s"
            self._log.error(f"the engine died {often} (the last {_told(status)}): its VIPs are given up")
            estate.only_releases = True
        else:
            self._log.error(f"the engine died ({_told(status)}) and goes on in a new process")
        return True

    def _begin_anew_after_a_pause(self) -> bool:
        self._log.info(f"the engine begins anew in {self._pause // SECOND} s")
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        end = clock.monotonic() + self._pause
        while (left := end - clock.monotonic()) > 0:
            if self._told_to_stop(poller, max(1, left // 1_000_000)):
                return False
        self._pause = min(Duration(2 * self._pause), _PAUSE_MAXIMUM)
        self._deaths.clear()
        self._estate.only_releases = False
        self._estate.resumes = False
        return True


def _told(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.WEXITSTATUS(status)}"
