"""One of the replicas leads: a Lease of coordination.k8s.io, as Kubernetes' own controllers use it.

The rule that keeps two from writing: a leader that has not renewed for `renew_seconds` stops; another one begins only
after it has seen no renewal for `lease_seconds`. Both count on their own monotonic clock, so no clock has to be right;
what lies between (5 s) is no less than a write can take (process.PATIENCE).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final

from holdfast_kube.api_server import CONFLICT, NOT_FOUND, APIFailure, APIServer, Object

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds; the same as client-go's."""

    lease_seconds: int = 15
    """How long others leave the Lease alone after its last renewal."""
    renew_seconds: float = 10.0
    """How long its holder goes on without one."""
    retry_seconds: float = 2.0
    """Between two renewals, or attempts. Up to a fifth more, so that replicas do not ask in step."""


DEFAULT_TIMING: Final = Timing()


@dataclass(frozen=True, slots=True)
class LeaseName:
    """Which Lease."""

    namespace: str
    name: str

    @property
    def collection(self) -> str:
        """Its path without the name."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    @property
    def path(self) -> str:
        """Its path."""
        return f"{self.collection}/{self.name}"


class Elector:
    """`run` for as long as the process lives; whoever writes asks `is_leader` first."""

    def __init__(
        self,
        api: APIServer,
        lease: LeaseName,
        identity: str,
        random: Random,
        clock: Callable[[], float],
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        self._api = api
        self._name = lease
        self._identity = identity
        self._random = random
        self._clock = clock
        self._timing = timing
        self._lease: Object | None = None
        """As last seen; None: to be read again."""
        self._seen_version = ""
        self._seen_at = clock()
        self._leads_until = float("-inf")
        self.attempted_at = clock()
        """When it last asked for the Lease, or renewed it."""

    def is_leader(self) -> bool:
        """Whether this process may write now: also right in a process that was stopped for a while and goes on."""
        return self._clock() < self._leads_until

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Call `lead` whenever the Lease is ours, and cancel it when it no longer is. Ends with what `lead` raises.

        At its end `lead` is ended first, and then the Lease given back, so that another replica need not wait.
        """
        try:
            while True:
                while not await self._attempt():
                    await asyncio.sleep(self._pause())
                _log.info("leading, as %s", self._identity)
                await self._lead(lead)
                _log.warning("the Lease is lost: standing by")
        finally:
            await self._release()

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> None:
        leading = asyncio.ensure_future(lead())
        try:
            await self._keep(leading)
        finally:
            leading.cancel()
            await asyncio.wait({leading})
        if not leading.cancelled():
            leading.result()

    async def _keep(self, leading: asyncio.Future[None]) -> None:
        """Renew until that is no longer possible, or the work has ended."""
        while self.is_leader() and not leading.done():
            await asyncio.wait({leading}, timeout=min(self._pause(), self._remaining()))
            if not leading.done() and self.is_leader():
                await self._attempt()

    def _pause(self) -> float:
        return self._timing.retry_seconds * self._random.uniform(1, 1.2)

    def _remaining(self) -> float:
        return max(self._leads_until - self._clock(), 0)

    async def _attempt(self) -> bool:
        """Take or renew the Lease, if it is free or ours."""
        began = self.attempted_at = self._clock()
        leads = began < self._leads_until
        try:
            async with asyncio.timeout(self._remaining() if leads else self._timing.renew_seconds):
                if not await self._claim():
                    self._leads_until = float("-inf")
                    return False
        except APIFailure as failure:
            self._lease = None
            if failure.status != CONFLICT:
                _log.warning("the Lease is not %s: %s", "renewed" if leads else "read", failure)
            return False
        except TimeoutError:
            self._lease = None
            _log.warning("the Lease is not %s: the API server does not answer", "renewed" if leads else "read")
            return False
        # From before the request: the API server took it at some moment after that.
        self._leads_until = began + self._timing.renew_seconds
        return True

    async def _claim(self) -> bool:
        """Whether the Lease is ours now."""
        if self._lease is None:
            self._lease = await self._read()
        if self._lease is None:
            created = await self._api.create(self._name.collection, self._document({}))
            self._see(created)
            return True
        held = self._lease["spec"]
        if held.get("holderIdentity") not in (None, "", self._identity) and not self._has_expired(held):
            self._lease = None  # look again next time
            return False
        self._see(await self._api.replace(self._name.path, self._document(self._lease)))
        return True

    async def _read(self) -> Object | None:
        try:
            lease = await self._api.get(self._name.path)
        except APIFailure as failure:
            if failure.status == NOT_FOUND:
                return None
            raise
        self._see(lease)
        return lease

    def _see(self, lease: Object) -> None:
        self._lease = lease
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, self._clock()

    def _has_expired(self, held: Object) -> bool:
        lease_seconds: int = held.get("leaseDurationSeconds", self._timing.lease_seconds)
        return self._clock() - self._seen_at >= lease_seconds

    def _document(self, lease: Object) -> Object:
        former = lease.get("spec", {})
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        is_renewal = former.get("holderIdentity") == self._identity
        transitions = former.get("leaseTransitions", 0)
        if lease and not is_renewal:
            transitions += 1
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            # With the resourceVersion: whoever comes second gets a conflict.
            "metadata": lease.get("metadata", {"namespace": self._name.namespace, "name": self._name.name}),
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._timing.lease_seconds,
                "acquireTime": former.get("acquireTime", now) if is_renewal else now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }

    async def _release(self) -> None:
        self._leads_until = float("-inf")
        with contextlib.suppress(APIFailure, TimeoutError):  # then it expires
            async with asyncio.timeout(self._timing.lease_seconds - self._timing.renew_seconds):
                # Read anew: whether a request that was under way got through is not known.
                lease = await self._read()
                if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                    document = self._document(lease)
                    document["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._api.replace(self._name.path, document)
