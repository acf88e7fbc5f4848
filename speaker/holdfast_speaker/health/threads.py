"""Calls that may block for long, each in a thread of its own."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Outcome = TypeVar("Outcome")


async def in_own_thread(call: Callable[[], Outcome]) -> Outcome:
    """What the call returns or raises, without blocking the event loop.

    The loop's own executor has a few threads for everybody: calls that hang keep all others waiting, and the process
    from ending. Here nobody waits for another; who is cancelled leaves his call to itself, and a process that ends does
    not wait for it. How many there are at once is for the caller to bound.

    Raises OSError (EAGAIN) where the machine has no more threads.
    """
    outcome: Future[Outcome] = Future()

    def run() -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "no more threads can be started") from error
    return await asyncio.wrap_future(outcome)
