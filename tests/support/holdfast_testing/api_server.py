"""A real kube-apiserver with an etcd of its own, for tests: no node, no controller, nothing that runs.

The programs are those that scripts/cluster builds. What a controller would do (default service accounts, the deletion
of a namespace's objects) nobody does here.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import yaml

from holdfast_api.errors import EnvironmentFailure
from holdfast_testing.kind_cluster import SCRIPT, run

Object = dict[str, Any]

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
JSON: Final = "application/json"

START_SECONDS: Final = 90
"""Four seconds where nothing else runs; others do."""

_REQUEST_SECONDS = 30
_PR_SET_PDEATHSIG = 1


class APIServerError(EnvironmentFailure):
    """It did not start, or did not answer as it must; says what was seen."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What is started."""

    kube_apiserver: Path
    etcd: Path
    helm: Path


def find_programs() -> Programs | None:
    """Those that scripts/cluster has built; None while it has not."""
    paths = dict(line.split("=", 1) for line in run([str(SCRIPT), "paths"]).splitlines())
    found = Programs(Path(paths["kube-apiserver"]), Path(paths["etcd"]), Path(paths["helm"]))
    return found if all(path.is_file() for path in (found.kube_apiserver, found.etcd, found.helm)) else None


def build_programs() -> Programs:
    """Have scripts/cluster build them: ten minutes the first time. Progress goes to stderr."""
    finished = subprocess.run([str(SCRIPT), "tools"], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    found = find_programs()
    if finished.returncode != 0 or found is None:
        raise APIServerError("scripts/cluster tools failed; it says above why")
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    """The HTTP status."""
    body: Object

    @property
    def message(self) -> str:
        """metav1.Status.message; empty where the request was granted."""
        return str(self.body.get("message", "")) if self.status >= 400 else ""


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody with a token."""

    url: str
    token: str
    context: ssl.SSLContext

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = JSON,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, whatever its answer."""
        url = self.url + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=_REQUEST_SECONDS) as answer:
                return Answer(answer.status, _object(answer.read()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _object(error.read()))

    def get(self, path: str) -> Object:
        """An object or a list; APIServerError where it is refused."""
        return _granted(self.request("GET", path), f"GET {path}")

    def create(self, path: str, body: Object) -> Object:
        """POST to a collection; APIServerError where it is refused."""
        return _granted(self.request("POST", path, body), f"POST {path}")

    def delete(self, path: str) -> None:
        """Delete an object, whether it is there or not."""
        answer = self.request("DELETE", path)
        if answer.status != 404:
            _granted(answer, f"DELETE {path}")

    def apply(self, path: str, body: Object, manager: str, *, force: bool = True, dry_run: bool = False) -> Answer:
        """Server-side apply, as the operator and the agents do it."""
        query = (
            {"fieldManager": manager} | ({"force": "true"} if force else {}) | ({"dryRun": "All"} if dry_run else {})
        )
        return self.request("PATCH", path, body, content_type=APPLY, query=query)

    def merge(self, path: str, body: Object, manager: str = "") -> Answer:
        """JSON merge patch (RFC 7386)."""
        return self.request(
            "PATCH", path, body, content_type=MERGE, query={"fieldManager": manager} if manager else None
        )

    def json_patch(self, path: str, body: list[Object], manager: str = "") -> Answer:
        """JSON patch (RFC 6902)."""
        return self.request(
            "PATCH", path, body, content_type=JSON_PATCH, query={"fieldManager": manager} if manager else None
        )


def _object(said: bytes) -> Object:
    try:
        found: Object = json.loads(said)
    except ValueError:  # plain text, as /readyz says it
        return {"message": said.decode(errors="replace")}
    return found


def _granted(answer: Answer, what: str) -> Object:
    if answer.status >= 400:
        raise APIServerError(f"{what}: {answer.status} {answer.message}")
    return answer.body


class LocalAPIServer:
    """It runs. RBAC is on, and so are the admission plugins that are on by default."""

    def __init__(
        self, url: str, certificate: Path, admin_token: str, restart: Callable[[float], None] | None = None
    ) -> None:
        self.url = url
        self._restart = restart
        self.certificate = certificate
        self._context = ssl.create_default_context(cafile=certificate)
        self.admin = self.client(admin_token)
        """Of the group system:masters, who may do everything."""

    def restart(self, away_seconds: float = 0.0) -> None:
        """End the kube-apiserver and start it anew, on the same etcd; returns when it is ready."""
        assert self._restart is not None
        self._restart(away_seconds)

    def client(self, token: str) -> Client:
        """Somebody with that token."""
        return Client(self.url, token, self._context)

    def kubeconfig(self, token: str) -> str:
        """The file that a program needs which is to talk to it with that token."""
        authority = base64.b64encode(self.certificate.read_bytes()).decode()
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {"name": "local", "cluster": {"server": self.url, "certificate-authority-data": authority}}
                ],
                "users": [{"name": "local", "user": {"token": token}}],
                "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
                "current-context": "local",
            }
        )

    def service_account_token(self, namespace: str, name: str, pod: str = "") -> str:
        """A token as the kubelet asks for it (TokenRequest), bound to a pod, and through it to the pod's node."""
        bound = {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod}} if pod else {}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        return str(self.admin.create(path, {"spec": bound})["status"]["token"])

    def make_pod(self, namespace: str, name: str, service_account: str, node: str) -> None:
        """A pod on that node, which is made where it is not there; nothing runs it."""
        if self.admin.request("GET", f"/api/v1/nodes/{quote(node)}").status == 404:
            self.admin.create("/api/v1/nodes", {"metadata": {"name": node}})
        spec = {
            "nodeName": node,
            "serviceAccountName": service_account,
            "automountServiceAccountToken": False,
            "containers": [{"name": "speaker", "image": "none"}],
        }
        self.admin.create(f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": name}, "spec": spec})

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Look again and again; APIServerError with what was waited for."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise APIServerError(f"not within {seconds:g} s: {what}")
            time.sleep(0.1)


@contextlib.contextmanager
def local_api_server(programs: Programs) -> Iterator[LocalAPIServer]:
    """It runs inside, on free ports of 127.0.0.1, and is gone with all that it stored afterwards."""
    with tempfile.TemporaryDirectory(prefix="api-server-") as name, contextlib.ExitStack() as processes:
        folder = Path(name)
        store, peers, port = _free_ports(3)
        url = f"http://127.0.0.1:{store}"
        processes.enter_context(
            _process(
                folder / "etcd.log",
                [
                    str(programs.etcd),
                    f"--data-dir={folder}/etcd",
                    f"--listen-client-urls={url}",
                    f"--advertise-client-urls={url}",
                    f"--listen-peer-urls=http://127.0.0.1:{peers}",
                    f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
                    f"--initial-cluster=default=http://127.0.0.1:{peers}",
                    "--unsafe-no-fsync",
                ],
            )
        )
        key = folder / "service-accounts.key"
        run(["openssl", "genrsa", "-out", str(key), "2048"])
        admin_token = secrets.token_hex(16)
        (folder / "tokens.csv").write_text(f"{admin_token},admin,admin,system:masters\n", encoding="ascii")
        command = [
            str(programs.kube_apiserver),
            f"--etcd-servers={url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={folder}/certificates",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder}/tokens.csv",
        ]
        certificate = folder / "certificates" / "apiserver.crt"
        running = processes.enter_context(contextlib.ExitStack())

        def start(away_seconds: float = 0.0) -> None:
            running.close()
            time.sleep(away_seconds)
            process = running.enter_context(_process(folder / "kube-apiserver.log", command))
            _wait_until_ready(process, folder / "kube-apiserver.log", port, certificate, admin_token)

        start()
        yield LocalAPIServer(f"https://127.0.0.1:{port}", certificate, admin_token, start)


def _wait_until_ready(
    process: subprocess.Popen[bytes], log: Path, port: int, certificate: Path, admin_token: str
) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError, ssl.SSLError):
            server = LocalAPIServer(f"https://127.0.0.1:{port}", certificate, admin_token)
            if server.admin.request("GET", "/readyz").status == 200:
                return
        if process.poll() is not None or time.monotonic() > end:
            last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise APIServerError(f"kube-apiserver is not ready, and says: {last}")
        time.sleep(0.2)


@contextlib.contextmanager
def _process(log: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_the_tests,
        )
    try:
        yield process
    finally:
        # What it stored is thrown away, so that nothing is lost by not asking it.
        process.kill()
        process.wait()


def _die_with_the_tests() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    """Free a moment ago: who takes one in between makes the start fail, with its message."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
