"""
TLS that ends here: the socket becomes Twisted's, and what is decrypted is another protocol's.

Which certificate is shown was decided before, for each connection.
"""

from __future__ import annotations

import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ...interfaces import IReactor
from ..port import hand_to_twisted

#: Seconds for an authority to see the certificate that it asked for.
PROOF_TIMEOUT = 10.0


class Ending:
    """Ends TLS for the connections of one port."""

    def __init__(self, reactor: IReactor, http: IProtocolFactory) -> None:
        """@param http: speaks to them; its protocols get the attribute C{address}."""
        self._reactor = reactor
        self._http = http

    def end(self, sock: socket.socket, address: Any, context: SSL.Context) -> None:
        """Show C{context}'s certificate, then let the factory's protocol speak."""
        self._wrap(sock, context, _Addressed(self._http, address))

    def prove(self, sock: socket.socket, context: SSL.Context) -> None:
        """Show C{context}'s certificate, and nothing else."""
        self._wrap(sock, context, _Proof(self._reactor))

    def _wrap(self, sock: socket.socket, context: SSL.Context, inner: Factory[Any]) -> None:
        factory = TLSMemoryBIOFactory(_Creator(context), False, inner, clock=self._reactor)
        hand_to_twisted(self._reactor, factory)(sock, None)


@implementer(IOpenSSLServerConnectionCreator)
class _Creator:
    """Makes the TLS connection of one context."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class _Addressed(Factory[Any]):
    """A protocol that knows the visitor's address, also behind a load balancer."""

    noisy = False

    def __init__(self, http: IProtocolFactory, address: Any) -> None:
        self._http = http
        self._address = address

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        protocol: Any = self._http.buildProtocol(twisted_address(self._address))
        if protocol is not None:
            protocol.address = self._address if isinstance(self._address, tuple) else ("", 0)
        return protocol  # type: ignore[no-any-return]


def twisted_address(address: Any) -> IAddress:
    """@param address: as C{accept(2)} has it."""
    found: Any = UNIXAddress(None)
    if isinstance(address, tuple):
        kind = IPv6Address if ":" in address[0] else IPv4Address
        found = kind("TCP", *address)
    return found  # type: ignore[no-any-return]


class _Proof(Factory[Protocol]):
    noisy = False

    def __init__(self, reactor: IReactor) -> None:
        self._reactor = reactor

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Mute(self._reactor)


class _Mute(Protocol):
    """Says nothing: the handshake was all there is to see."""

    def __init__(self, reactor: IReactor) -> None:
        self._reactor = reactor

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._deadline = self._reactor.callLater(PROOF_TIMEOUT, transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._deadline.active():
            self._deadline.cancel()
