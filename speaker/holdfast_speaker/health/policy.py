"""From single results of probes to this node's health for a VIP. Pure: no clock, no I/O."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace

from holdfast_api.reasons import Health
from holdfast_api.resources import Probe


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a probe came to."""

    ok: bool
    message: str = ""
    """Why it failed, for people; empty when it did not."""
    is_conclusive: bool = True
    """False: the run could not be made for want of something on this host; it says nothing of the service."""


OUT_OF_MEANS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})
"""Descriptors, memory, processes or threads are used up (open(2), socket(2), fork(2)). It says nothing of a
service."""


def failure(message: str, error: OSError) -> Result:
    """The result of a run that ended in this error."""
    return Result(False, message, is_conclusive=error.errno not in OUT_OF_MEANS)


@dataclass(frozen=True, slots=True)
class ProbeJudgement:
    """What is thought of one probe after the results so far.

    The first result counts at once. After that it takes failure_threshold failures in a row to be thought failing, and
    success_threshold successes in a row to be thought healthy again.
    """

    name: str
    failure_threshold: int = 3
    success_threshold: int = 1
    health: Health = Health.UNKNOWN
    contrary: int = 0
    """How many of the last results in a row speak against `health`."""
    message: str = ""
    """Of the last failure, or why there is no result."""

    def after(self, result: Result) -> ProbeJudgement:
        """The judgement with one more result; one that says nothing leaves what is thought of the service."""
        if not result.is_conclusive:
            return replace(self, message=result.message) if self.health is Health.UNKNOWN else self
        message = self.message if result.ok else result.message
        seen = Health.HEALTHY if result.ok else Health.FAILING
        if seen is self.health:
            return replace(self, contrary=0, message=message)
        contrary = self.contrary + 1
        threshold = self.success_threshold if result.ok else self.failure_threshold
        if self.health is Health.UNKNOWN or contrary >= threshold:
            return replace(self, health=seen, contrary=0, message=message)
        return replace(self, contrary=contrary, message=message)

    def under(self, probe: Probe) -> ProbeJudgement:
        """The judgement of a probe that somebody has edited: an edit is no result, so the health stays."""
        return replace(
            self,
            name=probe.name,
            failure_threshold=probe.failure_threshold,
            success_threshold=probe.success_threshold,
            contrary=0,
        )


def overall(judgements: Sequence[ProbeJudgement]) -> tuple[Health, str]:
    """A node's health and why: Failing if one probe is, else Unknown as long as one has no result yet, else Healthy."""
    failing = [judgement for judgement in judgements if judgement.health is Health.FAILING]
    if failing:
        return Health.FAILING, "; ".join(f"probe {judgement.name}: {judgement.message}" for judgement in failing)
    unknown = [judgement for judgement in judgements if judgement.health is Health.UNKNOWN]
    if unknown:
        names = (f"{one.name} ({one.message})" if one.message else one.name for one in unknown)
        return Health.UNKNOWN, f"no result yet of probe {', '.join(names)}"
    return Health.HEALTHY, ""


def next_start(due: float, now: float, period: float) -> float:
    """When a probe runs next that was due to run then and has ended now, all in the same unit.

    Always a whole number of periods later, so that the schedule does not drift; starts that the run has overrun are
    left out and not made up for.

    >>> next_start(10.0, 10.25, 1.0), next_start(10.0, 12.5, 1.0)
    (11.0, 13.0)
    """
    overrun = max(0, int((now - due) // period))
    return due + (overrun + 1) * period
