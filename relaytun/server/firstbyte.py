"""
TLS and plain on one port: the first byte of a connection tells which it is.

Whoever says nothing at all is a stranger like one that does not register, and gets no more time.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from ..interfaces import IReactor
from ..plane.accept import keep_alive
from .admission import Admission, is_loopback

#: Seconds for the first byte; they count towards those for the login.
SILENCE_TIMEOUT = 10.0

_TLS_HANDSHAKE = b"\x16"


class _FirstByte(Protocol):
    """Waits for the first byte, then makes way for the protocol that it announces."""

    def __init__(self, port: ControlFactory, address: IAddress) -> None:
        self._port = port
        self._address = address

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if transport.getHandle().family != socket.AF_UNIX:
            transport.setTcpNoDelay(True)
            keep_alive(transport.getHandle(), 5, 3, 3)
        self._deadline = self._port.reactor.callLater(SILENCE_TIMEOUT, transport.abortConnection)
        self._accepted = self._port.reactor.seconds()
        self._host = getattr(self._address, "host", "")
        self._place = self._port.admission.enter(self._host, transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        self._leave()
        transport: Any = self.transport
        protocol: Any
        if data[:1] == _TLS_HANDSHAKE:
            protocol = self._port.tls.buildProtocol(self._address)
        elif self._port.plaintext or is_loopback(getattr(transport.getPeer(), "host", "")):
            protocol = self._port.plain.buildProtocol(self._address)
        else:
            transport.write(
                b"HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\n"
                b"Content-Type: text/plain\r\n\r\n"
                b"The control port takes TLS only: use wss://, not ws://\n"
            )
            transport.loseConnection()
            return
        assert protocol is not None
        getattr(protocol, "wrappedProtocol", protocol).accepted = self._accepted
        transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave()

    def _leave(self) -> None:
        self._place.leave()
        if self._deadline.active():
            self._deadline.cancel()


class ControlFactory(Factory[Protocol]):
    """The control port: TLS and plain WebSockets."""

    noisy = False

    def __init__(
        self,
        reactor: IReactor,
        inner: IProtocolFactory,
        admission: Admission,
        tls_options: Any,
        plaintext: bool,
    ) -> None:
        """
        @param inner: of what speaks, with TLS around it or not.
        @param tls_options: the server's certificate, an C{IOpenSSLServerConnectionCreator}.
        @param plaintext: whether plain connections are taken from elsewhere than this machine.
        """
        self.reactor = reactor
        self.admission = admission
        self.plaintext = plaintext
        self.plain = inner
        self.use_certificate(tls_options)

    def use_certificate(self, tls_options: Any) -> None:
        """New connections see this one; those that there are keep theirs."""
        self.tls = TLSMemoryBIOFactory(tls_options, False, self.plain)
        self.tls.noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        assert addr is not None
        return _FirstByte(self, addr)
