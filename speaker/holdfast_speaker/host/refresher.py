"""Renews the lifetime of the held addresses on a thread of its own.

Every netlink request that changes something waits for the kernel's one lock for network configuration (rtnl), inside
the system call, however the socket is set. A node that makes or removes many addresses or pods holds it for seconds,
and an engine that waits for it sends no advertisements. The loop hands the work over here and goes on; a loop that
does not run hands nothing over, so that its addresses expire as they should (ADR 0005, ADR 0010).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.host import realtime
from holdfast_speaker.host.netlink import RequestSocket


class Refresher:
    """One batch of requests at a time."""

    def __init__(self) -> None:
        self._requests = RequestSocket()
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._batch: Sequence[bytes] = ()
        self._results: list[int] | None = None
        self._failure: EnvironmentFailure | None = None
        threading.Thread(target=self._run, name="refresher", daemon=True).start()

    @property
    def is_busy(self) -> bool:
        """Whether the last batch is still under way."""
        return not self._idle.is_set()

    def begin(self, batch: Sequence[bytes]) -> None:
        """Hand a batch over. Only while it is not busy."""
        self._batch = batch
        self._idle.clear()
        self._wanted.set()

    def finish(self) -> list[int] | None:
        """Wait until it is idle; the errno of each request of a batch whose results nobody has asked for yet.

        Raises EnvironmentFailure where the batch could not be sent at all.
        """
        self._idle.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        results, self._results = self._results, None
        return results

    def _run(self) -> None:
        # A thread is scheduled as usual at first: SCHED_RESET_ON_FORK holds for threads, too.
        realtime.schedule()
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                self._results = self._requests.apply(self._batch)
            except EnvironmentFailure as failure:
                self._failure = failure
            self._idle.set()
