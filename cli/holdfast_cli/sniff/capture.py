"""Where scapy's packets come from: a capture file, or interfaces of this host; and where they can be kept."""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import scapy.arch  # noqa: F401 - makes scapy's sockets and interfaces of this platform known
from scapy.config import conf
from scapy.data import ARPHDR_ETHER, ARPHDR_LOOPBACK
from scapy.error import Scapy_Exception, log_runtime
from scapy.utils import PcapReader, PcapWriter

from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_cli.sniff import filter as kernel_filter

STANDARD_INPUT = Path("-")

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_RECEIVE_BUFFER = 1 << 23
"""255 virtual routers that fail over together are heard whole."""
_SOL_PACKET = 263
_PACKET_STATISTICS = 6  # linux/if_packet.h
_STATISTICS = struct.Struct("@II")
_LINKTYPE_ETHERNET = 1


def read(path: Path) -> Iterator[Any]:
    """The packets of a pcap or pcapng file (also gzipped), or of standard input; each has the capture's time.

    Raises ConfigurationError for what is no capture, EnvironmentFailure for what cannot be read.
    """
    is_standard_input = path == STANDARD_INPUT
    name = "standard input" if is_standard_input else str(path)
    source: Any = sys.stdin.buffer if is_standard_input else str(path)  # scapy's annotation knows no streams
    try:
        with _quiet_scapy():
            reader = PcapReader(source)
    except (Scapy_Exception, EOFError) as error:
        raise ConfigurationError("is not a pcap or pcapng capture", file=name) from error
    except FileNotFoundError as error:
        raise ConfigurationError("does not exist", file=name) from error
    except OSError as error:
        raise EnvironmentFailure(f"{name} cannot be read: {error.strerror}") from error
    with reader:
        try:
            yield from reader
        except (Scapy_Exception, struct.error) as error:
            raise ConfigurationError(f"is broken here: {error}", file=name) from error


@contextlib.contextmanager
def _quiet_scapy() -> Iterator[None]:
    """scapy warns of what it raises too; what it only warns of later, a capture that was cut off, is left to it."""
    log_runtime.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log_runtime.setLevel(logging.NOTSET)


def usable_interfaces() -> list[str]:
    """The interfaces that are up and have an address of their own, so that ports of a bridge are left out.

    Raises EnvironmentFailure where there is none.
    """
    names = [
        interface.name
        for interface in sorted(conf.ifaces.values(), key=lambda one: one.index)
        if "UP" in str(interface.flags).split("+")
        and any(_is_own(text) for family in (4, 6) for text in interface.ips[family])
    ]
    if not names:
        raise EnvironmentFailure("no interface is up and has an address: name one with -i")
    return names


def _is_own(text: str) -> bool:
    address = ip_address(text)
    return not address.is_loopback and not address.is_link_local


class Live:
    """Listens on interfaces of this host until it is closed; a context manager."""

    def __init__(self, interfaces: list[str]) -> None:
        """Raises ConfigurationError for an interface that is not there, EnvironmentFailure without the right to."""
        known = [name for _, name in socket.if_nameindex()]
        for name in interfaces:
            if name not in known:
                raise ConfigurationError(f"no such interface; there are {', '.join(known)}", field=name)
        self._sockets: dict[Any, str] = {}
        with contextlib.ExitStack() as opened:
            for name in interfaces:
                self._sockets[opened.enter_context(contextlib.closing(_listen(name)))] = name
            self._opened = opened.pop_all()

    def packets(self, patience: Callable[[], float | None]) -> Iterator[tuple[str, Any] | None]:
        """Each packet with its interface, and None when nothing came for as long as `patience` said (seconds).

        Everything that has arrived comes before a None, so that silence is never found in a queue. Raises
        EnvironmentFailure when an interface is removed.
        """
        while True:
            readable, _, _ = select.select(list(self._sockets), [], [], patience())
            if not readable:
                yield None
            for one in readable:
                if (packet := self._receive(one)) is not None:
                    yield self._sockets[one], packet

    def _receive(self, one: Any) -> Any:
        try:
            return one.recv()
        except OSError as error:
            name = self._sockets[one]
            if error.errno == errno.ENETDOWN and name in [known for _, known in socket.if_nameindex()]:
                return None  # told once; packets come again when it is up
            raise EnvironmentFailure(f"{name}: {error.strerror}") from error

    def dropped(self) -> int:
        """How many frames the kernel could not queue since the last call (packet(7), PACKET_STATISTICS)."""
        answers = (one.ins.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size) for one in self._sockets)
        return sum(_STATISTICS.unpack(answer)[1] for answer in answers)

    def close(self) -> None:
        """Stop listening."""
        self._opened.close()


def _listen(name: str) -> Any:
    try:
        opened = conf.L2listen(iface=name)
    except PermissionError as error:
        raise EnvironmentFailure("listening needs root or CAP_NET_RAW (a capture does not: --pcap FILE)") from error
    except OSError as error:
        raise EnvironmentFailure(f"{name}: {error.strerror}") from error
    with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN it stays as large as scapy made it
        opened.ins.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    if conf.ifaces.dev_from_name(name).type in (ARPHDR_ETHER, ARPHDR_LOOPBACK):
        kernel_filter.attach(opened.ins)
    return opened


def write_to(path: Path) -> Any:
    """scapy's writer of a pcap file with nanoseconds, flushed after each packet. Raises EnvironmentFailure."""
    try:
        return PcapWriter(str(path), linktype=_LINKTYPE_ETHERNET, nano=True, sync=True)
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be written: {error.strerror}") from error
