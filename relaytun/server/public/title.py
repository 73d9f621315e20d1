"""
What the public finds (a port, a host name), and the providers that share it.

Most have one member; those of a group have several, and each connection gets the one whose turn it
is, or who has the fewest.  Who is away or in bad health is left out as long as others are not.
"""

from __future__ import annotations

import socket
from typing import Any

from msgspec import UNSET

from ...plane.accept import reset
from ...wire.messages import Exposure
from .prefix import header, prefixed
from .visitor import PublicVisitor


class Member:
    """
    One provider of a title.

    @ivar name: of the client, for messages.
    """

    def __init__(self, visitor: PublicVisitor, exposure: Exposure) -> None:
        self.visitor = visitor
        self.exposure = exposure

    @property
    def online(self) -> bool:
        """Whether the client is there and offers the service."""
        return self.visitor.service is not None

    @property
    def healthy(self) -> bool:
        """Whether it may be sent somebody; one that is away may come back in time."""
        service = self.visitor.service
        return service is None or service.healthy is not False

    def serve(self, sock: socket.socket, address: Any) -> None:
        """Carry somebody's connection; C{sock} is taken over."""
        version = self.exposure.proxy_protocol
        if version is not UNSET:
            try:
                first = header(version, address, sock.getsockname())
                sock = prefixed(self.visitor.machinery, sock, first)
            except OSError:  # It has gone already, or there is no descriptor left.
                reset(sock)
                return
        self.visitor.serve(sock, address)


class Title:
    """
    @ivar kind: C{tcp}, C{udp}, C{http} or C{tls}.
    @ivar value: the port number or the host name, as text.
    @ivar holder: whose it is.
    @ivar members: who serves it, in the order in which they came.
    """

    def __init__(self, kind: str, value: str, holder: str) -> None:
        self.kind = kind
        self.value = value
        self.holder = holder
        self.members: list[Member] = []
        self._turn = 0

    def open(self) -> None:
        """
        Let the public in; called when it has its first member.

        @raise OSError: if that cannot be.
        """

    def close(self) -> None:
        """Let nobody in any more; connections that run go on."""

    def changed(self) -> None:
        """Members have come or gone."""

    def urls(self, host: str) -> tuple[str, ...]:
        """
        Where the public finds it.

        @param host: a name or address of the server.
        """
        raise NotImplementedError

    def choose(self) -> Member | None:
        """@return: the one for the next connection; C{None} if there is none to be sent to."""
        fit = [member for member in self.members if member.healthy]
        fit = [member for member in fit if member.online] or fit
        if not fit:
            return None
        self._turn += 1
        start = self._turn % len(fit)
        turned = fit[start:] + fit[:start]
        if fit[0].exposure.balance == "least_connections":
            return min(turned, key=lambda member: member.visitor.streams)
        return turned[0]

    def serve(self, sock: socket.socket, address: Any) -> None:
        """Somebody connected; C{sock} is taken over."""
        member = self.choose()
        if member is None:
            reset(sock)
        else:
            member.serve(sock, address)
