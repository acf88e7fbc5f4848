"""Print a pip.conf with what this machine's pip is told about reaching an index: python3 pip_settings.py CERTIFICATES

Its certificates are copied to CERTIFICATES, which the printed file names by where product/pip.Dockerfile puts it. Exits
with 1, and prints nothing, where pip needs to be told nothing.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

REACHING = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout", "retries")
CERTIFICATES_IN_THE_IMAGE = "/etc/pip/certificates.pem"


def settings() -> dict[str, str]:
    """What `pip config list` tells, a variable of the environment before a file; nothing without pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found: dict[str, tuple[bool, str]] = {}
    for line in listing.splitlines():
        name, value = line.split("=", 1)
        section, _, key = name.rpartition(".")
        if key not in found or section == ":env:":
            found[key] = (section == ":env:", ast.literal_eval(value))
    return {key: value for key, (_, value) in found.items()}


def main(certificates: Path) -> int:
    told = settings()
    lines = [f"{key} = {told[key]}" for key in REACHING if key in told]
    source = told.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    if source:
        lines.append(f"cert = {CERTIFICATES_IN_THE_IMAGE}")
    if not lines:
        return 1
    certificates.write_bytes(Path(source).read_bytes() if source else b"")
    print("[global]", *lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
