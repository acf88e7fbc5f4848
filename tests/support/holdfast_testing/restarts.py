"""What the tests of restarts and of upgrades have in common: a VIP, who asks for it, and a successor."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from holdfast_testing.hosts import Host, eventually

VIP, VIP6 = "10.77.0.200", "fd77::200"
_WAITS = "waiting until it ends"


def web(interval_ms: int = 100, version: int = 3, **spec: Any) -> str:
    """A VirtualIP document in which n1 is preferred and keeps what it has."""
    priorities = [{"nodeName": "n1", "priority": 110}, {"nodeName": "n2", "priority": 100}]
    return json.dumps(
        {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "VirtualIP",
            "metadata": {"name": "web"},
            "spec": {
                "addresses": [f"{VIP}/24"],
                "virtualRouterID": 51,
                "version": version,
                "advertisementIntervalMilliseconds": interval_ms,
                "nodes": {"priorities": priorities},
                **spec,
            },
        }
    )


def holder_and_backup(segment: Any, document: str) -> tuple[Host, Host]:
    """The first two hosts of a segment, the first one Master and the other its Backup."""
    n1, n2 = segment.hosts
    n1.run(document).becomes("Master")
    n2.run(document).becomes("Backup")
    n2.hears_a_master()
    return n1, n2


@contextlib.contextmanager
def probed(segment: Any, address: str = VIP) -> Iterator[Callable[[], int]]:
    """The client asks every two milliseconds; what this gives ends that and tells how many were not answered."""
    command = segment.client.command(["ping", "-n", "-q", "-i", "0.002", "-W", "1", address])
    # Resolved before, so that the first probes do not wait for an answer to ARP or neighbour discovery.
    assert segment.answers(address)
    ping = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def lost() -> int:
        time.sleep(0.5)  # what is lost just after a move counts, too
        ping.send_signal(signal.SIGINT)
        told, _ = ping.communicate(timeout=10)
        sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", told)[0])
        assert sent > 100
        return max(0, sent - received - 1)  # the last one may still be under way when ping is stopped

    try:
        yield lost
    finally:
        ping.kill()
        ping.wait()


def waiting_successors(host: Host) -> int:
    """How many successors have said so far that they wait."""
    return len([message for message in host.messages() if _WAITS in message])


def restart(host: Host) -> None:
    """What an upgrade does: the new one starts beside the old one, which is then told to stop."""
    old, former = host.process, host.engine
    assert old is not None
    waiting = waiting_successors(host)
    host.run()
    eventually(lambda: waiting_successors(host) > waiting, "the successor waits")
    old.terminate()
    assert old.wait(timeout=5) == 0
    eventually(lambda: host.status.get("pid", former) != former, "the successor runs")
