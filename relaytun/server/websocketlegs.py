"""
Legs on the control port: which of its connections are WebSockets of legs, and what they become.

Looks at the request line only.  The signalling gets what is not C{GET <ws_path>/leg}, with every
byte that has come; a leg is answered here, and the relay gets its bytes as if they came to the
relay port.  Its preamble is what proves it, as there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolFactory, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..plane.accept import keep_alive
from ..plane.pair import pair
from ..plane.websocket import WebSocketBridge
from ..wire import websocket
from ..wire.errors import WireError
from ..wire.httphead import HeadReader
from .admission import Admission, Place

#: Seconds from the accepted connection to the whole request.
HANDSHAKE_TIMEOUT = 10.0
#: The last part of a leg's path.
LEG = "/leg"

_FULL = "the server has as many legs as it has room for; try again later"


class FirstLine(Protocol):
    """
    Waits for the request line, then makes way for the signalling, or becomes a leg.

    @ivar accepted: when the connection came, by the reactor's clock.
    """

    accepted: float | None = None
    _reader: HeadReader | None = None
    _bridge: WebSocketBridge | None = None
    _place: Place | None = None

    def __init__(self, port: FirstLineFactory, address: IAddress) -> None:
        self._port = port
        self._address = address
        self._data = b""

    def connectionMade(self) -> None:
        reactor = self._port.reactor
        transport: Any = self.transport
        now = reactor.seconds()
        if self.accepted is None:
            self.accepted = now
        left = max(0.0, self.accepted + HANDSHAKE_TIMEOUT - now)
        self._deadline = reactor.callLater(left, transport.abortConnection)
        host = getattr(self._address, "host", "")
        self._place = self._port.admission.enter(host, transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        if self._bridge is not None:
            self._bridge.received(data)
            return
        if self._reader is None:
            line = self._port.request_line
            self._data += data
            if not (self._data.startswith(line) or line.startswith(self._data)):
                self._hand_on()
                return
            if len(self._data) < len(line):
                return
            self._reader = HeadReader()
            data, self._data = self._data, b""
        self._read_on(self._reader, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave()
        if self._bridge is not None:
            self._bridge.lost()

    def _read_on(self, reader: HeadReader, data: bytes) -> None:
        transport: Any = self.transport
        if not self._deadline.active():
            return  # It was answered already.
        try:
            head = reader.feed(data)
            if head is None:
                return
            answer = websocket.answer(head)
        except websocket.HandshakeRefused as error:
            self._refuse(str(error), error.status)
            return
        except WireError as error:
            self._refuse(str(error), "400 Bad Request")
            return
        try:
            ours, relays = pair()
        except OSError:
            self._refuse(_FULL, "503 Service Unavailable")
            return
        if not self._port.has_room():
            ours.close()
            relays.close()
            self._refuse(_FULL, "503 Service Unavailable")
            return
        self._leave()
        transport.write(answer)
        keep_alive(_socket_of(transport), 30, 15, 3)
        self._bridge = WebSocketBridge(self._port.reactor, transport, ours, client=False)
        if reader.rest:
            self._bridge.received(reader.rest)
        host, number = (getattr(self._address, name, "") for name in ("host", "port"))
        self._port.leg_came(relays, (host, number))

    def _hand_on(self) -> None:
        """It is for the signalling."""
        self._leave()
        transport: Any = self.transport
        protocol: Any = self._port.signalling.buildProtocol(self._address)
        protocol.accepted = self.accepted
        protocol.client_address = getattr(self._address, "host", "")
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport.wrappedProtocol = protocol
        else:
            transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(self._data)

    def _refuse(self, why: str, status: str) -> None:
        self._leave()
        transport: Any = self.transport
        transport.write(websocket.refusal(why, status))
        transport.loseConnection()

    def _leave(self) -> None:
        if self._place is not None:
            self._place.leave()
        if self._deadline.active():
            self._deadline.cancel()


@implementer(IProtocolNegotiationFactory)
class FirstLineFactory(Factory[Protocol]):
    """What the control port's connections speak to, with or without TLS around it."""

    noisy = False

    def __init__(
        self,
        reactor: IReactor,
        signalling: IProtocolFactory,
        admission: Admission,
        ws_path: str,
        leg_came: Callable[[socket.socket, Any], None],
        has_room: Callable[[], bool],
    ) -> None:
        """
        @param ws_path: begins with a slash and does not end with one; it may be empty.
        @param leg_came: gets a socket that carries a leg, and the peer's address.
        """
        self.reactor = reactor
        self.signalling = signalling
        self.admission = admission
        self.request_line = f"GET {ws_path}{LEG} HTTP/1.1\r\n".encode("ascii")
        self.leg_came = leg_came
        self.has_room = has_room

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        assert addr is not None
        return FirstLine(self, addr)

    def acceptableProtocols(self) -> list[bytes]:
        """What TLS is to agree on; without this, Twisted refuses whoever offers anything."""
        return [b"http/1.1"]


def _socket_of(transport: Any) -> Any:
    """The TCP socket, also below TLS."""
    return getattr(transport, "transport", transport).getHandle()
