"""The address families of sockets and netlink, by the width of their addresses in bytes, and the other way round."""

from __future__ import annotations

import socket

FAMILIES = {4: int(socket.AF_INET), 16: int(socket.AF_INET6)}
WIDTHS = {family: width for width, family in FAMILIES.items()}
