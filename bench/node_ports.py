"""What looking at healthCheckNodePorts costs an agent: `python -m bench.node_ports`, from the top of the checkout.

Two agents stand side by side, each with the same SpeakerConfig and neither with an API server or an engine: one has a
healthCheckNodePort in each of its VirtualIPs, and a service proxy that answers there, the other one has none. No root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_SERVICE_PROXY = Path(__file__).parents[1] / "tests" / "support" / "holdfast_testing" / "service_proxy.py"
_CALM_SECONDS = 5.0
_GOAL_PERCENT = 5.0
_NO_API_SERVER = {
    "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
}


def main() -> int:
    """Measure, and print. 1 where the ports cost more than 5 % of a core."""
    parser = argparse.ArgumentParser(prog="python -m bench.node_ports", description=__doc__)
    parser.add_argument("--ports", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--endpoints", type=int, default=1, help="of each Service on this node; 0: it answers 503")
    options = parser.parse_args()
    words = [f"--count={options.ports}", f"--endpoints={options.endpoints}"]
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder,
        subprocess.Popen(
            [sys.executable, str(_SERVICE_PROXY), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as proxy,
    ):
        try:
            ports = [int(word) for word in _line(proxy).split()]
            agents = [
                _agent(Path(folder) / "looks", [[port] for port in ports]),
                _agent(Path(folder) / "idle", [[] for _ in ports]),
            ]
            try:
                time.sleep(_CALM_SECONDS)
                looks, idle, asked, seconds = _measure(proxy, agents, options.endpoints, options.seconds)
            finally:
                for agent in agents:
                    agent.kill()
                    agent.wait()
        finally:
            proxy.kill()
    cost = looks - idle
    print(f"{options.ports} ports, {asked / seconds:.0f} looks a second, over {seconds:.0f} s")
    print(f"of a core: {looks:.2f} % with the ports, {idle:.2f} % without, so they cost {cost:.2f} %")
    return 0 if cost <= _GOAL_PERCENT else 1


def _measure(
    proxy: subprocess.Popen[str], agents: Sequence[subprocess.Popen[bytes]], endpoints: int, seconds: float
) -> tuple[float, float, int, float]:
    def asked() -> int:
        assert proxy.stdin is not None
        proxy.stdin.write(f"{endpoints}\n")
        proxy.stdin.flush()
        return int(_line(proxy))

    began, before, asked_before = time.monotonic(), [_processor_seconds(agent.pid) for agent in agents], asked()
    time.sleep(seconds)
    passed, after, asked_after = time.monotonic(), [_processor_seconds(agent.pid) for agent in agents], asked()
    length = passed - began
    looks, idle = (100 * (late - early) / length for early, late in zip(before, after, strict=True))
    return looks, idle, asked_after - asked_before, length


def _agent(folder: Path, ports: Sequence[Sequence[int]]) -> subprocess.Popen[bytes]:
    """One that goes on with a SpeakerConfig that it was told of before."""
    (folder / "cache").mkdir(parents=True)
    tracking = [{"virtualIP": f"shop/s{index}", "healthCheckNodePorts": of_one} for index, of_one in enumerate(ports)]
    kept = {"uid": "u", "generation": 1, "spec": {"nodeName": "n1", "tracking": tracking}}
    (folder / "cache" / "speaker-config.json").write_text(json.dumps(kept), encoding="utf-8")
    (folder / "kubeconfig").write_text(json.dumps(_NO_API_SERVER), encoding="utf-8")
    options = ["--node-name=n1", f"--state-dir={folder}", f"--cache-dir={folder}/cache", "--metrics-address="]
    command = [sys.executable, "-P", "-m", "holdfast_speaker.agent", *options, f"--kubeconfig={folder}/kubeconfig"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([*command, "--host-address=127.0.0.1"], stderr=log)


def _line(proxy: subprocess.Popen[str]) -> str:
    assert proxy.stdout is not None
    line = proxy.stdout.readline()
    if not line:
        raise SystemExit("bench: the service proxy has ended (too few descriptors?)")
    return line


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
