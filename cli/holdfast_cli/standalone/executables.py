"""Whether a command can be run as a user, and whether somebody else could have put another one in its place.

keepalived's rule with `enable_script_security`: what root runs may be written to by root alone, and so may every folder
that leads to it.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from holdfast_speaker.health.commands import Identity

_LEFTOVERS = ("~", ".bak", ".dpkg-old", ".dpkg-new", ".dpkg-dist", ".dpkg-tmp", ".rpmsave", ".rpmnew", ".rpmorig")
"""Of editors and packages: nobody means them to be run (run-parts(8), which passes over every name with a dot)."""


class Unusable(Exception):
    """The command is not run; the text says why."""


def identity_of(user: str | None, group: str | None) -> Identity | None:
    """Whom to run a command as; None: as this process. Raises Unusable where there is no such user or group."""
    if user is None:
        return None
    try:
        found = pwd.getpwnam(user)
    except KeyError as error:
        raise Unusable(f"there is no user {user}") from error
    if group is None:
        return Identity(found.pw_uid, found.pw_gid, tuple(os.getgrouplist(user, found.pw_gid)))
    try:
        return Identity(found.pw_uid, grp.getgrnam(group).gr_gid, ())
    except KeyError as error:
        raise Unusable(f"there is no group {group}") from error


def require_usable(program: str, identity: Identity | None, *, as_root: bool | None = None) -> None:
    """Raises Unusable where it is missing, is nothing to execute, or could be another's by now. May block.

    `as_root`: whether it is root who runs what has no identity; None: whether this process is root's.
    """
    found = shutil.which(program)
    if found is None:
        missing = "/" in program and not Path(program).exists()
        raise Unusable(
            "is missing" if missing else "is not executable" if "/" in program else "is in no folder of PATH"
        )
    if identity is not None:
        as_root = identity.user == 0
    if not (os.geteuid() == 0 if as_root is None else as_root):
        return
    # Both what the path says and what its links lead to: either can be put elsewhere.
    for path in (Path(found).absolute(), Path(found).resolve()):
        for part in (path, *path.parents):
            writer = _other_writer(part, is_folder=part != path)
            if writer:
                place = "" if part == path else f"the folder {part} "
                raise Unusable(f"is not run as root: {place}may be written to by {writer}")


def _other_writer(path: Path, *, is_folder: bool) -> str:
    """Who besides root can write there; empty: nobody."""
    try:
        found = path.lstat()
    except OSError as error:
        raise Unusable(f"{path} cannot be looked at: {error.strerror}") from error
    if stat.S_ISLNK(found.st_mode):
        return "" if found.st_uid == 0 else f"user {found.st_uid}"
    if found.st_uid != 0:
        return f"user {found.st_uid}, who owns it"
    # In a sticky folder (/tmp) nobody renames or removes what is root's.
    if is_folder and found.st_mode & stat.S_ISVTX:
        return ""
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if found.st_mode & stat.S_IWGRP and found.st_gid != 0:
        return f"group {found.st_gid}"
    return ""


def executables_of(directory: Path) -> list[Path]:
    """Those of a folder, in the order of their names, byte by byte, as run-parts(8) has it. May block.

    Raises Unusable where it cannot be read.
    """
    try:
        found = sorted(directory.iterdir(), key=lambda path: os.fsencode(path.name))
        return list(_to_be_run(found))
    except OSError as error:
        raise Unusable(f"{directory} cannot be read: {error.strerror}") from error


def _to_be_run(found: list[Path]) -> Iterator[Path]:
    for path in found:
        hidden = path.name.startswith(".") or path.name.endswith(_LEFTOVERS)
        if not hidden and path.is_file() and os.access(path, os.X_OK):
            yield path.absolute()
