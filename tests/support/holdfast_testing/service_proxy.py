"""A service proxy that tests play: what kube-proxy answers at healthCheckNodePorts, with connections that are kept.

As a program (COMMAND) it prints its ports and goes on until its standard input ends; each line there says how many
ready endpoints there are from now on, and is answered with how often it was asked so far.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Final

COMMAND: Final = (sys.executable, __file__)
"""Its command line, for which this package need not be installed."""


class ServiceProxy:
    """One port, for one Service."""

    def __init__(self, endpoints: int = 1, address: str = "127.0.0.1", port: int = 0) -> None:
        self.endpoints = endpoints
        self._address = address
        self.is_healthy = True
        self.is_mute = False
        """Whether it takes connections and requests, and answers none."""
        self.raw: bytes | None = None
        """What it answers in place of what kube-proxy would."""
        self.port = port
        self.asked = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()

    async def start(self) -> None:
        """Listen, at the same port as before where there was one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As a process that ends: its connections end with it, and new ones are refused."""
        if self._server is not None:
            self._server.close()
            for transport in list(self._transports):
                transport.abort()
            await self._server.wait_closed()
            self._server = None

    def answer(self) -> bytes:
        """What kube-proxy answers."""
        if self.raw is not None:
            return self.raw
        told = {
            "service": {"namespace": "shop", "name": "web"},
            "localEndpoints": self.endpoints,
            "serviceProxyHealthy": self.is_healthy,
        }
        body = json.dumps(told, indent=1).encode()
        status = b"200 OK" if self.endpoints and self.is_healthy else b"503 Service Unavailable"
        head = b"Content-Type: application/json\r\nX-Load-Balancing-Endpoint-Weight: %d" % self.endpoints
        return b"HTTP/1.1 %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (status, head, len(body), body)

    def took(self, transport: asyncio.Transport) -> None:
        """A connection was made."""
        self.connections += 1
        self._transports.add(transport)

    def lost(self, transport: asyncio.Transport) -> None:
        """A connection has ended."""
        self._transports.discard(transport)


class _Connection(asyncio.Protocol):
    def __init__(self, proxy: ServiceProxy) -> None:
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.took(transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._proxy.asked += data.count(b"\r\n\r\n")
        if not self._proxy.is_mute:
            self._transport.write(self._proxy.answer())

    def connection_lost(self, _error: Exception | None) -> None:
        assert self._transport is not None
        self._proxy.lost(self._transport)


async def _serve(arguments: argparse.Namespace) -> None:
    proxies = [ServiceProxy(arguments.endpoints, arguments.address, arguments.port) for _ in range(arguments.count)]
    for proxy in proxies:
        await proxy.start()
    print(*(proxy.port for proxy in proxies), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        for proxy in proxies:
            proxy.endpoints = int(line)
        print(sum(proxy.asked for proxy in proxies), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="service_proxy")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="by default any that is free")
    parser.add_argument("--count", type=int, default=1, help="of ports")
    parser.add_argument("--endpoints", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
