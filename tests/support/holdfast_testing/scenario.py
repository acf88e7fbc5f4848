"""Scenarios as text: what happens to a few nodes, and what comes of it. The language is told in docs/scenarios.md.

A file is comments, and blocks of commands, a line of four dashes, and the output that the commands gave. `play` runs
the commands over real engines on a virtual LAN and returns the file with the output as it is now.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

from holdfast_api.addresses import packed, packed_interface
from holdfast_api.errors import ConfigurationError
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health
from holdfast_speaker.engine.ports import AddAddress
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, MULTICAST_GROUP_V6, decode
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_speaker.vrrp.states import Backup, CutOff, Initialize, Knowledge, Master
from holdfast_testing.scenario_packets import foreign_datagram
from holdfast_testing.scenario_settings import SETTINGS, Settings, nanoseconds
from holdfast_testing.sim.interfaces import NODAD
from holdfast_testing.sim.kernel import SimulatedKernel
from holdfast_testing.sim.machine import ETH0, Host
from holdfast_testing.sim.timeline import EPOCH
from holdfast_testing.sim.wire import TTL, SimulatedWire
from holdfast_testing.virtual_lan import (
    DELAY,
    SECOND_VIRTUAL_IP,
    VIRTUAL_IP,
    Announced,
    Happening,
    HoldsAddresses,
    Logged,
    VirtualLan,
    Wanted,
)

_FORKED_AFTER = Duration(5 * MILLISECOND)
_SUCCEEDED_AFTER = Duration(50 * MILLISECOND)

RULE = "----"
TRACES = ("adverts", "announcements", "addresses", "log")


class ScenarioError(AssertionError):
    """A command that cannot be understood, or an expectation that was not met: names the file and the line."""


def play(path: Path, scenario: Scenario | None = None) -> str:
    """The file's text with the output that its commands give. Raises ScenarioError."""
    scenario = scenario or Scenario()
    result: list[str] = []
    in_output = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if in_output:
            in_output = line != ""
            if in_output and not line[0].isdigit():
                raise ScenarioError(f"{path.name}:{number}: after {RULE} comes output, or an empty line and commands")
            if in_output:
                continue
        command = line.partition("#")[0].strip()
        result.append(line)
        if command == RULE:
            result += scenario.output()
            in_output = True
        elif command:
            try:
                scenario.do(command.split())
            except (ScenarioError, ConfigurationError) as error:
                raise ScenarioError(f"{path.name}:{number}: {command}: {error}") from error
    if not in_output and scenario.output():
        raise ScenarioError(f"{path.name}: what the last commands gave is not shown; end with {RULE}")
    return "\n".join(result).rstrip("\n") + "\n"


def seconds(span: int) -> str:
    """An exact time in seconds, with three decimals and as many more as it takes."""
    whole, fraction = divmod(span, SECOND)
    return f"{whole}.{f'{fraction:09d}'.rstrip('0'):<03}"


class Scenario:
    """The state of one run. Each command is a method `_do_...`."""

    def __init__(self) -> None:
        self._settings: dict[str, Settings] = {}
        self._made: VirtualLan | None = None
        self._zero = EPOCH
        self._shown = 0
        self._lines: list[str] = []
        self._traces: set[str] = set()
        self._began: set[str] = set()

    def do(self, words: list[str]) -> None:
        """Carry out one command."""
        name, *arguments = words
        method: Callable[[list[str]], None] | None = getattr(self, "_do_" + name.replace("-", "_"), None)
        if method is None:
            raise ScenarioError(f"no such command; there are: {', '.join(COMMANDS)}")
        method(arguments)
        if self._made is not None:
            self._made.run(0)
        self._collect()

    def output(self) -> list[str]:
        """What was written since the last call."""
        lines, self._lines = self._lines, []
        return lines

    # ----- nodes and their settings -----

    def _do_nodes(self, words: list[str]) -> None:
        if self._made is not None:
            raise ScenarioError("the nodes are there already")
        pairs = dict(map(_pair, words))
        common = {key: value for key, value in pairs.items() if key in SETTINGS}
        names = [key for key in pairs if key not in SETTINGS]
        if not names or not all(re.fullmatch(r"[a-z]", name) for name in names):
            raise ScenarioError("give each node one letter and a priority, as in a=200")
        for number, name in enumerate(names, start=1):
            self._settings[name] = Settings.of_node(number, {**common, "priority": pairs[name]})
        self._made = VirtualLan({name: self._wanted(name) for name in names})

    def _do_set(self, words: list[str]) -> None:
        for name in self._names(words[:1]):
            self._settings[name].change(dict(map(_pair, words[1:])))
        for name in self._names(words[:1]):
            self._lan.want(name, self._wanted(name))

    def _do_start(self, words: list[str]) -> None:
        for name in self._names(words):
            self._began.add(name)
            self._lan.start(name)

    def _do_stop(self, words: list[str]) -> None:
        self._each(words, self._lan.stop)

    def _do_kill(self, words: list[str]) -> None:
        self._each(words, self._lan.kill)

    def _do_freeze(self, words: list[str]) -> None:
        self._each(words, lambda name: self._host(name).freeze())

    def _do_freeze_late(self, words: list[str]) -> None:
        self._each(words, lambda name: self._host(name).freeze(after_epoll=True))

    def _do_thaw(self, words: list[str]) -> None:
        self._each(words, lambda name: self._host(name).thaw())

    def _do_thaw_lost(self, words: list[str]) -> None:
        self._each(words, lambda name: self._host(name).thaw(queue_lost=True))

    def _do_fail(self, words: list[str]) -> None:
        self._each(words, lambda name: self._lan.report_health(name, Health.FAILING))

    def _do_recover(self, words: list[str]) -> None:
        self._each(words, lambda name: self._lan.report_health(name, Health.HEALTHY))

    def _do_link_down(self, words: list[str]) -> None:
        self._on_kernels(words, lambda kernel: kernel.set_carrier(ETH0, False))

    def _do_link_off(self, words: list[str]) -> None:
        self._on_kernels(words, lambda kernel: kernel.set_up(ETH0, False))

    def _do_link_up(self, words: list[str]) -> None:
        self._each(words, self._lan.switch_on)

    # ----- what happens to a host -----

    def _do_kernel_refuses(self, words: list[str]) -> None:
        self._each(words, lambda name: _refuse(self._host(name).kernel, errno.ENOBUFS))

    def _do_kernel_accepts(self, words: list[str]) -> None:
        self._each(words, lambda name: _refuse(self._host(name).kernel, 0))

    def _do_ipv6_off(self, words: list[str]) -> None:
        self._on_kernels(words, lambda kernel: kernel.set_disable_ipv6(ETH0, True))

    def _do_ipv6_on(self, words: list[str]) -> None:
        self._on_kernels(words, lambda kernel: kernel.set_disable_ipv6(ETH0, False))
        self._each(words, self._lan.give_own_addresses)

    def _do_mtu(self, words: list[str]) -> None:
        name, mtu = self._one(words[:1]), int(words[1])
        self._on_kernels([name], lambda kernel: kernel.set_mtu(ETH0, mtu))
        self._lan.give_own_addresses(name)

    def _do_mac(self, words: list[str]) -> None:
        mac = bytes.fromhex(words[1].replace(":", ""))
        self._on_kernels(words[:1], lambda kernel: kernel.set_mac(ETH0, mac))

    def _do_add(self, words: list[str]) -> None:
        self._change_address(words, lambda kernel, *place: kernel.add_address(*place, flags=NODAD))

    def _do_remove(self, words: list[str]) -> None:
        self._change_address(words, lambda kernel, *place: kernel.remove_address(*place))

    def _change_address(self, words: list[str], change: Callable[[SimulatedKernel, int, bytes, int], object]) -> None:
        name = self._one(words[:1])
        address, length = packed_interface(words[1])
        link = words[2] if len(words) > 2 else None

        def do(kernel: SimulatedKernel) -> None:
            change(kernel, ETH0 if link is None else kernel.index(link), address, length)

        self._host(name).act(do)

    def _do_renew(self, words: list[str]) -> None:
        self._each(words, self._lan.renew_own_addresses)

    def _do_rename(self, words: list[str]) -> None:
        self._on_kernels(words[:1], lambda kernel: kernel.rename(ETH0, words[1]))

    def _do_bridge(self, words: list[str]) -> None:
        self._each(words, self._lan.make_bridge)

    def _do_link_gone(self, words: list[str]) -> None:
        self._on_kernels(words, lambda kernel: kernel.remove_link(ETH0))

    def _do_link_back(self, words: list[str]) -> None:
        self._each(words, self._lan.add_link)

    def _do_overrun(self, words: list[str]) -> None:
        self._on_kernels(words, lambda kernel: kernel.lose_events())

    def _do_firewall(self, words: list[str]) -> None:
        self._each(words, lambda name: _refuse_sending(self._host(name).wire, errno.EPERM))

    def _do_firewall_off(self, words: list[str]) -> None:
        self._each(words, lambda name: _refuse_sending(self._host(name).wire, 0))

    def _do_port_closed(self, words: list[str]) -> None:
        self._each(words, lambda name: self._host(name).block("port"))

    def _do_port_open(self, words: list[str]) -> None:
        self._each(words, lambda name: self._host(name).unblock("port"))

    def _do_kill_engine(self, words: list[str]) -> None:
        for name in self._names(words):
            self._host(name).kill_engine()
            self._lan.timeline.at(self._lan.now + _FORKED_AFTER, self._host(name).fork_anew)

    def _do_hand_over(self, words: list[str]) -> None:
        for name in self._names(words):
            self._host(name).hand_over()
            self._lan.timeline.at(self._lan.now + _SUCCEEDED_AFTER, self._host(name).succeed)

    def _do_suspend(self, words: list[str]) -> None:
        self._each(words, lambda name: self._host(name).suspend())

    def _do_resume(self, words: list[str]) -> None:
        self._each(words, lambda name: self._host(name).resume())

    def _do_neighbour(self, words: list[str]) -> None:
        self._lan.add_neighbour(words[0], [packed_interface(text) for text in words[1:]])

    def _do_neighbour_gone(self, words: list[str]) -> None:
        self._lan.remove_neighbour(words[0])

    # ----- wishes -----

    def _do_switchover(self, words: list[str]) -> None:
        name = self._one(words)
        self._host(name).switch_over(VIRTUAL_IP, name)

    def _do_step_aside(self, words: list[str]) -> None:
        self._host(self._one(words)).switch_over(VIRTUAL_IP, "another")

    # ----- the link -----

    def _do_cut(self, words: list[str]) -> None:
        pairs = dict(_pair(word) for word in words if "=" in word)
        widths = {"4": (4,), "6": (16,)}.get(pairs.get("family", ""), (4, 16))
        places = [word for word in words if "=" not in word]
        if len(places) == 1 and "->" in places[0]:
            sender, receiver = self._names(places[0].split("->"))
            self._lan.cut(sender, receiver, widths)
            return
        one, *others = self._names(places)
        for other in others or [name for name in self._settings if name != one]:
            self._lan.cut(one, other, widths)
            self._lan.cut(other, one, widths)

    def _do_heal(self, words: list[str]) -> None:
        self._lan.heal()

    def _do_inject(self, words: list[str]) -> None:
        name = self._one(words[:1])
        fields = dict(map(_pair, words[1:]))
        repeat, every = int(fields.pop("repeat", "1")), nanoseconds(fields.pop("every", "0s"))
        given = fields.pop("from", "10.0.0.9")
        source = self._settings[given].sources[0] if given in self._settings else ip_address(given).packed
        datagram = foreign_datagram(self._router(name).configuration, source, fields)
        for turn in range(repeat):
            self._lan.inject(name, datagram, turn * every)

    # ----- time -----

    def _do_run(self, words: list[str]) -> None:
        self._lan.run(nanoseconds(" ".join(words)))

    def _do_stabilize(self, words: list[str]) -> None:
        """Start who never was, wait until nothing moves, and begin to count as an advertisement arrives."""
        for name in self._settings:
            if name not in self._began:
                self._began.add(name)
                self._lan.start(name)
        patience = 10 * max(settings.interval for settings in self._settings.values())
        for _ in range(20):
            seen = self._moves()
            self._lan.run(max(patience, 6 * SECOND))
            if self._moves() == seen:
                break
        else:
            raise ScenarioError(f"nothing is stable yet: {self._lan.happenings[-1]}")
        states = [router.state for router in self.routers.values()]
        deadlines = [state.next_advertisement_at for state in states if isinstance(state, Master)]
        if deadlines:
            self._lan.run(min(deadlines) + DELAY - self._lan.now)
        self._zero = self._lan.now
        self._shown = len(self._lan.happenings)

    def _moves(self) -> int:
        return sum(isinstance(happening.what, Transition) for happening in self._lan.happenings)

    # ----- questions -----

    def _do_expect(self, words: list[str]) -> None:
        virtual_ip = VIRTUAL_IP
        if words[:1] == ["2:"]:
            virtual_ip, words = SECOND_VIRTUAL_IP, words[1:]
        match words:
            case ["no", "holder"]:
                wanted: list[str] = []
            case ["holder", name]:
                wanted = self._names([name])
            case ["holders", *names]:
                wanted = self._names(names)
            case _:
                raise ScenarioError("expect 'holder a', 'holders a b' or 'no holder'")
        holders = self._lan.holders(virtual_ip)
        if holders != wanted:
            is_so = " ".join(holders) or "nobody"
            raise ScenarioError(f"at {self._time(self._lan.now)} the addresses are held by {is_so}")

    def _do_trace(self, words: list[str]) -> None:
        if words != ["off"] and not (words and set(words) <= set(TRACES)):
            raise ScenarioError(f"trace 'off', or some of: {', '.join(TRACES)}")
        self._traces = set() if words == ["off"] else set(words)

    def _do_counters(self, words: list[str]) -> None:
        name = self._one(words[:1])
        known = {counter.value: counter for counter in Counter}
        if not words[1:] or not set(words[1:]) <= known.keys():
            raise ScenarioError(f"name some of: {', '.join(known)}")
        counted = self._router(name).counters + self._host(name).engine.strangers.counters
        self._write(f"{name} counted " + " ".join(f"{word}={counted[known[word]]}" for word in words[1:]))

    def _do_kernel(self, words: list[str]) -> None:
        """The addresses of a node's links, as its kernel has them."""
        for name in self._names(words):
            self._write(f"{name} has {' '.join(self._lan.addresses_of(name)) or 'no address'}")

    def _do_where(self, words: list[str]) -> None:
        """Whom a client on the link reaches when it sends to an address."""
        for text in words:
            found = self._lan.where(packed(text))
            self._write(f"{text} is at {found or 'nobody'}")

    def _do_warnings(self, words: list[str]) -> None:
        for name in self._names(words):
            engine = self._host(name).engine
            texts = [text for one in engine.instances.values() for text in engine.warnings_of(one, self._lan.now)]
            self._write(f"{name} warns: {'; '.join(map(self._with_names, texts)) or 'of nothing'}")

    def _do_status(self, words: list[str]) -> None:
        for name in self._names(words):
            self._write(f"{name} is {self._told(name)}")

    def _told(self, name: str) -> str:
        router = self._lan.router(name)
        if router is None:
            return "not running"
        match router.state:
            case Initialize():
                return f"Initialize: {', '.join(sorted(router.obstacles))}"
            case Backup(known=known, due=due):
                hears = " and ".join(map(self._hears, known))
                return f"Backup: hears {hears}; takes over at {self._time(due)}"
            case Master(cut_off=CutOff(until=until)):
                return f"Master: cut off, and leaves at {self._time(until)}"
            case Master(next_advertisement_at=at):
                priority = f"{router.effective_priority}{' (unproved)' if router.unproved else ''}"
                return f"Master: priority {priority}, advertises next at {self._time(at)}"

    def _hears(self, known: Knowledge) -> str:
        heard = known.heard
        if heard is None:
            return "nobody"
        return f"{self._lan.name_of(heard.source)} (priority {heard.priority}, every {seconds(heard.interval)})"

    # ----- writing -----

    def _collect(self) -> None:
        if self._made is None:
            return
        for happening in self._made.happenings[self._shown :]:
            if (text := self._text(happening)) is not None:
                self._lines.append(f"{self._time(happening.at)} {happening.node} {text}")
        self._shown = len(self._made.happenings)

    def _text(self, happening: Happening) -> str | None:
        match happening.what:
            case Transition() as move:
                which = "" if move.virtual_ip == VIRTUAL_IP else "2: "
                return f"{which}{move.from_state} -> {move.to_state}  {move.reason}: {self._with_names(move.message)}"
            case HoldsAddresses(held=held) if "addresses" in self._traces:
                return "+addresses" if held else "-addresses"
            case Announced() if "announcements" in self._traces:
                return "announces"
            case Logged("refused", message):
                return f"refuses: {message}"
            case Logged(level, message) if "log" in self._traces:
                return f"{level}: {self._with_names(message)}"
            case SendAdvertisement() as sent if "adverts" in self._traces:
                return f"-> {self._destination(sent.destination)} {self._advertisement(sent)}"
        return None

    def _destination(self, address: bytes) -> str:
        return {MULTICAST_GROUP_V4: "all", MULTICAST_GROUP_V6: "all (IPv6)"}.get(address) or self._lan.name_of(address)

    def _advertisement(self, sent: SendAdvertisement) -> str:
        advertisement = decode(sent.payload, sent.source, sent.destination, TTL)
        return f"advertisement priority={advertisement.priority} interval={seconds(advertisement.interval)}"

    def _with_names(self, text: str) -> str:
        for name, settings in self._settings.items():
            for source in settings.sources:
                text = re.sub(rf"(?<![\w:.]){re.escape(str(ip_address(source)))}(?![\w:.])", name, text)
        return text

    def _write(self, text: str) -> None:
        self._collect()
        self._lines.append(f"{self._time(self._lan.now)} {text}")

    def _time(self, at: Instant) -> str:
        return seconds(at - self._zero)

    # ----- names -----

    @property
    def _lan(self) -> VirtualLan:
        if self._made is None:
            raise ScenarioError("begin with the nodes, as in: nodes a=200 b=150")
        return self._made

    @property
    def routers(self) -> dict[str, VirtualRouter]:
        """The routers that run now, by node."""
        if self._made is None:
            return {}
        found = {name: self._made.router(name) for name in self._made.hosts}
        return {name: router for name, router in found.items() if router is not None}

    def _host(self, name: str) -> Host:
        return self._lan.hosts[name]

    def _router(self, name: str) -> VirtualRouter:
        router = self._lan.router(name)
        if router is None:
            raise ScenarioError(f"{name} does not run")
        return router

    def _names(self, words: Iterable[str]) -> list[str]:
        names = [name for word in words for name in (self._settings if word == "all" else [word])]
        unknown = [name for name in names if name not in self._settings]
        if unknown or not names:
            raise ScenarioError(f"there is no node {' '.join(unknown)}" if unknown else "which node?")
        return names

    def _one(self, words: list[str]) -> str:
        names = self._names(words)
        if len(names) != 1:
            raise ScenarioError("one node, please")
        return names[0]

    def _each(self, words: list[str], change: Callable[[str], None]) -> None:
        for name in self._names(words):
            change(name)

    def _on_kernels(self, words: list[str], do: Callable[[SimulatedKernel], object]) -> None:
        for name in self._names(words):
            self._host(name).act(do)

    def _wanted(self, name: str) -> Wanted:
        others = [settings for other, settings in self._settings.items() if other != name]
        return self._settings[name].wanted(others)


COMMANDS = sorted(name[4:].replace("_", "-") for name in vars(Scenario) if name.startswith("_do_"))
"""Every command's name."""


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals or not value:
        raise ScenarioError(f"{word!r} is no setting, as in priority=100")
    return key, value


def _refuse(kernel: SimulatedKernel, code: int) -> None:
    kernel.refuse = lambda request: code if isinstance(request, AddAddress) else 0


def _refuse_sending(wire: SimulatedWire, code: int) -> None:
    wire.refuse_sending = lambda _index, _width: code
