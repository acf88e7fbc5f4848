"""What a change, a death, a restart and an outage cost a cluster: `python -m bench.cluster`, from the checkout's top.

A real kube-apiserver with etcd, the operator, and agents, on one machine; engines are played, and of the nodes without
an agent what they write. The table goes to standard output, with every sample to the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.accounts import proportional_mebibytes
from bench.cluster_size import Size
from bench.cluster_world import World, make_node, world
from bench.figures import Goal, Series, Statistic, table_alone

from holdfast_api.errors import EnvironmentFailure
from holdfast_testing.api_server import build_programs, find_programs
from holdfast_testing.holdfast_objects import API

_TOLD_WITHIN_SECONDS = 120.0


def _say(words: str) -> None:
    print(f"bench-cluster: {words}", file=sys.stderr, flush=True)


def _most(limit: float) -> Goal:
    return Goal(Statistic.MAXIMUM, limit)


class Works:
    """Each measures something, and adds its samples."""

    def __init__(self, there: World, options: argparse.Namespace) -> None:
        self._world = there
        self._size = there.size
        self._options = options
        self.series: dict[str, Series] = {}

    def _add(self, title: str, unit: str, sample: float, goal: Goal | None = None) -> None:
        self.series.setdefault(title, Series(title, unit, goal)).holdfast.append(sample)

    def memory(self) -> None:
        """Of the processes that run one part alone."""
        there = self._world
        self._add("memory of the operator (proportional)", "MiB", _memory(there.operator.process.pid), _most(300))
        self._add("memory of an agent in a process of its own", "MiB", _memory(there.alone.pid), _most(60))

    def steady(self) -> None:
        """Nothing happens."""
        before = self._world.counts()
        time.sleep(self._options.calm)
        done = self._world.counts() - before
        self._add(f"steady state, {self._options.calm:g} s: writes", "writes", done.writes.total(), _most(0))
        self._add("steady state: bytes listed", "kB", done.listed_bytes / 1e3)

    def change(self, number: int) -> None:
        """The priority of one VirtualIP, of another link each time."""
        there, size = self._world, self._size
        link = number % size.links
        vip = size.vips_of(link)[0]
        namespace, _, name = vip.partition("/")
        concerned = size.on_link(link)
        awaited = set(concerned) & set(size.agent_names)
        before = there.counts()
        there.agents.forget()
        patch = {"spec": {"priority": 101 + number}}
        answer = there.server.admin.merge(f"{API}/namespaces/{namespace}/virtualips/{name}", patch)
        began = time.monotonic()
        if answer.status != 200:
            raise EnvironmentFailure(answer.message)
        last = began
        while awaited:
            news = there.agents.wait_for(lambda line: vip in line.get("changed", ()), _TOLD_WITHIN_SECONDS)
            if news is None:
                raise EnvironmentFailure(f"{vip} is not told to the engines of {sorted(awaited)}")
            awaited.discard(news["configured"])
            last = max(last, news["at"])
        there.settle()
        done = there.counts() - before
        title = "one VirtualIP changed"
        self._add(f"{title}: time to the last engine of an agent", "ms", max(0.0, last - began) * 1e3, _median(150))
        self._add(f"{title}: SpeakerConfigs written", "objects", done.writes["speakerconfigs"], _most(len(concerned)))
        self._add(f"{title}: all writes", "writes", done.writes.total())
        self._add(f"{title}: lists", "lists", done.lists, _most(0))
        self._add(f"{title}: bytes listed (compressed)", "kB", done.listed_bytes / 1e3, _most(0))

    def join(self) -> None:
        """A node with an address on one of the links."""
        there, size = self._world, self._size
        number, there.joining = there.joining, there.joining + 1
        before, began = there.counts(), time.monotonic()
        make_node(there.server, size, number)
        path, wanted = f"{API}/speakerconfigs/{size.node(number)}", len(size.vips_of(number % size.links))
        while True:
            answer = there.server.admin.request("GET", path)
            if len((answer.body.get("spec") or {}).get("virtualRouters", ())) == wanted:
                break
            if time.monotonic() - began > _TOLD_WITHIN_SECONDS:
                raise EnvironmentFailure(f"{size.node(number)} is not planned")
            time.sleep(0.05)
        took = time.monotonic() - began
        there.settle()
        done = there.counts() - before
        self._add("a node joins: writes of SpeakerConfigs", "writes", done.writes["speakerconfigs"])
        self._add("a node joins: time until its VIPs are planned", "ms", took * 1e3)

    def restart(self) -> None:
        """The operator's process anew; the Lease was given back."""
        there = self._world
        before, began = there.counts(), there.restart_operator()
        while there.operator.metric('holdfast_operator_reconciles_total{result="success"}') < 1:
            if time.monotonic() - began > _TOLD_WITHIN_SECONDS:
                raise EnvironmentFailure("the operator does not come back")
            time.sleep(0.05)
        self._add("operator restarted: planned again", "s", time.monotonic() - began, _most(5))
        there.settle()
        done = there.counts() - before
        self._add("operator restarted: writes", "writes", done.writes.total(), _most(0))

    def outage(self) -> None:
        """The API server is away, and comes back on the same etcd."""
        there, size = self._world, self._size
        moves = {vip: there.status(vip).get("moves", 0) for vip in size.holders}
        there.report()
        there.server.restart(self._options.outage)
        time.sleep(self._options.calm)
        there.settle()
        told = there.report()
        title = f"API server back after {self._options.outage:g} s"
        for each in told.values():
            self._add(f"{title}: listed by an agent", "kB", each["listed_bytes"] / 1e3, _most(200))
        at = [each["last_list_at"] for each in told.values() if each["lists"]]
        if at:
            self._add(
                f"{title}: last list of the last agent after that of the first (30 wanted)", "s", max(at) - min(at)
            )
        moved = sum(there.status(vip).get("moves", 0) - before for vip, before in moves.items())
        self._add(f"{title}: moves", "moves", moved, _most(0))

    def death(self, link: int) -> None:
        """A node that holds all VIPs of its link is without power, and the next one takes over.

        That its pod is not Ready, which the control plane would find out after 40 s, is said at once.
        """
        there, size = self._world, self._size
        dead, heir = size.on_link(link)[:2]
        vips = size.vips_of(link)
        if dead in size.agent_names:
            there.agents.say(do="kill", node=dead)
        there.report()
        before, began = there.counts(), time.monotonic()
        there.promote(heir)
        there.say_ready(dead, ready=False)
        there.wait_for_holders(dict.fromkeys(vips, heir), _TOLD_WITHIN_SECONDS)
        took = time.monotonic() - began
        there.settle()
        done, told = there.counts() - before, there.report()
        title = "a holder dies"
        self._add(f"{title}: VIPs that move", "VIPs", len(vips))
        self._add(f"{title}: every status right", "s", took, _most(5))
        self._add(
            f"{title}: writes for each VIP, events among them", "writes", done.writes.total() / len(vips), _most(4)
        )
        members = set(size.on_link(link))
        for name, each in told.items():
            kilobytes = each["watched_bytes"] / 1e3 / len(vips)
            if name in members:
                self._add(f"{title}: told to an agent of the link, for each VIP", "kB", kilobytes)
            else:
                self._add(f"{title}: told to any other agent, for each VIP", "kB", kilobytes, _most(0))


def _median(limit: float) -> Goal:
    return Goal(Statistic.MEDIAN, limit)


def _memory(pid: int) -> float:
    return proportional_mebibytes([pid])


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-cluster", description="Measure what a cluster costs.")
    parser.add_argument("--vips", type=int, default=40)
    parser.add_argument("--nodes", type=int, default=12)
    parser.add_argument("--links", type=int, default=2)
    parser.add_argument("--agents", type=int, default=6, help="nodes with an agent; what the others write is replayed")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="of each change (default: 5)")
    parser.add_argument("--outage", type=float, default=10, metavar="SECONDS", help="how long the API server is away")
    parser.add_argument("--calm", type=float, default=20, metavar="SECONDS", help="steady state, and after an outage")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-cluster"), help="for the results")
    options = parser.parse_args(arguments)
    if options.repetitions < 1:
        parser.error("at least one repetition is needed")
    try:
        options.size = Size(options.vips, options.nodes, options.links, options.agents)
    except ValueError as error:
        parser.error(str(error))
    return options


def _measure(works: Works, options: argparse.Namespace) -> list[str]:
    """All of it, what takes things away last; what failed of it, in words."""
    times = range(options.repetitions)
    steps = [("memory", works.memory), ("steady state", works.steady)]
    steps += [(f"change {number + 1}", lambda number=number: works.change(number)) for number in times]
    steps += [(f"join {number + 1}", works.join) for number in times]
    steps += [(f"restart {number + 1}", works.restart) for number in times]
    steps += [("outage", works.outage)]
    deaths = min(options.repetitions, options.size.links)
    steps += [(f"death {link + 1}", lambda link=link: works.death(link)) for link in range(deaths)]
    failures = []
    for name, step in steps:
        began = time.monotonic()
        try:
            step()
        except (EnvironmentFailure, OSError) as error:
            failures.append(f"{name}: {error}")
            _say(f"failed: {failures[-1]}")
        else:
            _say(f"{name} in {time.monotonic() - began:.1f} s")
    return failures


def _publish(options: argparse.Namespace, series: Sequence[Series], failures: Sequence[str]) -> None:
    size = options.size
    machine = f"Python {platform.python_version()}; Linux {platform.release()}; {os.cpu_count()} cores"
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    head = (
        f"{size.vips} VIPs, {size.nodes} nodes on {size.links} links, {size.agents} agents; {machine}; "
        f"load at the end {load}"
    )
    told = "".join(f"- failed: {failure}\n" for failure in failures)
    text = f"{head}\n\n{table_alone(series)}\n{told}"
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "table.md").write_text(text, encoding="utf-8")
    samples = {one.title: {"unit": one.unit, "samples": one.holdfast} for one in series}
    (options.folder / "samples.json").write_text(json.dumps(samples, indent=1) + "\n", encoding="utf-8")
    print(text)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run it all; 0 when everything could be carried out, whatever its figures."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # so that nothing that was started stays
    programs = find_programs() or build_programs()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        world(  # short: a socket's path is
            programs, options.size, Path(name), options.repetitions, _say
        ) as there,
    ):
        works = Works(there, options)
        failures = _measure(works, options)
        _publish(options, list(works.series.values()), failures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
