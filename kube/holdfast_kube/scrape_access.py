"""Who may read /metrics: asked of the API server, as its own components and kube-rbac-proxy do.

A TokenReview says whose a token is, and a SubjectAccessReview whether that one may `get` the non-resource URL /metrics
(https://kubernetes.io/docs/reference/access-authn-authz/).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from holdfast_kube.api_server import APIFailure, APIServer, Object

PATH: Final = "/metrics"

ASKED_AGAIN_AFTER_SECONDS: Final = 10.0
STANDS_WITHOUT_API_SERVER_SECONDS: Final = 3600.0
"""How long who was let in is let in while the API server does not answer: that is when metrics are looked at."""

_REMEMBERED = 64
_REVIEWS_AT_ONCE = 2
_TOKEN_BYTES_MAX = 16 * 1024
_TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105  # a path
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Verdict:
    status: int
    """200, 401 or 403 of HTTP."""
    at: float


class ScrapeAccess:
    """Remembers for some seconds what the API server said of a token. `clock` is in seconds and does not jump."""

    def __init__(self, api: APIServer, clock: Callable[[], float]) -> None:
        self._api = api
        self._clock = clock
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._asking = asyncio.Semaphore(_REVIEWS_AT_ONCE)

    async def status(self, authorization: str) -> int:
        """The HTTP status for an Authorization header: 200 lets in; 503: the API server does not tell."""
        scheme, _, token = authorization.strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _TOKEN_BYTES_MAX:
            return 401
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._fresh(key)
        if known is not None:
            return known
        async with self._asking:
            known = self._fresh(key)  # somebody else may have asked meanwhile
            return known if known is not None else await self._ask(key, token)

    def _fresh(self, key: bytes) -> int | None:
        verdict = self._verdicts.get(key)
        if verdict is None or self._clock() - verdict.at > ASKED_AGAIN_AFTER_SECONDS:
            return None
        return verdict.status

    async def _ask(self, key: bytes, token: str) -> int:
        try:
            status = await self._review(token)
        except APIFailure:
            verdict = self._verdicts.get(key)
            if verdict is None or self._clock() - verdict.at > STANDS_WITHOUT_API_SERVER_SECONDS:
                return 503
            return verdict.status
        self._verdicts[key] = _Verdict(status, self._clock())
        self._verdicts.move_to_end(key)
        while len(self._verdicts) > _REMEMBERED:
            self._verdicts.popitem(last=False)
        return status

    async def _review(self, token: str) -> int:
        told = await self._api.create(
            _TOKEN_REVIEWS,
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}},
        )
        status: Object = told.get("status") or {}
        if not status.get("authenticated"):
            return 401
        user: dict[str, Any] = status.get("user") or {}
        told = await self._api.create(
            _ACCESS_REVIEWS,
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": user.get("username", ""),
                    "uid": user.get("uid", ""),
                    "groups": user.get("groups") or [],
                    "extra": user.get("extra") or {},
                    "nonResourceAttributes": {"path": PATH, "verb": "get"},
                },
            },
        )
        return 200 if (told.get("status") or {}).get("allowed") else 403


def for_who_may_scrape(access: ScrapeAccess) -> Any:
    """A middleware of aiohttp: /metrics is for who may read it, everything else for everybody."""

    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        status = await access.status(request.headers.get("Authorization", "")) if request.path == PATH else 200
        if status == 200:
            return await handler(request)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        return web.Response(status=status, headers=headers)

    return ask
