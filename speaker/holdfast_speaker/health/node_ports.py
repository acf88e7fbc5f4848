"""Looks at healthCheckNodePorts: one connection for each port, kept, whatever number of VIPs ask for it.

A node may have a thousand of them, so that a look costs two system calls: what was asked at one tick is read at the
next. There are never more than LOOKS_A_SECOND; fewer ports are looked at more often.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import logging
import os
import random
import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Final

from holdfast_api.reasons import Health
from holdfast_speaker.health.policy import OUT_OF_MEANS
from holdfast_speaker.health.reports import Report, Reports
from holdfast_speaker.health.service_proxy import REQUEST, Answer, PortJudgement, Said, overall, read_reply

LOOKS_A_SECOND: Final = 1000
PERIOD_MIN_SECONDS: Final = 0.25
DOUBT_SECONDS: Final = 0.2
"""From a look that leaves a doubt, or none that was answered yet, to the next one."""
TICK_SECONDS: Final = 0.025
TIMEOUT_SECONDS: Final = 1.0
"""For one look in total."""

_CATCH_UP: Final = 1.2
_LOOKS_A_TURN_MAX: Final = 100
_RECEIVE_BYTES = 8192

_log = logging.getLogger(__name__)


class NodePorts:
    """Reports every change of a VIP's health or of the reason for it. Needs a running event loop, and `run` in it.

    An edit is no failure: a VIP whose health is known keeps it while a port that was added has no answer yet.
    """

    def __init__(self, addresses: Sequence[str], report: Report) -> None:
        """`addresses`: the node's own, as its service proxy knows them (InternalIP), by preference; each is asked until
        one accepts. Raises ValueError for what is no address."""
        self._addresses = [str(ip_address(text)) for text in addresses]
        self._reports = Reports(report)
        self._clock = asyncio.get_running_loop().time
        self._changed = asyncio.Event()
        self._ports: dict[int, _Port] = {}
        self._judgements: dict[int, PortJudgement] = {}
        self._by_virtual_ip: dict[str, tuple[int, ...]] = {}
        self._users: dict[int, list[str]] = {}
        self._due: list[tuple[float, int, _Port]] = []
        self._asked: list[_Port] = []
        self._numbers = itertools.count()  # of equal times, the older entry first
        self._turned_at = self._clock()
        self._are_means_lacking = False

    def replace(self, ports: Mapping[str, Sequence[int]]) -> None:
        """Look at these from now on, by namespace/name of their VIP. Those that stay go on undisturbed."""
        self._by_virtual_ip = {name: tuple(of_one) for name, of_one in ports.items() if of_one}
        wanted = dict.fromkeys(port for of_one in self._by_virtual_ip.values() for port in of_one)
        for number in [number for number in self._ports if number not in wanted]:
            self._ports.pop(number).close()
            del self._judgements[number]
        self._due = [entry for entry in self._due if not entry[2].is_closed]
        heapq.heapify(self._due)
        self._asked = [port for port in self._asked if not port.is_closed]
        now = self._clock()
        new = [number for number in wanted if number not in self._ports]
        for index, number in enumerate(new):
            self._ports[number] = _Port(number, self._addresses)
            self._judgements[number] = PortJudgement()
            self._look_at(now + index / LOOKS_A_SECOND, self._ports[number])
        self._users = _users(self._by_virtual_ip)
        self._reports.keep_only(self._by_virtual_ip)
        for name in self._by_virtual_ip:
            self._publish(name)
        self._changed.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            self._turn(self._clock())
            await self._until_next()

    def close(self) -> None:
        """Give all connections up."""
        self.replace({})

    @property
    def _period(self) -> float:
        return max(PERIOD_MIN_SECONDS, len(self._ports) / LOOKS_A_SECOND)

    def _turn(self, now: float) -> None:
        asked, self._asked = self._asked, []
        for port in asked:
            self._take(port, port.go_on(now), now)
        passed, self._turned_at = now - self._turned_at, now
        # A machine that is busy turns late, and all that is due then is not asked at once.
        for _ in range(min(1 + int(passed * LOOKS_A_SECOND * _CATCH_UP), _LOOKS_A_TURN_MAX)):
            if not self._due or self._due[0][0] > now:
                return
            port = heapq.heappop(self._due)[2]
            self._take(port, port.begin(now), now)

    def _take(self, port: _Port, answer: Answer | None, now: float) -> None:
        if answer is None:
            self._asked.append(port)
            return
        self._mind_means(answer)
        before = self._judgements[port.number]
        after = self._judgements[port.number] = before.after(answer, now)
        is_in_doubt = after.is_in_doubt or after.health is Health.UNKNOWN
        period = DOUBT_SECONDS if is_in_doubt else self._period
        self._look_at(now + period * random.uniform(0.9, 1.1), port)  # noqa: S311  # no secret: spreads load
        if (after.health, after.message) != (before.health, before.message):
            for name in self._users[port.number]:
                self._publish(name)

    def _look_at(self, when: float, port: _Port) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), port))

    async def _until_next(self) -> None:
        now = self._clock()
        if self._asked:
            wait = TICK_SECONDS
        elif self._due:
            wait = max(TICK_SECONDS, self._due[0][0] - now)
        else:
            wait = None
        try:
            async with asyncio.timeout(wait):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    def _publish(self, name: str) -> None:
        self._reports.tell(name, overall([(port, self._judgements[port]) for port in self._by_virtual_ip[name]]))

    def _mind_means(self, answer: Answer) -> None:
        if answer.said is Said.NOT_ASKED and not self._are_means_lacking:
            _log.warning("healthCheckNodePorts cannot be asked, what they said last stands: %s", answer.words)
        self._are_means_lacking = answer.said is Said.NOT_ASKED


class _Port:
    """One port: its connection, and the look that is under way."""

    def __init__(self, number: int, addresses: Sequence[str]) -> None:
        self.number = number
        self.is_closed = False
        self._addresses = addresses
        self._connection: socket.socket | None = None
        self._place = 0
        """The address that it leads to, or will."""
        self._untried = 0
        self._failures: list[str] = []
        """What came of the addresses that were tried in this look."""
        self._is_sent = False
        self._is_first = True
        self._received = b""
        self._deadline = 0.0

    def close(self) -> None:
        """No more looks."""
        self.is_closed = True
        self._hang_up()

    def begin(self, now: float) -> Answer | None:
        """Ask; None: the answer is to come."""
        self._deadline = now + TIMEOUT_SECONDS
        self._untried = len(self._addresses)
        self._failures, self._received, self._is_sent = [], b"", False
        return self._connect() if self._connection is None else self._send(self._connection)

    def go_on(self, now: float) -> Answer | None:
        """Read what came; None: not all of it yet."""
        if self._connection is None:
            raise AssertionError(f"healthCheckNodePort {self.number} was not asked")
        answer = self._read(self._connection) if self._is_sent else self._send(self._connection)
        if answer is None and now >= self._deadline:
            self._hang_up()
            self._pass_over(f"silent for {TIMEOUT_SECONDS:g} s")
            return self._no_answer()
        return answer

    def _connect(self) -> Answer | None:
        """Ask on a new connection to the first address that takes one."""
        while self._untried:
            address = self._addresses[self._place]
            try:
                self._connection = _connection(address, self.number)
            except OSError as error:
                if error.errno in OUT_OF_MEANS:
                    return Answer(Said.NOT_ASKED, _reason(error))
                self._pass_over(_reason(error))
            else:
                self._received, self._is_sent, self._is_first = b"", False, True
                return self._send(self._connection)
        return self._no_answer()

    def _send(self, connection: socket.socket) -> Answer | None:
        try:
            connection.send(REQUEST)
        except BlockingIOError:  # not connected yet
            return None
        except OSError as error:
            return self._lost(_reason(error))
        self._is_sent = True
        return None

    def _read(self, connection: socket.socket) -> Answer | None:
        try:
            received = connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._lost(_reason(error))
        if not received:
            return self._lost("closed without an answer")
        self._received += received
        reply = read_reply(self._received, is_first=self._is_first)
        if reply is None:
            return None
        self._is_first = False
        if not reply.is_kept:
            self._hang_up()
        return reply.answer

    def _lost(self, reason: str) -> Answer | None:
        """A connection that was kept may have ended since it was asked last: that is no answer."""
        was_kept = not self._is_first and not self._received
        self._hang_up()
        if not was_kept:
            self._pass_over(reason)
        return self._connect()

    def _no_answer(self) -> Answer:
        return Answer(Said.NOTHING, f"no answer ({', '.join(sorted(self._failures))})")

    def _pass_over(self, reason: str) -> None:
        self._failures.append(f"{self._addresses[self._place]}: {reason}")
        self._untried -= 1
        self._place = (self._place + 1) % len(self._addresses)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connection(address: str, port: int) -> socket.socket:
    """One that is made, or in the making. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    error = connection.connect_ex((address, port))
    if error in (0, errno.EINPROGRESS):
        return connection
    connection.close()
    raise OSError(error, os.strerror(error))


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _users(by_virtual_ip: Mapping[str, Sequence[int]]) -> dict[int, list[str]]:
    users: dict[int, list[str]] = {}
    for name, ports in by_virtual_ip.items():
        for port in ports:
            users.setdefault(port, []).append(name)
    return users
