"""The real keepalived on a host of a test, with a configuration of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from holdfast_testing.hosts import Host
from holdfast_testing.required import absent


def require_keepalived() -> None:
    """Skip the test where keepalived is not installed, or fail it where HOLDFAST_REQUIRE says so."""
    if shutil.which("keepalived", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
        return
    absent("netns", "not installed: keepalived")


class Keepalived:
    """keepalived in a host's namespace. It ends with the namespace."""

    def __init__(self, host: Host, instance: str, version: int) -> None:
        self.host = host
        self.file = host.folder / "keepalived.conf"
        self.process: subprocess.Popen[str] | None = None
        self.file.write_text(
            f"global_defs {{\n  vrrp_version {version}\n}}\nvrrp_instance VI {{\n  interface eth0\n{instance}\n}}\n",
            encoding="utf-8",
        )

    def start(self) -> Keepalived:
        """Start it in the foreground, so that it can be told from any other on the machine."""
        folder: Path = self.host.folder
        with (folder / "keepalived.log").open("a", encoding="utf-8") as log:
            self.process = self.host.namespace.start(
                ["keepalived", "-n", "-l", "-D", f"-f{self.file}", f"-p{folder}/pid", f"-r{folder}/vrrp.pid"],
                stdout=log,
                stderr=log,
            )
        return self

    def stop(self) -> None:
        """Let it leave gracefully: priority 0."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(timeout=10)

    def kill(self) -> None:
        """Power off: everything in the namespace is killed, and nothing of it gets out any more."""
        # First, as keepalived's child says farewell when it sees its parent die.
        self.host.namespace.ip("link set eth0 down")
        for pid in self.host.namespace.pids:
            os.kill(pid, 9)
