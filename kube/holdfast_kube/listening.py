"""Where an HTTP server listens."""

from __future__ import annotations

import errno
import re
import socket
from dataclasses import dataclass

from holdfast_api.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Address:
    """An empty host is every address of both families."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, field: str = "") -> Address:
        """HOST:PORT, [IPv6]:PORT or :PORT. Raises ConfigurationError, which names the field, if one is given.

        >>> Address.parse("[::1]:9475", "--metrics-address"), Address.parse(":9475", "--metrics-address").host
        (Address(host='::1', port=9475), '')
        """
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]*)):([0-9]{1,5})", text)
        if match is None or int(match[3]) > 65535:
            raise ConfigurationError(f"must be HOST:PORT, [IPv6]:PORT or :PORT, and is {text!r}", field=field)
        return cls(match[1] or match[2] or "", int(match[3]))

    def bind(self) -> socket.socket:
        """A socket that listens there. Raises OSError, also where another process listens there already."""
        try:
            return socket.create_server((self.host, self.port), family=self._family, dualstack_ipv6=not self.host)
        except OSError as error:
            if self.host or error.errno != errno.EAFNOSUPPORT:
                raise
        return socket.create_server(("", self.port))  # a host without IPv6

    @property
    def _family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if not self.host or ":" in self.host else socket.AF_INET
