"""
The control port: Autobahn's WebSocket on one side, a L{Conversation} on the other.

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
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..wire import messages
from ..wire.errors import WireError
from ..wire.messages import Code, Message
from ..wire.proof import CHALLENGE_HEADER, CHALLENGE_SIZE
from .admission import Admission, Bucket, Place
from .broker import Broker
from .conversation import Conversation
from .peer import Peer
from .users import User

MAX_HANDSHAKE = 16 * 1024
MAX_FRAGMENTS = 128
#: Seconds from the accepted connection to the registered client.
LOGIN_TIMEOUT = 10.0
MESSAGES_PER_SECOND = 100.0
#: Refused messages, with no pause worth the name between them, that end the connection.
MAX_REFUSED = 1000
#: Log lines about strangers that were turned away.
NOTES_PER_SECOND = 2.0
#: Bytes that a client may leave unread.
MAX_UNREAD = 1024 * 1024

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
    @ivar client_address: who came, if that is not the transport's peer.
    """

    log = _Silent()
    transport: Any
    accepted: float | None = None
    client_address: str | None = None
    _peer: Peer | None = None
    _conversation: Conversation
    _place: Place
    _user: User
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
        if self.state == self.STATE_CONNECTING and len(self.data) + len(data) > MAX_HANDSHAKE:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n"
            )
            self.dropConnection(abort=False)
            return
        super()._dataReceived(data)

    def onConnect(self, request: ConnectionRequest) -> tuple[None, dict[str, str]]:
        broker: Broker = self.factory.broker
        if "origin" in request.headers:
            self.factory.note("{address} came with an Origin: a web page?", self._address())
            raise ConnectionDeny(403, "no web page may use the control port")
        authorization = request.headers.get("authorization")
        if authorization is None:
            self._expects_token = not broker.is_open
            self._user = broker.users.main
        elif (user := broker.users.by_token(_bearer(authorization))) is not None:
            self._user = user
        else:
            self.factory.note("{address} came with a wrong token", self._address())
            broker.events.fire("login_refused", code=Code.UNAUTHORIZED.value)
            raise ConnectionDeny(401, "the token is wrong")
        self._dialled_host = clean_host(request.host) or self._local_host()
        return None, {CHALLENGE_HEADER: base64.b64encode(self._challenge).decode("ascii")}

    def onOpen(self) -> None:
        broker: Broker = self.factory.broker
        self._peer = Peer(
            self._tell,
            self._close,
            epoch=self._epoch,
            challenge=self._challenge,
            address=self._address(),
            dialled_host=self._dialled_host,
            expects_token=self._expects_token,
            user=self._user,
        )
        self._conversation = Conversation(broker, self._peer, self._registered)

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
            self._conversation.received(message)

    def _max_message_size_exceeded(self, *sizes: Any) -> None:
        self.failedByMe = True  # What still comes of the message is thrown away.
        if self._peer is not None:
            self._peer.error(Code.TOO_LARGE, f"a message has at most {messages.MAX_MESSAGE} bytes")
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
            self.factory.broker.leave(self._peer)

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
            self.factory.broker.leave(self._peer)
        self.sendClose(1000)

    def _drop(self) -> None:
        self.dropConnection(abort=True)  # Autobahn then reads nothing more of what has come.
        self.transport.abortConnection()

    def _closeConnection(self, abort: bool = False) -> None:
        self.transport.unregisterProducer()  # A TLS transport does not close before that.
        super()._closeConnection(abort)

    def _address(self) -> str:
        if self.client_address is not None:
            return self.client_address
        return getattr(self.transport.getPeer(), "host", "")

    def _local_host(self) -> str:
        return getattr(self.transport.getHost(), "host", "127.0.0.1")


class SignallingFactory(WebSocketServerFactory):
    """Makes the protocols of the control port."""

    protocol = SignallingProtocol
    noisy = False
    log = _Silent()
    _log = Logger()

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
        self._notes = Bucket(NOTES_PER_SECOND, reactor.seconds())
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

    def beat_every(self, interval: float) -> None:
        """
        These hold for new connections.

        @param interval: seconds between WebSocket pings; they keep NATs awake.
        """
        self.setProtocolOptions(
            autoPingInterval=interval, autoPingTimeout=self.broker.heartbeat_timeout
        )

    def note(self, text: str, address: str) -> None:
        """Log that somebody was turned away; not more often than a flood is worth."""
        if self._notes.allow(self.reactor.seconds()):
            self._log.warn(text, address=address)

    def next_epoch(self) -> int:
        """Rises with every control connection."""
        self._epoch += 1
        return self._epoch


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
