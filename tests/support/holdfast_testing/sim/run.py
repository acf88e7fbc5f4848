"""One seed from its bad time to the end, many seeds, and what is kept of one that fails."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import subprocess
import tempfile
from collections import Counter as Multiset
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from holdfast_api.reasons import Health
from holdfast_speaker.engine.host_ports import WAIT_BEFORE_A_HOLD
from holdfast_speaker.engine.instance import RETRY_AFTER
from holdfast_speaker.engine.ports import AddAddress
from holdfast_speaker.host.closed_ports import CHECK_EVERY as CHECK_RULES_EVERY
from holdfast_speaker.host.closed_ports import TRY_AGAIN_AFTER
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, ZERO, Duration, Instant
from holdfast_testing.sim.kernel import SimulatedKernel
from holdfast_testing.sim.laws import Laws
from holdfast_testing.sim.machine import ETH0, Host
from holdfast_testing.sim.options import EDITS, Fault, Options, draw
from holdfast_testing.sim.timeline import EPOCH
from holdfast_testing.sim.world import BRIDGE, RECOVERY_HOLD, Violation, World

CHECK_EVERY = Duration(500 * MILLISECOND)


@dataclass
class Report:
    """What was simulated."""

    seeds: int = 0
    simulated: int = 0
    """Nanoseconds of virtual time in which the engines ran."""
    events: int = 0
    judged: int = 0
    """Takeovers that the law of stickiness judged."""
    excused: int = 0
    """Takeovers that it could say nothing of."""
    moves: Multiset[str] = field(default_factory=Multiset)
    faults: Multiset[str] = field(default_factory=Multiset)

    def add(self, other: Report) -> None:
        """Sum up."""
        self.seeds += other.seeds
        self.simulated += other.simulated
        self.events += other.events
        self.judged += other.judged
        self.excused += other.excused
        self.moves += other.moves
        self.faults += other.faults

    @property
    def hours(self) -> float:
        """Of virtual time."""
        return self.simulated / 3600e9


class Run:
    """One seed."""

    def __init__(self, options: Options, *, keeps_journals: bool = False) -> None:
        self.world = World(options, keeps_journals=keeps_journals)
        self.keeps_journals = keeps_journals
        self.laws = Laws(self.world)
        self.faults: Multiset[str] = Multiset()

    def play(self) -> Report:
        """Raises Violation, with its trace kept, where a law does not hold."""
        world = self.world
        try:
            self._play()
        except (Violation, AssertionError) as violation:
            folder = self._played_again().keep(str(violation))
            raise Violation(
                f"seed {world.options.seed}, commit {_commit()}: {violation} (kept in {folder})"
            ) from violation
        laws = self.laws
        return Report(1, world.now - EPOCH, world.timeline.events, laws.judged, laws.excused, world.moves, self.faults)

    def _played_again(self) -> Run:
        """The same, with the journals of its engines; they are not kept the first time, as that takes long."""
        if self.keeps_journals:
            return self
        again = Run(self.world.options, keeps_journals=True)
        with contextlib.suppress(Violation, AssertionError):
            again._play()
        return again

    def _play(self) -> None:
        world, random = self.world, self.world.random
        for host in world.hosts.values():
            world.timeline.at(world.now + random.randrange(SECOND), functools.partial(self._start, host))
        if world.foreign is not None:
            world.foreign.start()
        self._pass(8 * SECOND + 4 * world.options.interval)
        end = world.now + world.options.bad_time
        while world.now < end:
            self._fault(random.choice(world.options.faults), random.choice(list(world.hosts.values())))
            self._pass(random.choice([MILLISECOND, world.options.interval, 3 * SECOND, 10 * SECOND, 20 * SECOND]))
        self._mend()
        self._pass(2 * self.laws.stuck_bound + 40 * SECOND)
        self.laws.settled()
        before = sum(world.moves.values())
        self._pass(20 * world.options.interval + 5 * SECOND)
        if sum(world.moves.values()) != before:
            raise Violation("it moves though nothing happens any more")

    def _pass(self, duration: int) -> None:
        world = self.world
        end = world.now + duration
        while world.now < end:
            world.timeline.run(min(CHECK_EVERY, end - world.now))
            self.laws.check()

    # ----- faults -----

    def _fault(self, fault: Fault, host: Host) -> None:
        world, random = self.world, self.world.random
        if not host.powered or host.stands_still:
            return
        self.faults[fault] += 1
        world.say(f"-- {fault}: {host.name}")
        if fault not in EDITS:
            world.disturb(host.name)
        interval = world.options.interval
        lasting = random.choice([2 * MILLISECOND, interval * 2, interval * 7 // 2, 2 * SECOND, 10 * SECOND])
        do = getattr(self, "_" + fault.name.lower())
        do(host, lasting)

    def _later(self, after: int, host: Host, do: Callable[[], None]) -> None:
        """Do something when a fault ends; that disturbs, too."""

        def end() -> None:
            self.world.disturb(host.name)
            do()

        self.world.timeline.at(self.world.now + after, end)

    # ----- the process and its services -----

    def _engine_killed(self, host: Host, _lasting: int) -> None:
        if host.process is not None:
            host.kill_engine()
            after = self.world.random.randrange(2 * MILLISECOND, 12 * MILLISECOND)
            self._later(after, host, functools.partial(self._fork, host))

    def _fork(self, host: Host) -> None:
        if host.stands_still:  # the keeper, too
            self._later(MILLISECOND, host, functools.partial(self._fork, host))
        else:
            host.fork_anew()

    def _hand_over(self, host: Host, _lasting: int) -> None:
        if host.hand_over():
            after = self.world.random.randrange(5 * MILLISECOND, 30 * MILLISECOND)
            self._later(after, host, functools.partial(self._succeed, host))

    def _succeed(self, host: Host) -> None:
        if host.stands_still:
            self._later(MILLISECOND, host, functools.partial(self._succeed, host))
            return
        self.laws.forget_what_was_heard(host)
        host.succeed()

    def _stop(self, host: Host, lasting: int) -> None:
        host.stop(Duration(400 * MILLISECOND) if self.world.random.random() < 0.5 else None)
        self._later(lasting + SECOND, host, functools.partial(self._start_again, host))

    def _start(self, host: Host) -> None:
        self.laws.forget_what_was_heard(host)
        self.world.start(host)

    def _start_again(self, host: Host) -> None:
        if host.powered and host.process is None and not host.stands_still:
            self._start(host)

    def _freeze(self, host: Host, lasting: int) -> None:
        host.freeze(after_epoll=self.world.random.random() < 0.5)
        self.world.stall(host)
        self._later(lasting, host, functools.partial(self._thaw, host))

    def _thaw(self, host: Host) -> None:
        self.world.go_on(host)
        host.thaw()

    def _pause(self, host: Host, lasting: int) -> None:
        host.freeze()
        self.world.stall(host)
        self._later(lasting, host, functools.partial(self._lose_queue, host))

    def _lose_queue(self, host: Host) -> None:
        self.laws.forget_what_was_heard(host)
        self.world.go_on(host)
        host.thaw(queue_lost=True)

    def _health(self, host: Host, _lasting: int) -> None:
        is_healthy = all(health is Health.HEALTHY for health in host.health.values())
        self.world.set_health(host, Health.FAILING if is_healthy else Health.HEALTHY)

    def _backend(self, _host: Host, lasting: int) -> None:
        world = self.world
        for one in world.hosts.values():  # each notices at its own time
            for health, begins in (Health.FAILING, 0), (Health.HEALTHY, lasting + RECOVERY_HOLD):
                notices = begins + world.random.randrange(RECOVERY_HOLD)
                self._later(notices, one, functools.partial(world.set_health, one, health))

    def _switchover(self, host: Host, _lasting: int) -> None:
        world = self.world
        world.wished_at = world.now
        world.disturb()
        name = world.random.choice(world.names)
        instance = host.instance(name)
        holds = instance is not None and instance.router.holds_addresses
        host.switch_over(name, "another" if holds else host.name)

    # ----- the machine -----

    def _power_off(self, host: Host, lasting: int) -> None:
        host.power_off()
        self._later(lasting + SECOND, host, functools.partial(self._power_on, host))

    def _power_on(self, host: Host, *, without_address: bool = False) -> None:
        if not host.powered:
            if "port" not in host.blocked_by:
                self.world.open_at[host.name] = self.world.now
            self.laws.forget_what_was_heard(host)
            self.world.power_on(host, without_address=without_address)

    def _late_address(self, host: Host, lasting: int) -> None:
        host.power_off()
        self._later(SECOND, host, functools.partial(self._power_on, host, without_address=True))
        self._later(SECOND + lasting, host, functools.partial(self._give_addresses, host))

    def _give_addresses(self, host: Host) -> None:
        index = self._main_link(host)
        if index is not None:
            self.world.act(host, lambda kernel: self.world.give_addresses(kernel, host.name, index))

    def _late_port(self, host: Host, _lasting: int) -> None:
        host.power_off()
        self._later(SECOND, host, functools.partial(self._power_on_behind_a_closed_port, host))

    def _power_on_behind_a_closed_port(self, host: Host) -> None:
        self._close_port(host)
        self._power_on(host)

    def _close_port(self, host: Host) -> None:
        world = self.world
        host.block("port")
        world.late_since[host.name] = world.now
        world.open_at[host.name] = world.now + 1000 * SECOND  # type: ignore[assignment]
        self._later(world.random.choice([2, 8, 30]) * SECOND, host, functools.partial(self._open_port, host))

    def _open_port(self, host: Host) -> None:
        if "port" in host.blocked_by:
            host.unblock("port")
            self.world.open_at[host.name] = self.world.now

    def _suspend(self, host: Host, lasting: int) -> None:
        host.suspend()
        self.world.stall(host)
        self._later(lasting, host, functools.partial(self._resume, host))

    def _resume(self, host: Host) -> None:
        self.world.go_on(host)
        host.resume()

    # ----- the link -----

    def _one_way_cut(self, host: Host, lasting: int) -> None:
        self._cut_pairs([(host.name, self._other(host))], lasting)

    def _cut(self, host: Host, lasting: int) -> None:
        other = self._other(host)
        self._cut_pairs([(host.name, other), (other, host.name)], lasting)

    def _other(self, host: Host) -> str:
        names = [name for name in [*self.world.hosts, "foreign"] if name != host.name]
        return self.world.random.choice(names)

    def _cut_pairs(self, pairs: list[tuple[str, str]], lasting: int) -> None:
        # Whoever is cut off may hold beside the others, and how that ends is everybody's business.
        self.world.disturb()
        for pair in pairs:
            self.world.cut(pair)
            self.world.timeline.at(self.world.now + lasting, functools.partial(self.world.heal, pair))

    def _link_down(self, host: Host, lasting: int) -> None:
        self._on_link(host, lambda kernel: kernel.set_carrier(ETH0, False))
        self._later(lasting, host, lambda: self._on_link(host, lambda kernel: kernel.set_carrier(ETH0, True)))

    def _carrier_flap(self, host: Host, lasting: int) -> None:
        self._on_link(host, lambda kernel: kernel.set_carrier(ETH0, False))

        def back() -> None:
            link = host.kernel.interfaces.get(ETH0)
            has_carrier = link is not None and link.cable  # as where another fault has ended meanwhile
            if self.world.random.random() < 0.5 and not has_carrier:
                self._close_port(host)
            self._on_link(host, lambda kernel: kernel.set_carrier(ETH0, True))

        self._later(min(lasting, 2 * SECOND), host, back)

    def _on_link(self, host: Host, do: Callable[[SimulatedKernel], object]) -> None:
        if host.powered and ETH0 in host.kernel.interfaces:
            self.world.act(host, do)

    def _link_removed(self, host: Host, lasting: int) -> None:
        self._on_link(host, lambda kernel: kernel.remove_link(ETH0))
        self._later(lasting, host, functools.partial(self._add_link, host))

    def _add_link(self, host: Host) -> None:
        world = self.world
        if not host.powered or ETH0 in host.kernel.interfaces:
            return

        def add(kernel: SimulatedKernel) -> None:
            kernel.add_link("eth0", world.mac(host.name), index=ETH0)
            kernel.interfaces[ETH0].generates_link_local = False
            kernel.set_up(ETH0, True)
            if BRIDGE not in [link.name for link in kernel.interfaces.values()]:
                world.give_addresses(kernel, host.name, ETH0)

        world.act(host, add)

    def _link_renamed(self, host: Host, lasting: int) -> None:
        self._on_link(host, lambda kernel: kernel.rename(ETH0, "lan0"))
        self._later(lasting, host, lambda: self._on_link(host, lambda kernel: kernel.rename(ETH0, "eth0")))

    def _bridged(self, host: Host, lasting: int) -> None:
        if ETH0 not in host.kernel.interfaces or host.kernel.interfaces[ETH0].controller:
            return
        self.world.act(host, functools.partial(self._make_bridge, host))
        self._later(10 * SECOND + lasting, host, functools.partial(self._unmake_bridge, host))

    def _make_bridge(self, host: Host, kernel: SimulatedKernel) -> None:
        world = self.world
        index = kernel.add_link(BRIDGE, world.mac(host.name), bridge=True)
        kernel.interfaces[index].generates_link_local = False
        kernel.enslave(ETH0, index)
        kernel.set_up(index, True)
        kernel.remove_route(ETH0, bytes(4), 0, 0)
        kernel.remove_route(ETH0, bytes(16), 0, 1024)
        for address, length in world.own_addresses(host.name):
            kernel.remove_address(ETH0, address, length)
        world.give_addresses(kernel, host.name, index)

    def _unmake_bridge(self, host: Host) -> None:
        if not host.powered or BRIDGE not in [link.name for link in host.kernel.interfaces.values()]:
            return

        def unmake(kernel: SimulatedKernel) -> None:
            kernel.remove_link(kernel.index(BRIDGE))
            if ETH0 in kernel.interfaces:
                self.world.give_addresses(kernel, host.name, ETH0)

        self.world.act(host, unmake)

    @staticmethod
    def _main_link(host: Host) -> int | None:
        """The link that has the host's addresses."""
        if not host.powered:
            return None
        names = {link.name: link.index for link in host.kernel.interfaces.values()}
        return names.get(BRIDGE) or names.get("eth0") or names.get("lan0")

    def _small_mtu(self, host: Host, lasting: int) -> None:
        self._on_link(host, lambda kernel: kernel.set_mtu(ETH0, 1000))
        self._later(lasting, host, functools.partial(self._large_mtu, host))

    def _large_mtu(self, host: Host) -> None:
        self._on_link(host, lambda kernel: kernel.set_mtu(ETH0, 1500))
        self._give_addresses(host)

    def _no_ipv6(self, host: Host, lasting: int) -> None:
        self._on_link(host, lambda kernel: kernel.set_disable_ipv6(ETH0, True))
        self._later(lasting, host, functools.partial(self._ipv6_again, host))

    def _ipv6_again(self, host: Host) -> None:
        self._on_link(host, lambda kernel: kernel.set_disable_ipv6(ETH0, False))
        self._give_addresses(host)

    def _mac_changed(self, host: Host, _lasting: int) -> None:
        mac = b"\x02\0\0\0" + self.world.random.randbytes(2)
        self._on_link(host, lambda kernel: kernel.set_mac(ETH0, mac))

    def _address_renewed(self, host: Host, _lasting: int) -> None:
        index = self._main_link(host)
        if index is None:
            return
        address, length = self.world.own_addresses(host.name)[self.world.random.randrange(2)]

        def renew(kernel: SimulatedKernel) -> None:
            kernel.remove_address(index, address, length)
            self.world.give_addresses(kernel, host.name, index)

        self.world.act(host, renew)

    def _address_gone(self, host: Host, lasting: int) -> None:
        index = self._main_link(host)
        if index is None:
            return
        own = self.world.own_addresses(host.name)
        # One of them, everything of IPv4, or everything.
        gone = self.world.random.choice([[self.world.random.choice(own)], own[:2], own])

        def remove(kernel: SimulatedKernel) -> None:
            for address, length in gone:
                kernel.remove_address(index, address, length)

        self.world.act(host, remove)
        self._later(lasting, host, functools.partial(self._give_addresses, host))

    def _stranger(self, _host: Host, lasting: int) -> None:
        world = self.world
        if world.stranger is None and world.foreign is None:
            world.call_stranger()
            world.timeline.at(world.now + lasting + 5 * world.options.interval, world.send_stranger_away)

    # ----- the kernel -----

    def _kernel_refuses(self, host: Host, lasting: int) -> None:
        self.world.refusing.add(host.name)
        kernel = host.kernel
        kernel.refuse = lambda request: errno.ENOBUFS if isinstance(request, AddAddress) else 0
        self._later(lasting, host, lambda: self._kernel_accepts(host, kernel))

    def _kernel_accepts(self, host: Host, kernel: SimulatedKernel) -> None:
        kernel.refuse = lambda _request: 0
        self._later(RETRY_AFTER + SECOND, host, lambda: self.world.refusing.discard(host.name))

    def _slow_kernel(self, host: Host, _lasting: int) -> None:
        takes = Duration(self.world.random.randrange(MILLISECOND // 10, 8 * MILLISECOND))
        host.kernel.apply_takes = host.kernel.renewal_takes = takes

    def _firewall(self, host: Host, lasting: int) -> None:
        wire = host.wire
        wire.refuse_sending = lambda _index, _width: errno.EPERM
        self._later(lasting + 5 * self.world.options.interval, host, lambda: self._packets_leave(host))

    def _no_buffers(self, host: Host, lasting: int) -> None:
        random = self.world.random
        host.wire.refuse_sending = lambda _index, _width: errno.ENOBUFS if random.random() < 0.2 else 0
        self._later(lasting, host, lambda: self._packets_leave(host))

    @staticmethod
    def _packets_leave(host: Host) -> None:
        host.wire.refuse_sending = lambda _index, _width: 0

    def _overrun(self, host: Host, _lasting: int) -> None:
        host.act(lambda kernel: kernel.lose_events())

    def _interrupted_dump(self, host: Host, _lasting: int) -> None:
        index = self._main_link(host)
        if index is None:
            return

        def change() -> None:
            self.world.act(host, lambda kernel: self._renew_in_the_middle(kernel, host, index))

        host.kernel.interrupt_dump(change)
        host.act(lambda kernel: kernel.lose_events())

    def _renew_in_the_middle(self, kernel: SimulatedKernel, host: Host, index: int) -> None:
        if index in kernel.interfaces:
            address, length = self.world.own_addresses(host.name)[0]
            kernel.remove_address(index, address, length)
            self.world.give_addresses(kernel, host.name, index)

    # ----- the packet filter -----

    def _rules_flushed(self, host: Host, _lasting: int) -> None:
        self._may_be_exposed(host, CHECK_RULES_EVERY)
        host.act(lambda kernel: kernel.packet_filter.flush())

    def _no_filter(self, host: Host, lasting: int) -> None:
        kernel = host.kernel
        self._may_be_exposed(host, Duration(lasting + TRY_AGAIN_AFTER))
        kernel.packet_filter.refuses = errno.EOPNOTSUPP
        self._later(lasting, host, lambda: self._filter_is_there(host, kernel))

    def _filter_is_there(self, host: Host, kernel: SimulatedKernel) -> None:
        self._may_be_exposed(host, TRY_AGAIN_AFTER)
        kernel.packet_filter.refuses = 0

    def _slow_filter(self, host: Host, _lasting: int) -> None:
        host.kernel.packet_filter.takes = Duration(self.world.random.randrange(WAIT_BEFORE_A_HOLD))

    def _may_be_exposed(self, host: Host, duration: Duration) -> None:
        before = self.world.exposed.get(host.name, self.world.now)
        self.world.exposed[host.name] = max(before, Instant(self.world.now + duration))

    # ----- the user -----

    def _reconfigure(self, host: Host, _lasting: int) -> None:
        world = self.world
        world.priorities[world.number(host.name)] = world.random.randrange(50, 255, 5)
        if not world.options.nopreempt:
            world.disturb()
        host.configure(world.configuration(host.name))

    def _edit_address(self, _host: Host, _lasting: int) -> None:
        world = self.world
        world.wandering_to = world.random.randrange(-1, len(world.names))
        world.edit()

    def _edit_family(self, _host: Host, _lasting: int) -> None:
        if self.world.options.two_families:
            self.world.families = 3 - self.world.families
            self.world.edit()

    def _edit_interface(self, _host: Host, _lasting: int) -> None:
        hosts = self.world.hosts.values()
        links = {link.name for host in hosts if host.powered for link in host.kernel.interfaces.values()}
        if BRIDGE not in links and "lan0" not in links:
            self.world.interface = None if self.world.interface else "eth0"
            self.world.edit()

    # ----- the end -----

    def _mend(self) -> None:
        world = self.world
        world.say("-- everything is mended")
        world.loss = world.duplication = 0.0
        for pair in list(world.cuts):
            world.heal(pair)
        world.send_stranger_away()
        for host in world.hosts.values():
            world.disturb(host.name)  # what was lost until now may have been two of three in a row
            if host.suspended:
                self._resume(host)
            if host.frozen:
                self._thaw(host)
            self._packets_leave(host)
            host.kernel.apply_takes = host.kernel.renewal_takes = host.kernel.packet_filter.takes = ZERO
            if host.kernel.packet_filter.refuses:
                self._filter_is_there(host, host.kernel)
            if host.name in world.refusing:
                self._kernel_accepts(host, host.kernel)
            self._power_on(host)
            self._start_again(host)
            self._open_port(host)
            self._unmake_bridge(host)
            self._add_link(host)
            self._on_link(host, self._mend_link)
            self._give_addresses(host)

    @staticmethod
    def _mend_link(kernel: SimulatedKernel) -> None:
        kernel.rename(ETH0, "eth0")
        kernel.set_carrier(ETH0, True)
        kernel.set_mtu(ETH0, 1500)
        kernel.set_disable_ipv6(ETH0, False)

    def keep(self, violation: str) -> Path:
        """A trace for people, what every router knew at the end, and its engine's journal (`holdfast replay`).

        Returns the folder.
        """
        top = Path(os.environ.get("HOLDFAST_ARTIFACTS") or tempfile.gettempdir())
        folder = top / f"holdfast-simulation-{self.world.options.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"seed {self.world.options.seed}", str(self.world.options), violation, "", *self.world.trace]
        (folder / "trace.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for host in self.world.hosts.values():
            if host.process is not None:
                routers = {name: one.router.checkpoint() for name, one in host.engine.instances.items()}
                (folder / f"{host.name}.json").write_bytes(msgspec.json.encode(routers, order="sorted") + b"\n")
                if host.process.journal is not None:
                    (folder / f"{host.name}.journal").write_bytes(b"\n".join(host.process.journal.lines()) + b"\n")
        return folder


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return found.stdout.strip() or "unknown"


def simulate(seeds: Iterable[int]) -> Report:
    """All of them; raises Violation at the first that breaks a law."""
    report = Report()
    for seed in seeds:
        report.add(Run(draw(seed)).play())
    return report
