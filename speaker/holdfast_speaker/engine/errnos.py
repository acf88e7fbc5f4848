"""What an errno means, in words; without asking the operating system that this runs on."""

from __future__ import annotations

import errno

_MEANINGS = {
    errno.EPERM: "operation not permitted",
    errno.ENOENT: "no such thing",
    errno.ENXIO: "no such device or address",
    errno.EAGAIN: "try again",
    errno.ENOMEM: "out of memory",
    errno.EACCES: "permission denied",
    errno.EBUSY: "busy",
    errno.EEXIST: "it is there already",
    errno.ENODEV: "no such device",
    errno.EINVAL: "invalid argument",
    errno.ENFILE: "too many open files on this host",
    errno.EMFILE: "too many open files",
    errno.ENOSPC: "no space left",
    errno.EROFS: "read-only file system",
    errno.EPROTONOSUPPORT: "protocol not supported",
    errno.EOPNOTSUPP: "operation not supported",
    errno.EAFNOSUPPORT: "address family not supported",
    errno.EADDRNOTAVAIL: "the address is not on this host",
    errno.ENETDOWN: "the network is down",
    errno.ENETUNREACH: "the network is unreachable",
    errno.ENOBUFS: "no buffer space",
    errno.ENOTCONN: "nothing is open there",
    errno.ETIMEDOUT: "no answer in time",
    errno.EHOSTUNREACH: "no route to host",
}


def told(code: int) -> str:
    """An errno for people.

    >>> told(1), told(105)
    ('operation not permitted (EPERM)', 'no buffer space (ENOBUFS)')
    """
    name = errno.errorcode.get(code, str(code))
    return f"{_MEANINGS[code]} ({name})" if code in _MEANINGS else name
