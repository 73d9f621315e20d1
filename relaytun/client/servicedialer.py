"""Connects to the services that this client offers, and says once if one does not answer."""

from __future__ import annotations

import errno
import socket

from twisted.internet.error import ConnectError, DNSLookupError
from twisted.logger import Logger

from ..config import ServiceConfig
from ..plane.dial import Dialer
from ..plane.room import Room

_NO_DESCRIPTOR = "no file descriptor left (raise the limit: LimitNOFILE, ulimit -n)"


class ServiceDialer:
    """For all services of a client."""

    _log = Logger()
    #: What L{dial} fails with.
    ERRORS = (OSError, ConnectError, DNSLookupError)

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._room = Room()
        self._troubled: set[str] = set()

    async def dial(self, service: ServiceConfig) -> socket.socket:
        """@raise ERRORS: if it does not answer."""
        try:
            if not self._room.for_streams():
                raise OSError(errno.EMFILE, _NO_DESCRIPTOR)
            local = await self._dialer.dial(service.local_host, service.local_port)
        except self.ERRORS as error:
            if service.id not in self._troubled:
                self._troubled.add(service.id)
                self._log.warn(
                    "{service} does not answer at {host}:{port}: {error}",
                    service=service.id,
                    host=service.local_host,
                    port=service.local_port,
                    error=str(error),
                )
            raise
        self._troubled.discard(service.id)
        return local
