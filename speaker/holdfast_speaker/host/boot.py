"""Which boot of the machine this is: an instant of its clock means something only within one."""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def boot_id() -> str:
    """/proc/sys/kernel/random/boot_id (random(4)); empty where it cannot be read."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
