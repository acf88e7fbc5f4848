"""The service that each host of a lab runs: it answers every HTTP GET with the host's name.

Run as `python -m holdfast_lab.service NAME PORT...` in the host's network namespace. It prints one line when it listens
on all ports, on every address of both families.
"""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from pathlib import Path

# A machine without IPv6 has not got this file.
_HAS_IPV6 = Path("/proc/net/if_inet6").exists()


class _Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if _HAS_IPV6 else socket.AF_INET
    daemon_threads = True

    def server_bind(self) -> None:
        if _HAS_IPV6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # The base class of http.server looks its own name up in DNS here, which can take seconds in a namespace.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "", self.server_address[1]


def _handler(answer: bytes) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing: probes come every few milliseconds."""

    return Handler


def serve(name: str, ports: list[int]) -> None:
    """Listen on the ports and answer for good; OSError when a port is taken."""
    servers = [_Server(("::" if _HAS_IPV6 else "", port), _handler(f"{name}\n".encode())) for port in ports]
    print("ready", flush=True)
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], [int(port) for port in sys.argv[2:]])
