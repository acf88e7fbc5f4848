"""What the tests of examples/ share: hosts with real programs on them, and clients that keep trying."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.namespaces import Namespace
from holdfast_testing.required import absent
from holdfast_testing.systemd_unit import bounding_set, confined

EXAMPLES: Final = Path(__file__).parents[3] / "examples"
ADDRESS: Final = "10.77.0.200"
"""The VIP of the examples with a database."""

REPETITIONS: Final = range(5 if os.environ.get("HOLDFAST_FULL") else 1)
"""Of each measurement; the figures in the documents are of five."""

_PATH = os.pathsep.join(
    [
        os.environ.get("PATH", ""),
        "/usr/sbin",
        "/sbin",
        # Debian has the server's programs of each version in a folder of its own; the newest one first.
        *(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
    ]
)
_AS_THE_UNIT = confined(bounding_set())
"""Holdfast and its probes may do what examples/systemd/holdfast.service lets them, and no more."""

_OWN_RUN = 'mount --bind "$1" /run && shift && exec "$@"'


def example(path: str) -> str:
    """A file of examples/, as it is there."""
    return (EXAMPLES / path).read_text(encoding="utf-8")


def require(*names: str) -> None:
    """Skip the test where a program is not installed, or fail it where HOLDFAST_REQUIRE says so."""
    missing = [name for name in names if shutil.which(name, path=_PATH) is None]
    if missing:
        absent("netns", f"not installed: {' '.join(missing)}")


def program(name: str) -> str:
    """The path of a program that `require` has found."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise AssertionError(f"{name} is not installed")
    return found


class Machine:
    """A host with programs on it, and with a /run of its own, as sockets in a file system know no network namespaces.

    Data that is to outlive its processes is kept in /run, too: users other than root may not enter a test's folder.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.own_run = host.folder / "own"
        self.own_run.mkdir()
        self._started: list[subprocess.Popen[str]] = []
        self._with_own_run = ["unshare", "--mount", "sh", "-c", _OWN_RUN, "sh", str(self.own_run)]
        self.host.python = [*self._with_own_run, *_AS_THE_UNIT, *host.python]

    def _inside(self, words: list[str], user: str) -> list[str]:
        switch = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return [*self._with_own_run, *switch, program(words[0]), *words[1:]]

    def command(self, words: list[str], user: str = "root") -> list[str]:
        """The command line that runs a program here as that user."""
        return self.host.namespace.command(self._inside(words, user))

    def folder(self, name: str, user: str, mode: int = 0o755) -> str:
        """A new folder /run/NAME that belongs to that user; its path."""
        made = self.own_run / name
        made.mkdir()
        made.chmod(mode)
        shutil.chown(made, user, user)
        return f"/run/{name}"

    def run(self, words: list[str], user: str = "root") -> str:
        """Run a program to its end; its output. A failure fails the test."""
        finished = subprocess.run(
            self.command(words, user), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if finished.returncode != 0:
            raise AssertionError(f"{self.host.name}: {words} ended with {finished.returncode}: {finished.stderr}")
        return finished.stdout

    def succeeds(self, words: list[str], user: str = "root") -> bool:
        """Whether a program ends with 0."""
        return subprocess.run(self.command(words, user), capture_output=True, check=False).returncode == 0

    def start(self, words: list[str], user: str = "root") -> subprocess.Popen[str]:
        """Start a program in the foreground; what it says is in NAME.log. It ends with the test."""
        with (self.host.folder / f"{words[0]}.log").open("a", encoding="utf-8") as log:
            process = self.host.namespace.start(
                self._inside(words, user), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._started.append(process)
        return process

    def serve_name(self) -> subprocess.Popen[str]:
        """Start nginx on port 80; it answers with the host's name."""
        file = self.own_run / "nginx.conf"
        file.write_text(
            "worker_processes 1; daemon off; user root; pid /run/nginx.pid; error_log stderr;\n"
            "events {}\n"
            "http { access_log off; keepalive_timeout 600s; server { listen 80; location / "
            f'{{ default_type text/plain; return 200 "{self.host.name}"; }} }} }}\n',
            encoding="utf-8",
        )
        return self.start(["nginx", "-c", "/run/nginx.conf"])

    def power_off(self) -> None:
        """Nothing gets out any more, and every process is killed; what is on the disk stays."""
        self.host.namespace.ip("link set eth0 down")
        for pid in self.host.namespace.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.wait()  # PostgreSQL takes the process of its pid file for alive until it is
        self._started.clear()
        self.host.process = None

    def power_on(self) -> None:
        """The link is there again; the test starts what the host would start."""
        self.host.namespace.ip("link set eth0 up")


class Refused(Exception):
    """A client was answered, and not given what it wanted; says what it was told."""


def http_get(address: str, port: int = 80) -> Callable[[], str]:
    """A client that opens a connection and asks for the page; its body."""

    def ask() -> str:
        connection = http.client.HTTPConnection(address, port, timeout=Attempts.PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            answer = connection.getresponse()
            body = answer.read().decode()
        if answer.status != 200:
            raise Refused(f"{answer.status}: {body}")
        return body.strip()

    return ask


@dataclass(frozen=True, slots=True)
class Attempt:
    """One client that tried."""

    started: float
    """time.monotonic()"""
    answer: str | None
    """None: it failed, or took too long."""
    complaint: str
    """Why it failed."""


class Attempts:
    """A new client every 100 ms, whatever became of those before. A context manager: they try while it is open."""

    PATIENCE_SECONDS: Final = 0.9
    """Below the second after which Linux sends a lost SYN again: who comes at a bad moment has failed."""

    def __init__(self, namespace: Namespace, ask: Callable[[], str], interval_seconds: float = 0.1) -> None:
        """`ask` is called in that namespace; its value is the answer, and what it raises is a failure."""
        self._ask = ask
        self._interval = interval_seconds
        self._made: list[Attempt] = []
        self._namespace = namespace
        # Enough for all that are patient at the same time.
        self._pool = ThreadPoolExecutor(max_workers=32)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_trying)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._pool.shutdown()

    def _keep_trying(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self._pool.submit(self._try)
            due += self._interval

    def _try(self) -> None:
        started = time.monotonic()
        try:
            with self._namespace.inside():
                answer, complaint = self._ask(), ""
        except (OSError, Refused) as error:
            answer, complaint = None, str(error)
        if time.monotonic() - started > self.PATIENCE_SECONDS:
            answer, complaint = None, complaint or "answered too late"
        self._made.append(Attempt(started, answer, complaint))

    def since(self, moment: float) -> list[Attempt]:
        """Those that began then or later and are over, in the order of their beginning."""
        return sorted((each for each in self._made if each.started >= moment), key=lambda each: each.started)

    def last_answer(self) -> str | None:
        """Of the attempt that began last and is over."""
        made = self.since(0)
        return made[-1].answer if made else None

    def answered_by(self, name: str, since: float) -> bool:
        """Whether an attempt that began then or later was answered so."""
        return any(each.answer == name for each in self.since(since))

    def succeed(self, since: float) -> bool:
        """Whether one that began then or later was answered."""
        return any(each.answer is not None for each in self.since(since))

    def settle(self) -> float:
        """Wait until every attempt that began before now is over; now."""
        now = time.monotonic()
        time.sleep(self.PATIENCE_SECONDS + 0.1)
        return now

    def outage_ms(self, since: float, until: float | None = None) -> float:
        """The longest time from an attempt that failed to the next one that did not; 0 where none failed."""
        return max((end - start for start, end in self._outages(since, until)), default=0.0) * 1000

    def _outages(self, since: float, until: float | None) -> Iterator[tuple[float, float]]:
        start: float | None = None
        made = [each for each in self.since(since) if until is None or each.started <= until]
        for each in made:
            if each.answer is None:
                start = each.started if start is None else start
            elif start is not None:
                yield start, each.started
                start = None
        if start is not None:
            yield start, made[-1].started

    def failures(self, since: float) -> list[Attempt]:
        """Those that failed."""
        return [each for each in self.since(since) if each.answer is None]


class Server(Protocol):
    """A program on a machine."""

    machine: Machine


class WritableVip:
    """The VIP of examples/NAME/vip.yaml on two hosts: it is where the one of two servers is that takes writes."""

    def __init__(self, lan: Any, name: str) -> None:
        self._lan = lan
        self._name = name

    def begin(self, writable: Server, other: Server) -> None:
        """Run it on both hosts, until it is where it is to be."""
        for server in (writable, other):
            server.machine.host.run(example(f"{self._name}/vip.yaml"))
        writable.machine.host.becomes("Master", self._name)
        eventually(lambda: self.status(other).get("obstacles") == ["ServiceFailed"], "the other takes no part")

    def status(self, server: Server) -> dict[str, Any]:
        """What Holdfast says of it there."""
        found: dict[str, Any] = server.machine.host.routers.get(self._name, {})
        return found

    @property
    def holders(self) -> list[str]:
        """Whose kernel has it."""
        found: list[str] = self._lan.holders(ADDRESS)
        return found


def machines(hosts: list[Host]) -> list[Machine]:
    """Hosts of a segment, as machines."""
    return [Machine(host) for host in hosts]
