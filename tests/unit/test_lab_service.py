"""The service on each host of a lab."""

from __future__ import annotations

import os
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from holdfast_lab import processes


@pytest.fixture
def port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def service(port):
    command = [sys.executable, "-P", "-m", "holdfast_lab.service", "n1", str(port)]
    identity = processes.spawn(command, ready=True, environment=dict(os.environ))
    yield identity
    processes.end_tree(identity)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_it_answers_with_the_hosts_name_on_both_families(service, port, host):
    if ":" in host and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with urllib.request.urlopen(f"http://{host}:{port}/any/path", timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"n1\n")


def test_a_connection_without_a_word_does_not_keep_others_waiting(service, port):
    with (
        socket.create_connection(("127.0.0.1", port)),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer,
    ):
        assert answer.read() == b"n1\n"
