"""
The control port: Autobahn's WebSocket on one side, a L{Peer} on the other.

Limits hold from the first byte: the size of the handshake and of a message, the number of
fragments, the time until a client is registered, the number of those that are not, messages a
second, and what a client may leave unread.  TLS and plain share the port; the first byte tells.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import secrets
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..plane.accept import keep_alive
from ..wire import messages
from ..wire.errors import WireError
from ..wire.messages import Code, Message
from ..wire.proof import CHALLENGE_HEADER, CHALLENGE_SIZE
from .admission import Admission, Bucket, Place, is_loopback
from .broker import Broker
from .peer import Peer

MAX_HANDSHAKE = 16 * 1024
MAX_FRAGMENTS = 128
#: Seconds from the accepted connection to the registered client.
LOGIN_TIMEOUT = 10.0
MESSAGES_PER_SECOND = 100.0
#: Refused messages, with no pause worth the name between them, that end the connection.
MAX_REFUSED = 1000
#: Bytes that a client may leave unread.
MAX_UNREAD = 1024 * 1024

_TLS_HANDSHAKE = b"\x16"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}\Z")


def clean_host(host: str) -> str | None:
    """
    The host of a Host header, if it is one.

    @param host: without the port, as Autobahn gives it.
    """
    inner = host.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(inner))
    except ValueError:
        return host if _HOST.match(host) else None


class _Silent:
    """Autobahn logs what strangers send, as they sent it: not here."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@implementer(IPushProducer)
class SignallingProtocol(WebSocketServerProtocol):
    """
    One control connection.

    @ivar accepted: when it came, by the reactor's clock; the time for the login runs from then.
    """

    log = _Silent()
    transport: Any
    accepted: float | None = None
    _peer: Peer | None = None
    _place: Place
    _fragments = 0
    _clogged = False
    _unread = 0
    _expects_token = False

    def connectionMade(self) -> None:
        self._reactor: IReactor = self.factory.reactor
        broker: Broker = self.factory.broker
        self._challenge = secrets.token_bytes(CHALLENGE_SIZE)
        self._epoch = self.factory.next_epoch()
        now = self._reactor.seconds()
        self._bucket = Bucket(MESSAGES_PER_SECOND, now)
        waited = 0.0 if self.accepted is None else now - self.accepted
        self._deadline = self._reactor.callLater(max(0.0, LOGIN_TIMEOUT - waited), self._too_late)
        self._beat = self._reactor.callLater(broker.heartbeat_timeout, self._silent)
        self._place = self.factory.admission.enter(self._address(), self._drop)
        super().connectionMade()
        self.transport.registerProducer(self, True)

    def _dataReceived(self, data: bytes) -> None:
        if self.state == self.STATE_CLOSED:
            return  # Autobahn would keep it.
        if (
            self.state == self.STATE_CONNECTING
            and len(self.data) + len(data) > MAX_HANDSHAKE
        ):
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n"
            )
            self.dropConnection(abort=False)
            return
        super()._dataReceived(data)

    def onConnect(self, request: ConnectionRequest) -> tuple[None, dict[str, str]]:
        broker: Broker = self.factory.broker
        if "origin" in request.headers:
            raise ConnectionDeny(403, "no web page may use the control port")
        authorization = request.headers.get("authorization")
        if authorization is None:
            self._expects_token = not broker.is_open
        elif not broker.is_token(_bearer(authorization)):
            raise ConnectionDeny(401, "the token is wrong")
        self._dialled_host = clean_host(request.host) or self._local_host()
        return None, {CHALLENGE_HEADER: base64.b64encode(self._challenge).decode("ascii")}

    def onOpen(self) -> None:
        broker: Broker = self.factory.broker
        self._peer = Peer(
            broker,
            self._tell,
            self._close,
            epoch=self._epoch,
            challenge=self._challenge,
            dialled_host=self._dialled_host,
            expects_token=self._expects_token,
            registered=self._registered,
        )
        broker.connected(self._peer, self._address())

    def onMessageBegin(self, isBinary: bool) -> None:
        self._fragments = 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        self._fragments += 1
        if self._fragments > MAX_FRAGMENTS:
            self.failedByMe = True  # Autobahn goes on with the frame that it has begun.
            self._drop()

    def onPing(self, payload: bytes) -> None:
        if self._bucket.allow(self._reactor.seconds()):
            super().onPing(payload)
        elif self._bucket.refused > MAX_REFUSED:
            self._drop()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        peer = self._peer
        if peer is None or peer.gone:
            return
        if not self._bucket.allow(self._reactor.seconds()):
            if self._bucket.refused > MAX_REFUSED:
                self._drop()
            else:
                peer.error(
                    Code.RATE_LIMITED, f"more than {MESSAGES_PER_SECOND:.0f} messages a second"
                )
            return
        self._beat.reset(self.factory.broker.heartbeat_timeout)
        try:
            if isBinary:
                raise WireError("messages are text")
            message = messages.decode(payload, messages.FROM_CLIENT)
        except WireError as error:
            if peer.expects_token:
                peer.error(Code.UNAUTHORIZED, "a connection without the token registers first")
                self._close()
            else:
                peer.error(Code.BAD_MESSAGE, str(error))
        else:
            peer.received(message)

    def _max_message_size_exceeded(self, *sizes: Any) -> None:
        self.failedByMe = True  # What still comes of the message is thrown away.
        if self._peer is not None:
            self._peer.error(
                Code.TOO_LARGE, f"a message has at most {messages.MAX_MESSAGE} bytes"
            )
        self._close()

    def _onMessageFrameEnd(self) -> None:
        # Autobahn gathers the frames of a message that is already too large.
        if not self.failedByMe:
            super()._onMessageFrameEnd()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._place.leave()
        for timer in (self._deadline, self._beat):
            if timer.active():
                timer.cancel()
        super().connectionLost(reason)
        if self._peer is not None:
            self._peer.connection_lost()

    # IPushProducer: the transport tells when the client does not read.

    def pauseProducing(self) -> None:
        self._clogged = True
        self._unread = 0
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._clogged = False
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        pass

    def _tell(self, message: Message) -> None:
        if self.state != self.STATE_OPEN:
            return
        data = messages.encode(message)
        if self._clogged:
            self._unread += len(data)
            if self._unread > MAX_UNREAD:
                self._drop()
                return
        self.sendMessage(data)

    def _registered(self) -> None:
        self._place.leave()
        if self._deadline.active():
            self._deadline.cancel()

    def _too_late(self) -> None:
        if self._peer is None:
            self._drop()
        else:
            self._peer.error(Code.TIMEOUT, f"not registered within {LOGIN_TIMEOUT:.0f} s")
            self._close()

    def _silent(self) -> None:
        if self._peer is None:
            self._drop()
        else:
            self._peer.error(Code.TIMEOUT, "no heartbeat")
            self._close()

    def _close(self) -> None:
        if self._peer is not None:
            self._peer.connection_lost()
        self.sendClose(1000)

    def _drop(self) -> None:
        self.dropConnection(abort=True)  # Autobahn then reads nothing more of what has come.
        self.transport.abortConnection()

    def _closeConnection(self, abort: bool = False) -> None:
        self.transport.unregisterProducer()  # A TLS transport does not close before that.
        super()._closeConnection(abort)

    def _address(self) -> str:
        return getattr(self.transport.getPeer(), "host", "")

    def _local_host(self) -> str:
        return getattr(self.transport.getHost(), "host", "127.0.0.1")


class SignallingFactory(WebSocketServerFactory):
    """Makes the protocols of the control port."""

    protocol = SignallingProtocol
    noisy = False
    log = _Silent()

    def __init__(
        self,
        reactor: IReactor,
        broker: Broker,
        admission: Admission,
        heartbeat_interval: float = 15.0,
    ) -> None:
        """@param heartbeat_interval: seconds between WebSocket pings; keeps NATs awake."""
        super().__init__(server="relaytun", reactor=reactor)
        self.broker = broker
        self.admission = admission
        self._epoch = 0
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            maxFramePayloadSize=messages.MAX_MESSAGE,
            maxMessagePayloadSize=messages.MAX_MESSAGE,
            openHandshakeTimeout=LOGIN_TIMEOUT,
            closeHandshakeTimeout=1,
            tcpNoDelay=True,
            autoPingInterval=heartbeat_interval,
            autoPingTimeout=broker.heartbeat_timeout,
            autoPingRestartOnAnyTraffic=True,
            perMessageCompressionAccept=lambda offers: None,
        )

    def next_epoch(self) -> int:
        """Rises with every control connection."""
        self._epoch += 1
        return self._epoch


class _FirstByte(Protocol):
    """Waits for the first byte, then makes way for the protocol that it announces."""

    _log = Logger()

    def __init__(self, port: ControlFactory, address: IAddress) -> None:
        self._port = port
        self._address = address

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        keep_alive(transport.getHandle(), 5, 3, 3)
        self._deadline = self._port.reactor.callLater(LOGIN_TIMEOUT, transport.abortConnection)
        self._accepted = self._port.reactor.seconds()
        self._host = getattr(self._address, "host", "")
        self._place = self._port.admission.enter(self._host, transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        self._leave()
        transport: Any = self.transport
        protocol: Any
        if data[:1] == _TLS_HANDSHAKE:
            protocol = self._port.tls.buildProtocol(self._address)
        elif self._port.plaintext or is_loopback(self._host):
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
        signalling: SignallingFactory,
        admission: Admission,
        tls_options: Any,
        plaintext: bool,
    ) -> None:
        """
        @param tls_options: the server's certificate, an C{IOpenSSLServerConnectionCreator}.
        @param plaintext: whether plain connections are taken from elsewhere than this machine.
        """
        self.reactor = reactor
        self.admission = admission
        self.plaintext = plaintext
        self.plain = signalling
        self.tls = TLSMemoryBIOFactory(tls_options, False, signalling)
        self.tls.noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        assert addr is not None
        return _FirstByte(self, addr)


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
