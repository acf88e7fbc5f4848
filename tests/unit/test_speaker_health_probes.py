"""TCP and HTTP probes against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from holdfast_api.resources import ExecAction, HTTPGetAction, Probe, TCPSocketAction
from holdfast_speaker.health.connections import Names
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


class NameServer:
    """In place of the system's: it knows some names, and does not answer when asked for others."""

    def __init__(self, monkeypatch, **known):
        self.known = known
        self.asked = []
        self.silent = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host, port, **_):
        self.asked.append(host)
        if host not in self.known:
            self.silent.wait(TIMEOUT)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        families = [(socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in self.known[host]]
        return [
            (family, socket.SOCK_STREAM, 6, "", (one, 0, 0, 0) if family == socket.AF_INET6 else (one, 0))
            for family, one in families
        ]


@pytest.mark.parametrize("addresses", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"], ["192.0.2.1", "127.0.0.1"]])
def test_of_several_addresses_one_must_accept(monkeypatch, addresses):
    """The last list begins with one that never answers, and there is no time to wait for that."""
    NameServer(monkeypatch, web=addresses)
    with deaf_port() as port:
        assert run(tcp(port, "web", timeout=5)) == Result(True)
    with closed_port() as port:
        assert not run(tcp(port, "web", timeout=2)).ok


def test_no_name_waits_for_another(monkeypatch):
    """The event loop's own resolver has a few threads for everybody."""
    server = NameServer(monkeypatch, here=["127.0.0.1"])

    async def scene(port):
        names = Names()
        hanging = [asyncio.create_task(Prober(tcp(1, f"silent{n}"), names).run()) for n in range(64)]
        while len(server.asked) < 64:
            await asyncio.sleep(0.01)
        assert await Prober(tcp(port, "here"), names).run() == Result(True)
        return hanging

    with deaf_port() as port:
        asyncio.run(scene(port))  # and it ends although 64 are not answered
    assert not server.silent.is_set()
    server.silent.set()


def test_a_name_is_looked_up_once_at_a_time_whoever_asks(monkeypatch):
    server = NameServer(monkeypatch)

    async def scene():
        names = Names()
        first, second = (Prober(tcp(1, "silent", timeout=1), names) for _ in range(2))
        results = [await first.run(), await second.run(), await first.run()]
        server.silent.set()
        return results

    expected = Result(False, "TCP silent port 1 is a name that was not looked up within 1 s")
    assert asyncio.run(scene()) == [expected] * 3
    assert server.asked == ["silent"]


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def without_descriptors():
    """As if this process had used up what it may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors(), hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(2))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.parametrize(
    "probe",
    [tcp(1), tcp(1, "localhost"), http(1), Probe(name="p", exec=ExecAction(command=["true"]))],
    ids=["tcp", "name", "http", "exec"],
)
def test_a_run_for_which_this_host_has_no_descriptors_says_nothing_of_the_service(probe):
    async def scene():
        prober = Prober(probe)
        with without_descriptors():
            return await prober.run()

    result = asyncio.run(scene())
    assert not result.is_conclusive
    assert "Too many open files" in result.message


@pytest.mark.parametrize("scheme", ["HTTP", "HTTPS"])
def test_what_does_not_answer_in_time_leaves_nothing_open(scheme):
    async def scene(port):
        before = descriptors()
        for _ in range(3):
            result = await Prober(http(port, timeout=1, scheme=scheme)).run()
            assert result.message.endswith("did not answer within 1 s")
        for _ in range(20):
            await asyncio.sleep(0)
        return descriptors() - before

    with deaf_port() as port:
        assert asyncio.run(scene(port)) == 0


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
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    ],
)
def test_a_status_from_200_to_399_is_healthy_and_a_redirect_is_not_followed(head):
    assert judged(head) == (True, "")


EARLY = "it closed the connection before its answer was complete"


@pytest.mark.parametrize("status", [101, 199, 400, 404, 500, 503, 999])
def test_another_status_is_a_failure_that_tells_it(status):
    expected = f"HTTP 127.0.0.1 port PORT answered /ready with status {status}"
    if status == 199:
        expected = f"HTTP 127.0.0.1 port PORT: {EARLY}"  # interim, and then the end
    assert judged(f"HTTP/1.1 {status} X\r\n\r\n".encode(), path="/ready") == (False, expected)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 2000 X\r\n\r\n", b"\xff\n"]
)
def test_an_answer_that_is_not_http_is_a_failure(answer):
    assert judged(answer) == (False, "HTTP 127.0.0.1 port PORT: its answer is not HTTP/1.1")


MIDDLE = "it closed the connection in the middle of a line of its answer's head"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", EARLY),
        (b"HTTP/1.1 200 OK", MIDDLE),
        (b"HTTP/1.1 200 OK\r\n", EARLY),
        (b"HTTP/1.1 200 OK\r\nContent-Le", MIDDLE),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n", EARLY),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r", MIDDLE),
        (b"HTTP/1.1 100 Continue\r\n\r\n", EARLY),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
            "it closed the connection in the middle of its answer's body",
        ),
    ],
)
def test_an_answer_that_breaks_off_is_a_failure(answer, reason):
    assert judged(answer) == (False, f"HTTP 127.0.0.1 port PORT: {reason}")


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (401, True), (204, False), (301, False), (500, False)])
def test_where_statuses_are_expected_only_they_are_healthy(status, is_well):
    answer = f"HTTP/1.1 {status} X\r\n\r\n".encode()
    assert judged(answer, expect_status=[200, 401])[0] is is_well


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
