"""What a node's service proxy says at a Service's healthCheckNodePort, and what is thought of it. Pure, no clock.

kube-proxy (pkg/proxy/healthcheck/service_health.go) answers any GET with 200 where the node has ready endpoints of the
Service, and with 503 where it has none, or where kube-proxy could not bring its rules up to date for minutes; Cilium
(pkg/loadbalancer/healthserver) does the same. Both do so after their rules are written.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Health

SILENCE_SECONDS: Final = 10.0
"""How long no answer says nothing: a service proxy that is started anew leaves its rules in force meanwhile, and those
of all nodes may be started anew at the same time."""

REQUEST: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nUser-Agent: holdfast-probe\r\nAccept: */*\r\n\r\n"

_BYTES_MAX = 16384
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n", re.IGNORECASE)


class Said(enum.Enum):
    """What one look came to."""

    READY = enum.auto()
    """The node has ready endpoints."""
    NOT_READY = enum.auto()
    """It has none, or the service proxy does not trust its own rules."""
    NOTHING = enum.auto()
    """No answer, or none that a service proxy gives."""
    NOT_ASKED = enum.auto()
    """The look could not be made for want of something on this host."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one look came to, in words for people where the node is not ready."""

    said: Said
    words: str = ""
    is_first: bool = False
    """Whether it is the first on its connection: a service proxy that just started may not know its endpoints yet."""


class Reply(NamedTuple):
    """A whole HTTP answer."""

    answer: Answer
    is_kept: bool
    """Whether the connection can be asked again."""


def read_reply(received: bytes, *, is_first: bool) -> Reply | None:
    """What was received so far, judged; None: more is to come.

    An answer whose length is not told is judged by its head, and its connection given up.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return Reply(_strange("what it sent is no HTTP"), is_kept=False) if len(received) > _BYTES_MAX else None
    status_line = _STATUS_LINE.match(received)
    if status_line is None:
        return Reply(_strange("what it sent is no HTTP"), is_kept=False)
    body, length = received[end + 4 :], _LENGTH.search(received, 0, end + 4)
    expected = int(length[1]) if length else None
    if expected is not None and len(body) < expected <= _BYTES_MAX:
        return None
    is_kept = expected == len(body) and received.startswith(b"HTTP/1.1") and not _CLOSES.search(received, 0, end + 4)
    status = int(status_line[1])
    if status == 200:
        return Reply(Answer(Said.READY, is_first=is_first), is_kept)
    if status == 503:
        return Reply(Answer(Said.NOT_READY, _why_not(body), is_first), is_kept)
    return Reply(_strange(f"answered {status}, which is not a service proxy's 200 or 503"), is_kept=False)


@dataclass(frozen=True, slots=True)
class PortJudgement:
    """What is thought of the node at one port after the answers so far.

    A 503 counts at once, and the very first 200. A 503 that is the first on its connection, and the 200 of a node that
    was failing, count when they come twice. No answer says nothing for SILENCE_SECONDS.
    """

    health: Health = Health.UNKNOWN
    message: str = ""
    """Why it is failing or unknown."""
    is_in_doubt: bool = False
    """Whether the last answer speaks against `health`, and another of its kind would decide."""
    silent_since: float | None = None
    """When the looks without an answer began, in seconds of a clock that does not jump."""
    is_silent: bool = False
    """Whether it is failing for want of an answer. How each look fails after that is no news."""

    def after(self, answer: Answer, now: float) -> PortJudgement:
        """The judgement with one more answer."""
        match answer.said:
            case Said.READY:
                if self.health is Health.FAILING and not self.is_in_doubt:
                    return replace(self, is_in_doubt=True, silent_since=None)
                return PortJudgement(Health.HEALTHY)
            case Said.NOT_READY:
                if self.health is not Health.FAILING and answer.is_first and not self.is_in_doubt:
                    return replace(self, is_in_doubt=True, silent_since=None)
                return PortJudgement(Health.FAILING, answer.words)
            case Said.NOTHING:
                return self._after_silence(answer, now)
            case Said.NOT_ASKED:
                return replace(self, message=answer.words) if self.health is Health.UNKNOWN else self

    def _after_silence(self, answer: Answer, now: float) -> PortJudgement:
        if self.is_silent:
            return replace(self, is_in_doubt=False)
        since = now if self.silent_since is None else self.silent_since
        if now - since >= SILENCE_SECONDS:
            words = f"{answer.words}, for {SILENCE_SECONDS:g} s and more"
            return PortJudgement(Health.FAILING, words, silent_since=since, is_silent=True)
        message = answer.words if self.health is Health.UNKNOWN else self.message
        return PortJudgement(self.health, message, silent_since=since)


def overall(judgements: Sequence[tuple[int, PortJudgement]]) -> tuple[Health, str]:
    """A node's health and why, of all ports of a VIP: Failing if one is, else Unknown if one is, else Healthy."""
    for health in (Health.FAILING, Health.UNKNOWN):
        told = [
            f"healthCheckNodePort {port}: {judgement.message or 'no answer yet'}"
            for port, judgement in judgements
            if judgement.health is health
        ]
        if told:
            return health, "; ".join(told)
    return Health.HEALTHY, ""


def _strange(words: str) -> Answer:
    return Answer(Said.NOTHING, words)


_Name = Annotated[str, Meta(max_length=253, pattern=r"^[-a-z0-9.]*$")]  # it is shown to people, whoever sent it


class _ServiceName(Struct):
    namespace: _Name = ""
    name: _Name = ""


class _Body(Struct, rename=kubernetes_name):
    service: _ServiceName = msgspec.field(default_factory=_ServiceName)
    local_endpoints: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    service_proxy_healthy: bool = True


def _why_not(body: bytes) -> str:
    """What stands in the body of a 503; nobody has to send one."""
    try:
        told = msgspec.json.decode(body, type=_Body)
    except msgspec.DecodeError:
        return "answered 503"
    service = f" of {told.service.namespace}/{told.service.name}" if told.service.name else ""
    if told.local_endpoints:
        return f"answered 503: {told.local_endpoints} ready endpoints{service}, but the service proxy is not healthy"
    if told.local_endpoints == 0:
        return f"answered 503: no ready endpoint{service} on this node"
    return "answered 503"
