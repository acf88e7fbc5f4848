"""The keeper: the engine's parent, which forks it anew when it dies or hangs.

It has everything imported and parses nothing from the network. An engine that dies, of a signal or its own fault, is
followed in milliseconds by one that goes on where the last snapshot says; one that hangs is killed first (watch.py).
One that keeps dying is released: its VIPs are given up with priority 0, and it is tried again after a pause. One that
cannot begin, because the machine refuses what it needs, is tried again and again.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from holdfast_speaker.host import clock, realtime, watch
from holdfast_speaker.host.inheritance import Inheritance
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.watch import START_PATIENCE, STOP_PATIENCE, Watch
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, ZERO, Duration, Instant

EXIT_REFUSED = 1
"""Of an engine that the machine refuses what it needs."""

EXIT_OWN_FAULT = 70  # sysexits.h, EX_SOFTWARE

DEATHS_IN_WINDOW = 5
WINDOW = Duration(10 * SECOND)
"""An engine that dies this often in this time is released."""

_PAUSE_MINIMUM = SECOND
_PAUSE_MAXIMUM = Duration(30 * SECOND)
_RETRY_MINIMUM = Duration(50 * MILLISECOND)
"""Before the first retry of what the machine refuses: addresses last a second without their engine (ADR 0005)."""

_DEATHS_WHILE_STOPPING = 3
_MOST_DOUBLINGS = 6


@dataclass(frozen=True, slots=True)
class _End:
    """How an engine ended."""

    status: int
    """As waitpid(2) gives it."""
    turned: bool
    """Its loop made a turn."""
    hung: Duration = ZERO
    """How long it had made none when it was killed for that."""

    @property
    def exit_status(self) -> int | None:
        """None: a signal ended it."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None

    def __str__(self) -> str:
        if self.hung:
            return f"hung: no turn of its loop for {self.hung // MILLISECOND} ms"
        if self.exit_status is not None:
            return f"exit status {self.exit_status}"
        number = os.WTERMSIG(self.status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:  # a real-time signal
            return f"killed by signal {number}"


class Keeper:
    """Forks engines until one ends as it was told to."""

    def __init__(self, inheritance: Inheritance, run_engine: Callable[[Inheritance], int], log: Log) -> None:
        self._inheritance = inheritance
        self._run_engine = run_engine
        self._log = log
        self._deaths: deque[Instant] = deque(maxlen=DEATHS_IN_WINDOW)
        self._deaths_while_stopping = 0
        self._hangs = 0
        self._stopping = False
        self._pause = _PAUSE_MINIMUM
        self._retry = _RETRY_MINIMUM
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._poller = select.poll()
        self._poller.register(self._wake, select.POLLIN)
        self._poller.register(inheritance.kept_sockets, select.POLLIN)

    def run(self) -> int:
        """Until SIGTERM, or until an engine ends by itself as it should.

        The exit status: 0, or 1 where no engine could do what there is to do at the end.
        """
        realtime.schedule()
        realtime.avoid_out_of_memory_killer()
        self._inheritance.cpu_latency = realtime.keep_processors_awake()
        self._catch_signals()
        gc.collect()
        gc.freeze()
        while True:
            end = self._live_through_one()
            if end.exit_status == 0 and not self._inheritance.only_releases:
                return 0
            status = self._prepare_the_next(end)
            if status is not None:
                return status

    def _catch_signals(self) -> None:
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        # A terminal sends them to the supervisor too, which tells us to stop.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    # ----- one engine's life -----

    def _live_through_one(self) -> _End:
        memory = self._inheritance.memory
        memory.patience = START_PATIENCE
        began, heartbeat = clock.now(), memory.heartbeat
        process = self._fork()
        if process is None:
            return _End(EXIT_REFUSED << 8, turned=False)
        status, hung = self._wait_for(process)
        if clock.now() - began > WINDOW:
            self._retry, self._pause = _RETRY_MINIMUM, _PAUSE_MINIMUM
            self._hangs = 1 if hung else 0
        return _End(status, turned=memory.heartbeat != heartbeat, hung=hung)

    def _fork(self) -> int | None:
        """The process of a new engine, as soon as the machine has one; None: SIGTERM came first."""
        pause = _RETRY_MINIMUM
        while True:
            # What the engine is told before it listens waits for it (driver.py).
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            try:
                process = os.fork()
            except (OSError, MemoryError) as error:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                self._log.error(f"no engine can be started, trying again: {error or 'out of memory'}")
                if not self._rest(pause):
                    return None
                pause = min(Duration(2 * pause), SECOND)
                continue
            if process == 0:
                self._be_the_engine()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            return process

    def _be_the_engine(self) -> None:
        """Never returns: whatever the engine raises ends its process, so that there is one keeper."""
        status = EXIT_OWN_FAULT
        try:
            status = self._run_engine(self._inheritance)
        finally:
            os._exit(status)

    def _wait_for(self, process: int) -> tuple[int, Duration]:
        """Follow an engine to its end, and end it where it hangs.

        Returns its wait status (waitpid(2)), and how long it had made no turn when it was killed for that, or zero.
        """
        memory, kept_sockets = self._inheritance.memory, self._inheritance.kept_sockets
        watched = Watch(watch.look_at(process, memory.heartbeat, clock.now()))
        hung = ZERO
        while True:
            step = watch.step(memory.patience)
            if self._sleep(step):
                os.kill(process, signal.SIGTERM)
                memory.patience = min(memory.patience, STOP_PATIENCE)
            kept_sockets.collect()
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                kept_sockets.collect()
                return status, hung
            without_turn = watched.look(watch.look_at(process, memory.heartbeat, clock.now()), step)
            # One that was only slow gets to the end of its turn with a longer patience.
            if not hung and without_turn > memory.patience << min(self._hangs, _MOST_DOUBLINGS):
                self._hangs += 1
                hung = without_turn
                os.kill(process, signal.SIGKILL)

    def _sleep(self, duration: Duration) -> bool:
        """Wait for something to happen, so long at most; whether SIGTERM was among it."""
        self._poller.poll(max(1, duration // MILLISECOND))
        try:
            told = signal.SIGTERM in self._wake.recv(4096)
        except BlockingIOError:
            return False
        self._stopping |= told
        return told

    def _rest(self, duration: Duration) -> bool:
        """Wait without an engine. Returns False where SIGTERM came."""
        end = clock.now() + duration
        while not self._stopping and (left := end - clock.now()) > 0:
            self._sleep(Duration(left))
        return not self._stopping

    # ----- what comes after -----

    def _prepare_the_next(self, end: _End) -> int | None:
        """Decide how the next engine begins; the exit status where there shall be none."""
        inheritance = self._inheritance
        if inheritance.only_releases:
            return self._begin_anew_after_a_pause()
        if end.exit_status == EXIT_REFUSED and not end.turned and not self._stopping:
            return self._try_again()
        now = clock.now()
        self._deaths.append(now)
        inheritance.restarts += 1
        inheritance.last_death = f"{clock.timestamp()}: {end}"
        inheritance.resumes = True
        if self._stopping:
            self._log.error(f"the engine died ({end}) when it was told to stop")
            if self._deaths_while_stopping == _DEATHS_WHILE_STOPPING:
                return 1
            self._deaths_while_stopping += 1
            inheritance.told_to_stop = True
        elif len(self._deaths) == DEATHS_IN_WINDOW and now - self._deaths[0] < WINDOW:
            often = f"{DEATHS_IN_WINDOW} times in {WINDOW // SECOND} s"
            self._log.error(f"the engine died {often} (the last {end}): its VIPs are given up")
            inheritance.only_releases = True
        else:
            self._log.error(f"the engine died ({end}) and goes on in a new process")
        return None

    def _try_again(self) -> int | None:
        """What the machine refused it may grant later; the engine has said what that was."""
        self._log.info(f"the engine is tried again in {self._retry // MILLISECOND} ms")
        retry, self._retry = self._retry, min(Duration(2 * self._retry), _PAUSE_MAXIMUM)
        return None if self._rest(retry) else 0

    def _begin_anew_after_a_pause(self) -> int | None:
        if self._stopping:
            return 0
        self._log.info(f"the engine begins anew in {self._pause // SECOND} s")
        pause, self._pause = self._pause, min(Duration(2 * self._pause), _PAUSE_MAXIMUM)
        self._deaths.clear()
        self._inheritance.only_releases = False
        self._inheritance.resumes = False
        return None if self._rest(pause) else 0
