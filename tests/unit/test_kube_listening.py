"""Where an HTTP server listens."""

from __future__ import annotations

import errno
import os
import re
import socket

import pytest

from holdfast_api.errors import ConfigurationError
from holdfast_kube.listening import Address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":9475", "", 9475),
        ("0.0.0.0:8080", "0.0.0.0", 8080),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::]:8080", "::", 8080),
        ("[::1]:9475", "::1", 9475),
        ("localhost:80", "localhost", 80),
    ],
)
def test_an_address_has_a_host_and_a_port(text, host, port):
    assert Address.parse(text, "--address") == Address(host, port)


@pytest.mark.parametrize(
    "text", ["9475", "::1:9475", "host:", "host:http", "host:65536", "host:-1", "host:٣", "[::1]", "[host]:1"]
)
def test_what_is_no_address_is_refused_with_its_field(text):
    with pytest.raises(ConfigurationError, match=rf"^--address: must be HOST:PORT, .* and is {re.escape(repr(text))}$"):
        Address.parse(text, "--address")


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_an_address_is_never_shared(host):
    with Address(host, 0).bind() as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            Address(host, port).bind()
    Address(host, port).bind().close()


def test_every_address_means_both_families():
    listener = Address("", 0).bind()
    with listener, socket.create_connection(("127.0.0.1", listener.getsockname()[1]), 10):
        pass
