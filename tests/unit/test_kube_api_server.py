"""What the client makes of an API server's answers."""

from __future__ import annotations

import asyncio

import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import incluster_config

from holdfast_api.errors import ConfigurationError
from holdfast_kube import api_server
from holdfast_kube.api_server import APIFailure, APIServer, Patience, load_configuration
from holdfast_testing.fake_api import FakeAPI

AMPLE = Patience(connect=60, request=60, list=60)


def play(scene, patience=AMPLE):
    async def run():
        async with FakeAPI() as fake, APIServer(Configuration(host=fake.url), "test", patience) as api:
            await scene(fake, api)

    asyncio.run(run())


def test_an_answer_that_does_not_come_is_not_waited_for():
    async def scene(fake, api):
        fake.fail("GET", "/api/v1/nodes", seconds=3600)
        for ask in (api.get, api.list):
            with pytest.raises(APIFailure, match=r"^GET /api/v1/nodes: .* does not answer in time$") as told:
                await ask("/api/v1/nodes")
            assert told.value.status == 0

    play(scene, Patience(connect=60, request=0.01, list=0.01))


def test_a_connection_that_is_cut_is_an_api_server_that_is_away():
    async def scene(fake, api):
        fake.fail("GET", "/api/v1/nodes", drop=True)
        with pytest.raises(APIFailure, match="cannot be reached") as told:
            await api.list("/api/v1/nodes")
        assert not told.value.is_refusal

    play(scene)


@pytest.mark.parametrize(("status", "is_refusal"), [(401, True), (403, True), (422, True), (429, False), (503, False)])
def test_a_refusal_has_its_status_and_what_was_asked(status, is_refusal):
    async def scene(fake, api):
        fake.fail("PATCH", "/api/v1/nodes", status=status)
        with pytest.raises(APIFailure, match=r"^PATCH /api/v1/nodes/n1: fault: ") as told:
            await api.merge("/api/v1/nodes/n1", {})
        assert (told.value.status, told.value.is_refusal) == (status, is_refusal)

    play(scene)


def test_without_credentials_the_file_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    with pytest.raises(ConfigurationError, match=r"^/nonexistent: no such file"):
        asyncio.run(load_configuration())
    given = tmp_path / "config"
    with pytest.raises(ConfigurationError, match=rf"^{given}: no such file"):
        asyncio.run(load_configuration(str(given)))


@pytest.mark.parametrize(("said", "waited"), [(7, 7.0), (0, 0.0), (10_000, 60.0), ("soon", 0.0)])
def test_what_the_api_server_asks_to_be_left_alone_for_is_believed_up_to_a_minute(said, waited):
    async def scene(fake, api):
        fake.fail("GET", "/api/v1/nodes", status=429, retry_after=said)
        with pytest.raises(APIFailure) as told:
            await api.list("/api/v1/nodes")
        assert told.value.retry_after_seconds == waited

    play(scene)


def test_a_token_that_was_rotated_is_used_with_the_next_request(tmp_path, monkeypatch):
    token, certificate = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    certificate.write_text("-")
    for module in (api_server, incluster_config):
        monkeypatch.setattr(module, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(certificate))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")

    async def run():
        async with FakeAPI() as fake:
            configuration = await load_configuration()
            configuration.host, configuration.ssl_ca_cert = fake.url, None
            fake.token = "first"
            async with APIServer(configuration, "test", AMPLE) as api:
                await api.list("/api/v1/nodes")
                fake.token = "second"  # and the former one has expired
                with pytest.raises(APIFailure, match="Unauthorized") as told:
                    await api.list("/api/v1/nodes")
                assert told.value.status == 401
                token.write_text("second\n")
                await api.list("/api/v1/nodes")

    asyncio.run(run())
