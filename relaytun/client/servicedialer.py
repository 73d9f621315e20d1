"""Connects to the services that this client offers, and says once if one does not answer."""

from __future__ import annotations

import socket

from twisted.internet.error import ConnectError, DNSLookupError
from twisted.logger import Logger

from ..config import ServiceConfig
from ..plane.dial import Dialer


class ServiceDialer:
    """For all services of a client."""

    _log = Logger()
    #: What L{dial} fails with.
    ERRORS = (OSError, ConnectError, DNSLookupError)

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._troubled: set[str] = set()

    async def dial(self, service: ServiceConfig) -> socket.socket:
        """@raise ERRORS: if it does not answer."""
        try:
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
