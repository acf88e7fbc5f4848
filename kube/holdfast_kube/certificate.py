"""The certificate of an HTTP server, from a folder as a Secret of type kubernetes.io/tls is mounted."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

from holdfast_api.errors import ConfigurationError

LOOK_EVERY_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


class Certificate:
    """`context` serves what is in the folder. Raises ConfigurationError where there is no certificate."""

    def __init__(self, folder: Path) -> None:
        self._certificate, self._key = folder / "tls.crt", folder / "tls.key"
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load()
        self._content = self._read()

    async def follow(self) -> None:
        """Never returns: take up what is renewed. One that cannot be read leaves the former in force."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            self.look()

    def look(self) -> None:
        """Take up another certificate, if there is one."""
        try:
            content = self._read()
            if content != self._content:
                self._load()
                self._content = content
                _log.info("the certificate of the metrics is another one now")
        except ConfigurationError as error:
            _log.warning("the former certificate stays: %s", error)

    def _read(self) -> tuple[bytes, bytes]:
        try:
            return self._certificate.read_bytes(), self._key.read_bytes()
        except OSError as error:
            raise ConfigurationError(error.strerror or str(error), file=str(error.filename)) from error

    def _load(self) -> None:
        self._read()
        try:
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or error.strerror or error
            raise ConfigurationError(f"no certificate and its key: {reason}", file=str(self._certificate)) from error
