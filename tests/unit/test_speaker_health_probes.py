"""TCP and HTTP probes against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time

import pytest

from holdfast_api.resources import ExecAction, HTTPGetAction, Probe, TCPSocketAction
from holdfast_speaker.health.policy import Result
from holdfast_speaker.health.probes import Prober

TIMEOUT = 30


def tcp(port, host="127.0.0.1", timeout=TIMEOUT):
    return Probe(name="p", tcp_socket=TCPSocketAction(port=port, host=host), timeout_seconds=timeout)


def http(port, host="127.0.0.1", timeout=TIMEOUT, **fields):
    return Probe(name="p", http_get=HTTPGetAction(port=port, host=host, **fields), timeout_seconds=timeout)


def run(probe):
    return asyncio.run(Prober(probe).run())


@contextlib.contextmanager
def closed_port():
    """A port that is reserved by us and refuses: nobody listens on it."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@contextlib.contextmanager
def deaf_port():
    """A port whose connections are accepted by the kernel and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def answered(answer, *, keep_open=False, context=None, host="127.0.0.1", timeout=TIMEOUT, **fields):
    """The result of one HTTP probe against a server that says these bytes, and the request that the server read."""

    async def scene():
        requests = []
        parted = asyncio.Event()

        async def serve(reader, writer):
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            for piece in answer if isinstance(answer, list) else [answer]:
                writer.write(piece)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                await asyncio.sleep(0)
            if keep_open:
                await parted.wait()
            writer.close()

        server = await asyncio.start_server(serve, host, 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        try:
            result = await Prober(http(port, host, timeout, **fields)).run()
        finally:
            parted.set()
            server.close()
            await server.wait_closed()
        return result, port, requests

    return asyncio.run(scene())


def judged(answer, **fields):
    """Only the result, with the port left out of its message."""
    result, port, _ = answered(answer, **fields)
    return result.ok, result.message.replace(str(port), "PORT")


def test_an_exec_probe_runs_its_command():
    assert run(Probe(name="p", exec=ExecAction(command=["true"]))) == Result(True)
    assert run(Probe(name="p", exec=ExecAction(command=["false"]))) == Result(False, "exit status 1")


def test_a_tcp_probe_succeeds_when_the_connection_is_accepted():
    with deaf_port() as port:
        assert run(tcp(port)) == Result(True)


def test_a_tcp_probe_reaches_a_host_by_its_name():
    with deaf_port() as port:
        assert run(tcp(port, "localhost")) == Result(True)


def test_a_refused_connection_is_a_failure():
    with closed_port() as port:
        assert run(tcp(port)) == Result(False, f"TCP 127.0.0.1 port {port}: Connection refused")
        assert run(http(port)) == Result(False, f"HTTP 127.0.0.1 port {port}: Connection refused")


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_a_host_that_nobody_can_know_is_a_failure_with_a_reason(host):
    for probe in (tcp(1, host), http(1, host)):
        result = run(probe)
        assert not result.ok
        assert result.message.partition(" port 1: ")[2]


def test_a_connection_that_nobody_accepts_is_a_failure_at_the_timeout():
    with socket.socket() as server, contextlib.ExitStack() as waiting:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        # The queue holds one; further connections wait for an accept that never comes.
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        port = server.getsockname()[1]
        assert run(tcp(port, timeout=1)) == Result(False, f"TCP 127.0.0.1 port {port} did not accept within 1 s")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 204 No Content\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 399\r\n\r\n",
        b"HTTP/1.1 200 OK\n\nok",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_a_status_from_200_to_399_is_healthy_and_a_redirect_is_not_followed(head):
    assert judged(head) == (True, "")


@pytest.mark.parametrize("status", [101, 199, 400, 404, 500, 503, 999])
def test_another_status_is_a_failure_that_tells_it(status):
    expected = f"HTTP 127.0.0.1 port PORT answered /ready with status {status}"
    if status == 199:
        expected = "HTTP 127.0.0.1 port PORT: its answer is not HTTP/1.1"  # interim, and then the end
    assert judged(f"HTTP/1.1 {status} X\r\n\r\n".encode(), path="/ready") == (False, expected)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 2000 X\r\n\r\n", b"\xff\n"]
)
def test_an_answer_that_is_not_http_is_a_failure(answer):
    assert judged(answer) == (False, "HTTP 127.0.0.1 port PORT: its answer is not HTTP/1.1")


def test_an_endless_head_is_a_failure():
    line = b"HTTP/1.1 200 OK" + b"x" * 20000
    assert judged(line) == (False, "HTTP 127.0.0.1 port PORT: its answer has a line of more than 8192 bytes")
    headers = b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000
    assert judged(headers) == (False, "HTTP 127.0.0.1 port PORT: its answer has too many header lines")


def test_a_long_body_is_not_read_to_its_end():
    assert judged([b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 20_000], keep_open=True) == (True, "")


def test_a_body_of_known_length_is_enough_though_the_connection_stays_open():
    assert judged(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", keep_open=True) == (True, "")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"])
def test_an_answer_that_does_not_end_is_a_failure_at_the_timeout(answer):
    assert judged(answer, keep_open=True, timeout=1) == (
        False,
        "HTTP 127.0.0.1 port PORT did not answer within 1 s",
    )


def test_the_timeout_is_for_the_whole_and_not_for_each_byte():
    async def scene():
        closed = asyncio.Event()

        async def drip(reader, writer):
            while not writer.is_closing():
                writer.write(b"H")
                await asyncio.sleep(0.05)
            closed.set()

        async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
            result = await Prober(http(server.sockets[0].getsockname()[1], timeout=1)).run()
            await closed.wait()
            return result

    began = time.monotonic()
    assert asyncio.run(scene()).message.endswith("did not answer within 1 s")
    assert time.monotonic() - began < TIMEOUT


def test_the_request_is_one_that_servers_understand():
    _, port, requests = answered(b"HTTP/1.1 200 OK\r\n\r\n", path="/healthz?full=1")
    (request,) = requests
    lines = request.decode("ascii").split("\r\n")
    assert lines[0] == "GET /healthz?full=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in lines
    assert "Connection: close" in lines


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    arguments = "-x509 -newkey rsa:2048 -nodes -subj /CN=another.example -days 1 -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", "req", *arguments.split()], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_https_is_answered_whatever_the_certificate_says(certificate):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert judged(answer, context=certificate, scheme="HTTPS") == (True, "")
    assert judged(b"HTTP/1.1 500 X\r\n\r\n", context=certificate, scheme="HTTPS") == (
        False,
        "HTTPS 127.0.0.1 port PORT answered / with status 500",
    )


def test_https_to_a_server_without_tls_is_a_failure():
    async def scene():
        async def plain(reader, writer):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
            return await Prober(http(server.sockets[0].getsockname()[1], scheme="HTTPS")).run()

    result = asyncio.run(scene())
    assert not result.ok
    assert ": TLS: " in result.message
