"""Who may read /metrics is the API server's to say, and what it said stands while it is away."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from holdfast_api.errors import ConfigurationError
from holdfast_kube.api_server import APIFailure
from holdfast_kube.certificate import Certificate
from holdfast_kube.listening import Address
from holdfast_kube.scrape_access import (
    ASKED_AGAIN_AFTER_SECONDS,
    STANDS_WITHOUT_API_SERVER_SECONDS,
    ScrapeAccess,
)
from holdfast_operator import health
from holdfast_speaker.agent.metrics_server import MetricsServer

PROMETHEUS = {
    "username": "system:serviceaccount:monitoring:prometheus",
    "uid": "u1",
    "groups": ["system:serviceaccounts"],
    "extra": {"authentication.kubernetes.io/pod-name": ["prometheus-0"]},
}


class Reviewer:
    """An API server that knows tokens, and who may read metrics."""

    def __init__(self) -> None:
        self.now = 0.0
        self.users: dict[str, dict[str, Any]] = {"good": PROMETHEUS, "other": {"username": "other"}}
        self.is_away = False
        self.asked: list[Mapping[str, Any]] = []
        self.access = ScrapeAccess(self, lambda: self.now)  # type: ignore[arg-type]  # what is used of it

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.is_away:
            raise APIFailure("away")
        assert path.rpartition("/")[2] == body["kind"].lower() + "s"
        assert path.startswith(f"/apis/{body['apiVersion']}/")
        self.asked.append(body)
        await asyncio.sleep(0)
        if body["kind"] == "TokenReview":
            user = self.users.get(body["spec"]["token"])
            return {"status": {"authenticated": True, "user": user} if user else {"error": "unknown"}}
        is_allowed = body["spec"]["user"] == PROMETHEUS["username"]
        return {"status": {"allowed": is_allowed} if is_allowed else {"allowed": False, "reason": "no"}}


def play(story: Callable[[Reviewer], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        await story(Reviewer())

    asyncio.run(run())


def test_a_token_is_reviewed_and_then_what_its_owner_may_do() -> None:
    async def story(server: Reviewer) -> None:
        assert await server.access.status("Bearer good") == 200
        (_, access) = server.asked
        assert access["spec"] == {
            "user": PROMETHEUS["username"],
            "uid": "u1",
            "groups": ["system:serviceaccounts"],
            "extra": {"authentication.kubernetes.io/pod-name": ["prometheus-0"]},
            "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
        }
        assert await server.access.status("Bearer other") == 403
        assert await server.access.status("Bearer stolen") == 401

    play(story)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic Z29vZDo=", "good", "Bearer " + "x" * 20_000])
def test_who_brings_no_token_is_not_asked_about(header: str) -> None:
    async def story(server: Reviewer) -> None:
        assert await server.access.status(header) == 401
        assert server.asked == []

    play(story)


def test_what_was_said_stands_for_some_seconds_and_is_asked_once_for_all_who_wait() -> None:
    async def story(server: Reviewer) -> None:
        assert await asyncio.gather(*(server.access.status("Bearer good") for _ in range(10))) == [200] * 10
        assert 2 <= len(server.asked) <= 4
        asked = len(server.asked)
        server.now += ASKED_AGAIN_AFTER_SECONDS
        assert await server.access.status("bearer  good") == 200
        assert len(server.asked) == asked
        del server.users["good"]
        server.now += 0.001
        assert await server.access.status("Bearer good") == 401

    play(story)


def test_while_the_api_server_is_away_who_was_let_in_is_let_in_and_nobody_else() -> None:
    async def story(server: Reviewer) -> None:
        assert await server.access.status("Bearer good") == 200
        assert await server.access.status("Bearer other") == 403
        server.is_away = True
        server.now += STANDS_WITHOUT_API_SERVER_SECONDS
        assert await server.access.status("Bearer good") == 200
        assert await server.access.status("Bearer other") == 403
        assert await server.access.status("Bearer new") == 503
        server.now += 1
        assert await server.access.status("Bearer good") == 503

    play(story)


def test_made_up_tokens_do_not_fill_the_memory() -> None:
    async def story(server: Reviewer) -> None:
        for number in range(1000):
            assert await server.access.status(f"Bearer {number}") == 401
        assert len(server.access._verdicts) == 64

    play(story)


# ----- over TLS -----


def make_certificate(folder: Path, name: str) -> None:
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2"]
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files], check=True, capture_output=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_certificate(tmp_path, "holdfast-metrics")
    return tmp_path


async def get(port: int, path: str, trusted: Path, token: str = "", name: str = "holdfast-metrics") -> tuple[int, str]:
    context = ssl.create_default_context(cafile=str(trusted))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://127.0.0.1:{port}{path}", ssl=context, server_hostname=name, headers=headers) as response,
    ):
        return response.status, await response.text()


def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Gauge("answer", "To everything.", registry=made).set(42)
    return made


def test_an_agent_serves_over_tls_who_may_read(folder: Path) -> None:
    async def story(server: Reviewer) -> None:
        async def look() -> None:
            pass

        metrics = MetricsServer(Address("127.0.0.1", 0), registry(), look, Certificate(folder), server.access)
        serving = asyncio.create_task(metrics.run())
        async with asyncio.timeout(30):
            while metrics.port is None:
                await asyncio.sleep(0.01)
            trusted = folder / "tls.crt"
            assert await get(metrics.port, "/metrics", trusted) == (401, "")
            assert (await get(metrics.port, "/metrics", trusted, "other"))[0] == 403
            status, text = await get(metrics.port, "/metrics", trusted, "good")
            assert (status, "answer 42.0" in text) == (200, True)
            with pytest.raises(aiohttp.ClientError):
                await get(metrics.port, "/metrics", trusted, "good", name="another.example")
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    play(story)


def test_the_kubelet_asks_an_operator_for_its_health_without_a_token(folder: Path) -> None:
    async def story(server: Reviewer) -> None:
        async def fine() -> str:
            return ""

        served = health.application(fine, fine, registry(), server.access)
        async with health.serving(served, Address("127.0.0.1", 0), Certificate(folder)) as address:
            trusted = folder / "tls.crt"
            assert await get(address.port, "/healthz", trusted) == (200, "ok\n")
            assert await get(address.port, "/metrics", trusted) == (401, "")
            assert (await get(address.port, "/metrics", trusted, "good"))[0] == 200

    play(story)


def test_a_certificate_that_is_renewed_is_served_and_one_that_is_none_leaves_the_former(folder: Path) -> None:
    async def story(server: Reviewer) -> None:
        async def fine() -> str:
            return ""

        certificate = Certificate(folder)
        served = health.application(fine, fine, registry())
        async with health.serving(served, Address("127.0.0.1", 0), certificate) as address:
            make_certificate(folder, "renewed.example")
            certificate.look()
            trusted = folder / "tls.crt"
            kept = folder / "kept.crt"
            kept.write_bytes(trusted.read_bytes())
            assert (await get(address.port, "/healthz", kept, name="renewed.example"))[0] == 200
            trusted.write_text("nonsense", encoding="utf-8")
            certificate.look()
            assert (await get(address.port, "/healthz", kept, name="renewed.example"))[0] == 200

    play(story)


def test_a_folder_without_a_certificate_is_one_line_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tls\.crt: No such file or directory"):
        Certificate(tmp_path)
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("nonsense", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"tls\.crt: no certificate and its key: "):
        Certificate(tmp_path)
