"""The engine's process: `python -m holdfast_speaker.engine --node-name NAME --state-dir DIR [--control-descriptor N]`.

Somebody else starts it and reads its log (standard error, JSON lines): `holdfast run` on a plain host. With a control
descriptor it is told its configuration there; without, it starts from the last good one in the state directory.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.engine import clock, realtime
from holdfast_speaker.engine.driver import Driver
from holdfast_speaker.engine.engine import Engine
from holdfast_speaker.engine.log import Log
from holdfast_speaker.engine.state_directory import StateDirectory

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run until told to stop. Exit status 0 after SIGTERM, 1 where the machine refuses what an engine needs."""
    arguments = _arguments()
    _die_with(arguments.parent)
    log = Log()
    directory = StateDirectory(Path(arguments.state_dir), log)
    directory.acquire_lock()
    try:
        engine = Engine(arguments.node_name, directory, log)
    except EnvironmentFailure as error:
        log.error(f"the engine cannot run here: {error}")
        return 1
    driver = Driver(engine, directory, realtime.secure(), log)
    if arguments.control_descriptor is not None:
        driver.adopt(socket.socket(fileno=arguments.control_descriptor))
    else:
        configuration = directory.load_configuration()
        if configuration is not None:
            engine.configure(configuration, clock.monotonic())
    log.info("the engine is ready", ready=True)
    driver.run()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="holdfast-engine", description=__doc__)
    parser.add_argument("--node-name", required=True)
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--control-descriptor", type=int)
    parser.add_argument("--parent", type=int, default=os.getppid())
    return parser.parse_args()


def _die_with(parent: int) -> None:
    """Be told to stop when the process that started this one dies (prctl(2)), so that nothing is held by an orphan."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before it could be asked for
        raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
