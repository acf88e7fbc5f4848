"""The three families of errors, by whose fault it is.

* ConfigurationError: ours or the user's. Permanent until somebody edits something. Exit code 2 on the command line.
* PeerError: what somebody sent us. Counted and dropped, never fatal.
* EnvironmentFailure: the machine's: kernel, disk, permissions. May pass by itself.
"""

from typing import Final

import msgspec

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for bytes that are no document: a text that is not UTF-8 is no DecodeError to it."""


class HoldfastError(Exception):
    """The base of every error that Holdfast raises on purpose."""


class ConfigurationError(HoldfastError):
    """Input that somebody has to mend: names the file, the field and the reason, on one line.

    >>> str(ConfigurationError("must be 50 to 254", file="vip.yaml", field="spec.priority"))
    'vip.yaml: spec.priority: must be 50 to 254'
    """

    def __init__(self, reason: str, *, file: str = "", field: str = "") -> None:
        self.reason = reason
        self.file = file
        self.field = field
        super().__init__(": ".join(part for part in (file, field, reason) if part))


class ConfigurationErrors(HoldfastError):
    """Several configuration errors that were found in one reading, so that they can be mended in one go."""

    def __init__(self, errors: list[ConfigurationError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in errors))


class PeerError(HoldfastError):
    """Something that another router sent and that cannot be obeyed."""


class EnvironmentFailure(HoldfastError):
    """The machine refused something: a system call, a file, a permission."""
