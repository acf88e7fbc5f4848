"""The speaker's process: `python -m holdfast_speaker.host --node-name NAME --state-dir DIR`.

It is the keeper, which forks the engine; its log goes to standard error, JSON lines. `holdfast run` forks it on a plain
host and tells the engine its configuration on an inherited socket. In a pod it is a container of its own: the engine
starts from the last good configuration in the state directory, and an agent of the group --agent-group tells it another
on the control socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import traceback
from ipaddress import ip_network
from pathlib import Path

import msgspec

from holdfast_api.errors import UNDECODABLE, ConfigurationError, EnvironmentFailure
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine.door import Door
from holdfast_speaker.engine.inputs import Inputs
from holdfast_speaker.engine.state import PublishedState, Snapshot
from holdfast_speaker.engine.vetting import vet
from holdfast_speaker.host import clock, realtime
from holdfast_speaker.host.arguments import Arguments, parse
from holdfast_speaker.host.boot import boot_id
from holdfast_speaker.host.control import open_listener
from holdfast_speaker.host.driver import Driver
from holdfast_speaker.host.inheritance import Inheritance
from holdfast_speaker.host.keeper import EXIT_OWN_FAULT, EXIT_REFUSED, Keeper
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.state_directory import StateDirectory
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant

_PR_SET_PDEATHSIG = 1
_STANDARD_ERROR = 2
_HAND_OVER_WITHIN = Duration(3 * SECOND)
"""What the protocol spares a successor: three intervals of the shortest that VRRPv2 has, or of the hand-over's."""

_GOES_ON_WITHIN = Duration(60 * SECOND)
"""What an engine that died leaves to the next one: what others sent meanwhile waits in the sockets that were kept."""

_SNAPSHOTS = msgspec.json.Decoder(Snapshot)
"""Made once, in the keeper: a decoder takes longer to make than to use."""


def main(arguments: Arguments) -> int:
    """Run until told to stop. Exit status 0 after SIGTERM, 1 where the machine refuses what an engine needs."""
    _open_standard_descriptors()
    _die_with(arguments.parent)
    if arguments.control_descriptor is not None and not _is_told_something(arguments.control_descriptor):
        return 0
    log = Log()
    log.info(f"may open {realtime.raise_descriptor_limit()}")
    directory = StateDirectory(Path(arguments.state_directory), log)
    # The first process of a container is not ended by a signal that nobody catches, and this may wait for long.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    follows_another = directory.acquire_lock()
    within = Duration(arguments.step_aside_milliseconds * MILLISECOND)
    # Only an operator allocates VRIDs by what is heard where.
    inheritance = Inheritance(
        keeps_journal=arguments.journal,
        overhears=arguments.agent_group is not None,
        door=_door(arguments),
        step_aside_within=within,
        follows_another=follows_another,
    )
    try:
        inheritance.listener = open_listener(directory.socket_path, arguments.agent_group)
    except EnvironmentFailure as failure:
        log.warning(str(failure))
        inheritance.warnings.append(str(failure))
    if arguments.control_descriptor is not None:
        inheritance.supervisor = socket.socket(fileno=arguments.control_descriptor)

    def run_engine(inheritance: Inheritance) -> int:
        return _run_engine(arguments.node_name, directory, inheritance, log)

    return Keeper(inheritance, run_engine, log).run()


def _door(arguments: Arguments) -> Door:
    """What this node's engine may hold. With an agent, others than who runs the node tell it what to hold."""
    is_in_a_pod = arguments.agent_group is not None
    servers = list(arguments.api_server_addresses)
    if is_in_a_pod:
        with contextlib.suppress(ValueError):  # a name: the agent resolves it
            servers.append(str(ip_network(os.environ.get("KUBERNETES_SERVICE_HOST", ""))))
    return Door(tuple(arguments.allowed_networks), tuple(servers), refuses_next_hops=is_in_a_pod)


def _open_standard_descriptors() -> None:
    """Whoever started this may have closed some: what is opened next would have their numbers, and get the log."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(opened)


def _die_with(parent: int) -> None:
    """Be told to stop when the process that started this one dies (prctl(2)), so that nothing is held by an orphan."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before it could be asked for
        raise SystemExit(0)


def _is_told_something(descriptor: int) -> bool:
    """Wait for the first message, which stays unread. Returns False where there will be none."""
    with socket.socket(fileno=os.dup(descriptor)) as control:
        try:
            return bool(control.recv(1, socket.MSG_PEEK))
        except OSError:  # the other end was closed with something unread
            return False


def _run_engine(node_name: str, directory: StateDirectory, inheritance: Inheritance, log: Log) -> int:
    """The engine's whole life, in a process that was forked for it. The exit status."""
    keeper = os.getppid()
    try:
        scheduling = realtime.schedule()
        _die_with(keeper)
        driver = Driver(node_name, directory, inheritance, log)
        _take_up(driver.inputs, node_name, directory, inheritance, log)
        driver.serve_supervisor()
        if inheritance.only_releases:
            driver.stop()
            return 0
        # What a former engine left to do comes before what takes time.
        driver.turn(0)
        if not inheritance.told_to_stop:
            driver.real_time = realtime.secure(scheduling, inheritance.cpu_latency)
            log.info("the engine is ready", ready=True)
        driver.run()
    except (EnvironmentFailure, OSError, MemoryError) as failure:
        directory.keep_traceback("".join(traceback.format_exception(failure)))
        log.error(f"the engine cannot run here: {failure or 'out of memory'}")
        return EXIT_REFUSED
    except Exception as error:  # noqa: BLE001  # the outermost loop of this process: the keeper decides what comes next
        told = "".join(traceback.format_exception(error))
        directory.keep_traceback(told)
        log.error("the engine failed: " + told.strip().rpartition("\n")[2], traceback=told)
        return EXIT_OWN_FAULT
    return 0


def _take_up(engine: Inputs, node_name: str, directory: StateDirectory, inheritance: Inheritance, log: Log) -> None:
    """Begin where another process of this node left off, or anew."""
    now = clock.now()
    engine.clean_up_after(directory.published_routers())
    snapshot = _snapshot(inheritance, log)
    if snapshot is not None:
        if inheritance.resumes:
            engine.go_on_from(snapshot.state.routers, inheritance.memory.heartbeat)
        engine.configure(snapshot.configuration, now)
        return
    state = _handed_over(directory, inheritance, now, log)
    if state is not None:
        engine.go_on_from(state.routers, Instant(state.handed_over_at))
    if inheritance.supervisor is None:
        configuration = directory.load_configuration()
        if configuration is not None:
            _go_by_the_last_good_one(engine, node_name, configuration, log)


def _snapshot(inheritance: Inheritance, log: Log) -> Snapshot | None:
    """What the last engine of this keeper left. Where its states are too old to go on from, they are forgotten."""
    memory = inheritance.memory
    content = memory.read()
    if not content:
        return None
    try:
        snapshot = _SNAPSHOTS.decode(content)
    except UNDECODABLE as error:
        log.error(f"what the engine before this one left is not readable, beginning anew: {error}")
        memory.write(b"")
        return None
    silent = clock.now() - memory.heartbeat
    if inheritance.resumes and silent > _GOES_ON_WITHIN:
        log.warning(f"the last turn of an engine was {silent / SECOND:.0f} s ago, which is too long: beginning anew")
        inheritance.resumes = False
    if not inheritance.resumes:
        # An engine after this one that dies before it publishes must not find them either.
        forgotten = msgspec.structs.replace(snapshot.state, routers=[])
        inheritance.keep(msgspec.structs.replace(snapshot, state=forgotten))
    return snapshot


def _handed_over(directory: StateDirectory, inheritance: Inheritance, now: Instant, log: Log) -> PublishedState | None:
    """What another engine of this node left to its successor; None, and why in the log, where nothing counts."""
    state = directory.load_state()
    if state is None:
        refusal = "left no state that can be read"
    elif state.boot != boot_id():
        refusal = "left a state of another boot of this machine"
    elif not state.handed_over_at:
        refusal = "did not hand over"
    elif not 0 <= (late := now - state.handed_over_at) < _HAND_OVER_WITHIN:
        refusal = f"handed over {late / SECOND:.1f} s ago, which is too long"
    else:
        return state
    if inheritance.follows_another or (state is not None and state.handed_over_at):
        log.warning(f"the former engine {refusal}: beginning anew")
    return None


def _go_by_the_last_good_one(engine: Inputs, node_name: str, configuration: SpeakerConfiguration, log: Log) -> None:
    try:
        vet(configuration, node_name)
    except ConfigurationError as error:
        log.warning(f"the configuration in the state directory is ignored: {error}")
        return
    engine.configure(configuration, clock.now())


if __name__ == "__main__":
    sys.exit(main(parse()))
