"""The speaker's process: `python -m holdfast_speaker.engine --node-name NAME --state-dir DIR [--control-descriptor N]`.

It is the keeper, which forks the engine. Somebody else starts it and reads its log (standard error, JSON lines):
`holdfast run` on a plain host. With a control descriptor the engine is told its configuration there; without, it starts
from the last good one in the state directory.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.engine import clock, realtime
from holdfast_speaker.engine.control import open_listener
from holdfast_speaker.engine.driver import Driver
from holdfast_speaker.engine.engine import Engine
from holdfast_speaker.engine.estate import Estate
from holdfast_speaker.engine.keeper import Keeper
from holdfast_speaker.engine.log import Log
from holdfast_speaker.engine.reports import boot_id
from holdfast_speaker.engine.state_directory import SNAPSHOTS, StateDirectory
from holdfast_speaker.vrrp.instants import SECOND, Instant

_PR_SET_PDEATHSIG = 1
_EXIT_OWN_FAULT = 70  # sysexits.h, EX_SOFTWARE
_HAND_OVER_WITHIN = 3 * SECOND
"""What the protocol spares a successor: three intervals of the shortest that VRRPv2 has, or of the hand-over's."""


def main() -> int:
    """Run until told to stop. Exit status 0 after SIGTERM, 1 where the machine refuses what an engine needs."""
    arguments = _arguments()
    _die_with(arguments.parent)
    log = Log()
    directory = StateDirectory(Path(arguments.state_dir), log)
    directory.acquire_lock()
    estate = Estate(keeps_journal=arguments.journal)
    try:
        estate.listener = open_listener(directory.socket_path)
    except EnvironmentFailure as failure:
        log.warning(str(failure))
        estate.warnings.append(str(failure))
    if arguments.control_descriptor is not None:
        estate.supervisor = socket.socket(fileno=arguments.control_descriptor)

    def run_engine(estate: Estate) -> int:
        return _run_engine(arguments.node_name, directory, estate, log)

    return Keeper(estate, run_engine, log).run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="holdfast-engine", description=__doc__)
    parser.add_argument("--node-name", required=True)
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--control-descriptor", type=int)
    parser.add_argument("--journal", action="store_true")
    parser.add_argument("--parent", type=int, default=os.getppid())
    return parser.parse_args()


def _die_with(parent: int) -> None:
    """Be told to stop when the process that started this one dies (prctl(2)), so that nothing is held by an orphan."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before it could be asked for
        raise SystemExit(0)


def _run_engine(node_name: str, directory: StateDirectory, estate: Estate, log: Log) -> int:
    """The engine's whole life, in a process that was forked for it. The exit status."""
    keeper = os.getppid()
    try:
        scheduling = realtime.schedule()
        _die_with(keeper)
        engine = Engine(node_name, directory, estate, log)
        driver = _take_up(engine, directory, estate, log)
        if estate.only_releases:
            engine.stop(clock.monotonic())
            return 0
        # What a former engine left to do comes before what takes time.
        driver.turn(0)
        driver.real_time = realtime.secure(scheduling, estate.cpu_latency)
        log.info("the engine is ready", ready=True)
        driver.run()
    except EnvironmentFailure as failure:
        log.error(f"the engine cannot run here: {failure}")
        return 1
    except Exception:  # noqa: BLE001  # the outermost loop of this process: the keeper decides what comes next
        told = traceback.format_exc()
        directory.keep_traceback(told)
        log.error("the engine failed: " + told.strip().rpartition("\n")[2], traceback=told)
        return _EXIT_OWN_FAULT
    return 0


def _take_up(engine: Engine, directory: StateDirectory, estate: Estate, log: Log) -> Driver:
    """Begin where another process of this node left off, or anew."""
    now = clock.monotonic()
    driver = Driver(engine, directory, estate, log)
    inherited = estate.memory.read()
    if inherited:
        snapshot = SNAPSHOTS.decode(inherited)
        if estate.resumes:
            engine.go_on_from(snapshot.state, estate.memory.heartbeat)
        engine.configure(snapshot.configuration, now)
        return driver
    state = directory.load_state()
    if state is not None and state.handed_over_at and state.boot == boot_id():
        late = now - state.handed_over_at
        if late < _HAND_OVER_WITHIN:
            engine.go_on_from(state, Instant(state.handed_over_at))
        else:
            log.warning(f"the former engine handed over {late / SECOND:.1f} s ago, which is too long: beginning anew")
    if estate.supervisor is None:
        configuration = directory.load_configuration()
        if configuration is not None:
            engine.configure(configuration, now)
    return driver


if __name__ == "__main__":
    sys.exit(main())
