"""Whether the agent is alive or ready: `python -m holdfast_speaker.agent.alive --cache-dir DIR [--ready]`.

The agent writes CLOCK_MONOTONIC in seconds and, when it is not ready, why, into the file `alive` every two seconds.
This check is started every few seconds, so it imports nothing that takes time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

FRESH_SECONDS = 10.0
"""An agent whose loop did not turn for longer is not alive."""


def words(why_not_ready: str) -> str:
    """What the agent writes now."""
    return f"{time.monotonic():.3f} {why_not_ready}"


def obstacle(text: str, *, ready: bool) -> str:
    """Why the answer is no, from what the agent wrote; empty: it is alive (and ready)."""
    at, _, why_not_ready = text.partition(" ")
    try:
        age = time.monotonic() - float(at)
    except ValueError:
        return "the agent wrote no time"
    if not 0 <= age <= FRESH_SECONDS:
        return f"the agent's loop turned {age:.0f} s ago"
    return why_not_ready.strip() if ready else ""


def main() -> int:
    """Exit status 0: yes; 1: no, and one line says why."""
    parser = argparse.ArgumentParser(prog="holdfast-agent-alive", description=__doc__)
    parser.add_argument("--cache-dir", type=Path, default=Path("/var/lib/holdfast"))
    parser.add_argument("--ready", action="store_true")
    arguments = parser.parse_args()
    try:
        no = obstacle((arguments.cache_dir / "alive").read_text(encoding="utf-8"), ready=arguments.ready)
    except OSError as error:
        no = f"the agent has not begun: {error.strerror}"
    if no:
        print(no, file=sys.stderr)
    return 1 if no else 0


if __name__ == "__main__":
    sys.exit(main())
