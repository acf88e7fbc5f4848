"""Pods that answer on a TCP port, and a connection to one that is held open while something is done."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from holdfast_testing.kind_cluster import KindCluster
from holdfast_testing.kubernetes_vips import IMAGE

_SERVER = """
import asyncio, sys

async def serve(reader, writer):
    try:
        while chunk := await reader.read(100):
            writer.write(chunk)
    except OSError:
        pass
    finally:
        writer.close()

async def main():
    server = await asyncio.start_server(serve, None, int(sys.argv[1]), backlog=4096)
    await server.serve_forever()

asyncio.run(main())
"""

PORT = 18080


@dataclass
class ServedPods:
    """A DaemonSet on the workers whose pods echo what they are sent, with a Service unless on the host's network."""

    cluster: KindCluster
    name: str
    is_on_host_network: bool = False
    external_addresses: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        """What clients of a VIP connect to."""
        return PORT if self.is_on_host_network else 80

    @property
    def _manifest(self) -> str:
        labels = {"app": self.name}
        container = {
            "name": "server",
            "image": ":".join(IMAGE),
            "imagePullPolicy": "Never",
            "command": ["python3", "-c", _SERVER, str(PORT)],
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        }
        pod = {"hostNetwork": self.is_on_host_network, "terminationGracePeriodSeconds": 0, "containers": [container]}
        daemon_set = {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": self.name, "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": "default"},
            "spec": {
                "selector": labels,
                "ports": [{"port": 80, "targetPort": PORT}],
                "externalIPs": self.external_addresses,
            },
        }
        items = [daemon_set] if self.is_on_host_network else [daemon_set, service]
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})

    @contextlib.contextmanager
    def running(self) -> Iterator[ServedPods]:
        """Ready inside of the block, gone after it."""
        self.cluster.apply(self._manifest)
        try:
            self.cluster.kubectl("rollout", "status", f"daemonset/{self.name}", "--timeout=90s")
            yield self
        finally:
            self.cluster.delete(self._manifest)

    def is_reached(self, address: str) -> bool:
        """Whether one of them echoes what it is sent through this address."""
        try:
            with socket.create_connection((address, self.port), timeout=1) as connection:
                connection.sendall(b"?")
                return connection.recv(1) == b"?"
        except OSError:
            return False


class OpenConnection:
    """A connection that asks every 10 ms and is answered, until it breaks or the block ends."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.create_connection((address, port), timeout=5)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self.longest_wait_ms = 0.0
        self.broke = ""
        """What the client was told when it broke; empty as long as it did not."""

    def __enter__(self) -> OpenConnection:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _talk(self) -> None:
        while not self._ended.wait(0.01):
            asked = time.monotonic()
            try:
                self._socket.sendall(b"x")
                if not self._socket.recv(1):
                    self.broke = "closed"
            except OSError as error:
                self.broke = str(error)
            self.longest_wait_ms = max(self.longest_wait_ms, (time.monotonic() - asked) * 1e3)
            if self.broke:
                return
