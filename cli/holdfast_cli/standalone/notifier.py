"""Tells the commands of `notify` and the executables of a folder of each change of state, without anybody waiting.

For each VirtualIP one change after the other, in order, and for each change one command after the other. The last
state is always told in the end: of too many changes that wait the oldest are dropped, and what was not told to the end
is told again by whoever runs next.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from holdfast_api.messages import RouterStatus, Status, Transition
from holdfast_api.reasons import Reason, State
from holdfast_api.resources import Notification, NotifyState
from holdfast_cli.standalone.changes import Change, told_state, with_references
from holdfast_cli.standalone.executables import Unusable, executables_of, identity_of, require_usable
from holdfast_cli.standalone.log import Log
from holdfast_cli.standalone.notify_record import (
    NotifyRecord,
    read_record,
    remove_record,
    this_boot,
    write_record,
)
from holdfast_operator.planner.host.standalone import HostPlan
from holdfast_speaker.health.commands import Command
from holdfast_speaker.health.threads import in_own_thread

TIMEOUT_SECONDS = 10.0
"""For one command; then it is killed with all that it started."""

WAITING_MAX = 16
"""Changes of one VirtualIP that wait for the commands of an earlier one."""

_STATES = {NotifyState.MASTER: State.MASTER, NotifyState.BACKUP: State.BACKUP}
"""Every other is told of Initialize."""


@dataclass(slots=True)
class _Told:
    """A VirtualIP that commands are told of."""

    notifications: Sequence[Notification]
    addresses: Sequence[str]
    priority: int
    waiting: deque[Change] = field(default_factory=deque)
    state: NotifyState | None = None
    """Of the last change, told or waiting; None: it is not known yet."""
    begun: asyncio.Task[None] | None = None


class Notifier:
    """Of one `holdfast run`. To be used on an event loop, but for its making."""

    def __init__(self, directory: Path | None, state_directory: Path, node_name: str, log: Log) -> None:
        """`directory`: whose executables are told of every VirtualIP."""
        self._directory = directory
        self._state_directory = state_directory
        self._node_name = node_name
        self._log = log
        self._all: dict[str, _Told] = {}
        self._former: dict[str, NotifyState] | None = None
        """What was told before this process began; None: not read yet, as another one may be at work."""
        self._persisted: dict[str, NotifyState] = {}
        self._failing: dict[tuple[str, str], str] = {}
        """By VirtualIP and program, why it was not run or failed last."""
        self._dropped: Counter[str] = Counter()
        self._is_stopping = False
        self._writing = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to be told."""
        return self._directory is not None or any(told.notifications for told in self._all.values())

    def replace(self, plan: HostPlan) -> None:
        """Tell these from now on. What is removed is still told of its end."""
        for router in plan.configuration.virtual_routers:
            notifications = plan.notifications.get(router.name, ())
            addresses = [address.partition("/")[0] for address in router.addresses]
            known = self._all.get(router.name)
            if known is None:
                self._all[router.name] = _Told(notifications, addresses, router.priority)
            else:
                known.notifications, known.addresses, known.priority = notifications, addresses, router.priority
        self._forget_others({router.name for router in plan.configuration.virtual_routers})
        if self._looking is not None:
            self._looking.cancel()
        self._looking = asyncio.get_running_loop().create_task(self._look_at_all())

    def _forget_others(self, current: Collection[str]) -> None:
        for name, told in list(self._all.items()):
            if name not in current and told.state is NotifyState.FAULT:  # of which the engine tells no change
                self._take_in(name, _ended(name, told.state, Reason.REMOVED, "it was removed"))
            is_over = told.state in (None, NotifyState.STOP) and (told.begun is None or told.begun.done())
            if name not in current and is_over:
                del self._all[name]
                self._persisted.pop(name, None)
                (self._former or {}).pop(name, None)
                self._dropped.pop(name, None)
                self._failing = {key: why for key, why in self._failing.items() if key[0] != name}

    def begin(self) -> None:
        """The engine has begun, so that nobody else is at work in the state directory: read what was told last."""
        if self._former is not None:
            return
        record = read_record(self._state_directory)
        known = record.told if record.boot == this_boot() else {}
        self._former = {name: state for name, state in known.items() if name in self._all}
        if not self.is_wanted:
            with contextlib.suppress(OSError):
                remove_record(self._state_directory)

    def tell(self, transition: Transition) -> None:
        """A change that the engine has told of."""
        self._take_in(
            transition.virtual_ip,
            Change(
                virtual_ip=transition.virtual_ip,
                from_state=transition.from_state,
                to_state=transition.to_state,
                state=told_state(transition.to_state, transition.reason),
                reason=transition.reason,
                message=transition.message,
                time=transition.time,
                peer=transition.peer,
                peer_priority=transition.peer_priority,
            ),
        )

    def catch_up(self, status: Status, since: str) -> None:
        """An engine says how it is, and tells of every change from now on.

        What it held before `since` (UTC, RFC 3339) and nothing is known of goes on: it is no change.
        """
        former = self._former or {}
        for router in status.routers:
            told = self._all.get(router.virtual_ip)
            if told is None:
                continue
            if told.state is None:
                told.state = former.get(router.virtual_ip)
            now = told_state(router.state, router.reason)
            if told.state is None and router.state is not State.INITIALIZE and router.since < since:
                told.state = self._persisted[router.virtual_ip] = now
            elif router.state is not State.INITIALIZE or router.obstacles:
                self._take_in(router.virtual_ip, _seen(router, now, told.state))

    def stopped(self, *, cleanly: bool) -> None:
        """The engine has ended: what it held is held no more, unless it handed over to another."""
        if cleanly and any(told.state in _STATES for told in self._all.values()):
            return  # an engine that stops leaves nothing in these states, and one that hands over leaves all as it is
        self._is_stopping = True
        for name, told in self._all.items():
            if told.state not in (None, NotifyState.STOP):
                self._take_in(name, _ended(name, told.state, Reason.STOPPED, "the engine has ended"))

    async def close(self, within_seconds: float) -> None:
        """Tell what is left of a stop; a hand-over waits for nobody, and its successor tells what was not told."""
        running = [told.begun for told in self._all.values() if told.begun is not None and not told.begun.done()]
        if running and self._is_stopping:
            await asyncio.wait(running, timeout=within_seconds)
        tasks = [task for task in [*running, self._looking] if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._former is not None:
            with contextlib.suppress(OSError):
                self._write(self._record())

    def _take_in(self, name: str, change: Change) -> None:
        told = self._all.get(name)
        if told is None or change.state is told.state:
            return
        told.state = change.state
        if not told.notifications and self._directory is None:
            self._persisted[name] = change.state
            return
        if len(told.waiting) >= WAITING_MAX:
            dropped = told.waiting.popleft()
            self._dropped[name] += 1
            text = f"notify: {WAITING_MAX} changes wait for its commands; the oldest, to {dropped.state}, is not told"
            self._log.write("warning", text, virtualIP=name)
        told.waiting.append(change)
        if told.begun is None or told.begun.done():
            told.begun = asyncio.get_running_loop().create_task(self._work(name, told), name=f"notify {name}")

    async def _work(self, name: str, told: _Told) -> None:
        while told.waiting:
            change = told.waiting.popleft()
            variables = change.variables(self._node_name, told.addresses, told.priority)
            given = change.as_json(self._node_name, told.addresses, told.priority)
            for one in told.notifications:
                if not one.states or change.state in one.states:
                    words = with_references(one.command, variables)
                    await self._run(name, words, variables, given, one.user, one.group)
            for path in await self._of_the_directory():
                await self._run(name, [str(path)], variables, given)
            self._persisted[name] = change.state
            await self._keep_record()

    async def _of_the_directory(self) -> Sequence[Path]:
        directory = self._directory
        if directory is None:
            return ()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                found = await in_own_thread(lambda: executables_of(directory))
        except Unusable as why:
            self._judge("", str(directory), str(why))
        except (OSError, TimeoutError) as error:
            self._judge("", str(directory), _why(error, "it cannot be read"))
        else:
            self._judge("", str(directory), "")
            return found
        return ()

    async def _run(
        self,
        name: str,
        words: Sequence[str],
        variables: Mapping[str, str],
        given: bytes,
        user: str | None = None,
        group: str | None = None,
    ) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                identity = await in_own_thread(lambda: identity_of(user, group))
                await in_own_thread(lambda: require_usable(words[0], identity))
        except Unusable as why:
            self._judge(name, words[0], str(why))
            return
        except (OSError, TimeoutError) as error:
            self._judge(name, words[0], _why(error, "it cannot be looked at"))
            return
        result = await Command(words, lambda: variables, given, identity).run(TIMEOUT_SECONDS)
        self._judge(name, words[0], result.message)

    async def _look_at_all(self) -> None:
        """Say at once what could not be run when it is needed."""
        await self._of_the_directory()
        for name, told in list(self._all.items()):
            for one in told.notifications:
                program = one.command[0]
                try:
                    await in_own_thread(functools.partial(_require_runnable, one))
                except Unusable as why:
                    if self._failing.get((name, program)) != str(why):
                        self._judge(name, program, str(why))
                except OSError:  # no more threads; it is looked at again when it is run
                    return
                else:
                    self._judge(name, program, "")
        await self._keep_record()

    def _judge(self, name: str, program: str, why: str) -> None:
        if not why:
            self._failing.pop((name, program), None)
            return
        self._failing[name, program] = why
        facts = {"virtualIP": name} if name else {}
        self._log.write("warning", f"notify: {program}: {why}", **facts)

    def _record(self) -> NotifyRecord:
        warnings: dict[str, list[str]] = {}
        for (name, program), why in sorted(self._failing.items()):
            warnings.setdefault(name, []).append(f"notify: {program}: {why}")
        for name, count in sorted(self._dropped.items()):
            warnings.setdefault(name, []).append(
                f"notify: {count} changes were not told, as its commands took too long"
            )
        return NotifyRecord(boot=this_boot(), told={**(self._former or {}), **self._persisted}, warnings=warnings)

    async def _keep_record(self) -> None:
        if self._former is None:  # another one may be at work, whose record it is
            return
        with contextlib.suppress(OSError, TimeoutError):  # then the next one tells more than it must
            async with self._writing, asyncio.timeout(TIMEOUT_SECONDS):
                await in_own_thread(functools.partial(self._write, self._record()))

    def _write(self, record: NotifyRecord) -> None:
        if self.is_wanted:
            write_record(self._state_directory, record)
        else:
            remove_record(self._state_directory)


def _require_runnable(notification: Notification) -> None:
    require_usable(notification.command[0], identity_of(notification.user, notification.group))


def _seen(router: RouterStatus, now: NotifyState, before: NotifyState | None) -> Change:
    """A change that nobody was told of when it happened."""
    return Change(
        virtual_ip=router.virtual_ip,
        from_state=State.INITIALIZE if before is None else _STATES.get(before, State.INITIALIZE),
        to_state=router.state,
        state=now,
        reason=router.reason or "",
        message=router.message,
        time=router.since,
        peer=router.master,
        peer_priority=router.master_priority,
    )


def _ended(name: str, before: NotifyState | None, reason: Reason, message: str) -> Change:
    return Change(
        virtual_ip=name,
        from_state=State.INITIALIZE if before is None else _STATES.get(before, State.INITIALIZE),
        to_state=State.INITIALIZE,
        state=NotifyState.STOP,
        reason=reason,
        message=message,
        time=utc_now(),
    )


def _why(error: OSError | TimeoutError, what: str) -> str:
    return f"{what} within {TIMEOUT_SECONDS:g} s" if isinstance(error, TimeoutError) else f"{what}: {error}"


def utc_now() -> str:
    """As the engine writes times."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
