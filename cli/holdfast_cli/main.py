"""The console command's entry point, which imports next to nothing before `holdfast run` has begun its engine."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """`holdfast`."""
    _open_standard_descriptors()
    spawned = None
    if sys.argv[1:2] == ["run"]:
        gc.disable()  # until the engine is forked: nothing of what is imported is garbage
        from holdfast_cli.standalone.spawn import fork_engine

        spawned = fork_engine()
    from holdfast_cli.command import obey

    obey(spawned)


def _open_standard_descriptors() -> None:
    """Where one is closed (`2>&-`), a socket that is opened next would get its number, and what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


if __name__ == "__main__":
    main()
