"""What the kernel refused, with its reason."""

from __future__ import annotations

import os

from holdfast_api.errors import EnvironmentFailure


class SystemCallFailure(EnvironmentFailure):
    """A system call that failed: `errno` is its errno(3) code, 0 where the system gave none."""

    def __init__(self, doing: str, error: OSError) -> None:
        self.errno = error.errno or 0
        super().__init__(f"{doing}: {os.strerror(self.errno) if self.errno else error}")
