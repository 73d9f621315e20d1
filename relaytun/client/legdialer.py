"""
A client's legs with one server: over TCP to the relay port, or over WebSockets to the control
port, which needs no other port than the control connection has.

C{auto} is TCP as long as the relay port can be connected.  When it cannot, and WebSockets can,
they are taken for a while, longer each time; then the relay port is tried again.
"""

from __future__ import annotations

import re
import socket
from typing import Any, NoReturn

from msgspec import UNSET
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..ends.legs import ClientSession
from ..plane.accept import keep_alive, prepare
from ..plane.dial import Dialer, connect
from ..plane.pair import pair
from ..plane.websocket import WebSocketBridge
from ..tls import server_verification
from ..wire import messages, websocket
from ..wire.errors import WireError
from ..wire.httphead import HeadReader
from .route import LEG, WS_PATH, Route

#: Seconds for the relay port to answer, if WebSockets are the other choice.
TCP_PATIENCE = 3.0
#: Seconds for a WebSocket to be open.
TIMEOUT = 10.0
#: Seconds until the relay port is tried again, at first and at most.
FIRST_DETOUR = 60.0
LONGEST_DETOUR = 600.0

#: A path that is nothing but a path in a request line.
_PATH = re.compile(r"(/[!-~]{0,255})?")
_FAILURES = (OSError, ConnectError, DNSLookupError)


class WebSocketFailed(ConnectError):
    """There is no WebSocket to be had for a leg; the text is a sentence for the user."""

    def __init__(self, sentence: str) -> None:
        super().__init__(string=sentence)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class ServerLegs:
    """
    Dials legs: a C{LegDialer}.

    @ivar transport: C{auto}, C{tcp} or C{ws}.
    """

    _log = Logger()

    def __init__(self, route: Route, dialer: Dialer, transport: str = "auto") -> None:
        """@param dialer: for TCP that goes through no proxy."""
        self._route = route
        self._reactor = route.reactor
        self._dialer = dialer
        self.transport = "ws" if transport == "auto" and route.proxy is not None else transport
        self._path = route.ws_path
        self._detour = FIRST_DETOUR
        self._blocked: dict[tuple[str, int], float] = {}  # Until when, by the reactor's clock.
        self._trying_again = False
        self._verification: IOpenSSLClientConnectionCreator | None = None

    def learn(self, response: messages.RegisterResponse) -> None:
        """The server's word on where it has legs; the user's own counts more."""
        if response.ws_path is UNSET or self._route.ws_path != WS_PATH:
            return
        if _PATH.fullmatch(str(response.ws_path)):
            self._path = str(response.ws_path)

    def dial(self, session: ClientSession) -> Deferred[socket.socket]:
        """See C{LegDialer}."""
        place = session.relay.host, session.relay.port
        if self.transport == "ws":
            return self._by("ws", session, self._dial_websocket())
        if self.transport == "tcp":
            return self._by("relay", session, self._dial_tcp(*place))
        until = self._blocked.get(place)
        if until is not None and (self._trying_again or until > self._reactor.seconds()):
            return self._by("ws", session, self._dial_websocket())
        self._trying_again = until is not None  # One leg does: nobody else has to wait for it.
        either = Deferred.fromCoroutine(self._dial_either(session, place, until is not None))
        return either.addBoth(self._tried, until is not None)

    def better_in(self, session: ClientSession) -> float | None:
        """See C{LegDialer}."""
        until = self._blocked.get((session.relay.host, session.relay.port))
        if until is None or session.path != "ws":
            return None
        return max(0.0, until - self._reactor.seconds())

    def _tried(self, result: Any, again: bool) -> Any:
        if again:
            self._trying_again = False
        return result

    async def _dial_either(
        self, session: ClientSession, place: tuple[str, int], again: bool
    ) -> socket.socket:
        connecting = self._dial_tcp(*place)
        connecting.addTimeout(TCP_PATIENCE, self._reactor, _too_slow)
        try:
            sock = await self._by("relay", session, connecting)
        except _FAILURES as error:
            try:
                sock = await self._by("ws", session, self._dial_websocket())
            except _FAILURES:
                raise error from None  # The server is away, whichever way one goes.
            self._block(place, error, again)
        else:
            if self._blocked.pop(place, None) is not None:
                self._detour = FIRST_DETOUR
                self._log.info("the relay port can be reached again")
        return sock

    def _by(
        self, path: str, session: ClientSession, connecting: Deferred[socket.socket]
    ) -> Deferred[socket.socket]:
        def connected(sock: socket.socket) -> socket.socket:
            session.path = path
            return sock

        return connecting.addCallback(connected)

    def _block(self, place: tuple[str, int], why: Exception, again: bool) -> None:
        if again:
            self._detour = min(LONGEST_DETOUR, self._detour * 2)
        elif place in self._blocked:
            return  # One of several legs that found out at the same time.
        self._blocked = {place: self._reactor.seconds() + self._detour}
        self._log.warn(
            "the relay port {host}:{port} cannot be reached ({why}): legs go over WebSockets, "
            "and it is tried again in {detour:.0f} s",
            host=place[0],
            port=place[1],
            why=str(why),
            detour=self._detour,
        )

    def _dial_tcp(self, host: str, port: int) -> Deferred[socket.socket]:
        if self._route.proxy is None:
            return self._dialer.dial(host, port)
        return Deferred.fromCoroutine(self._dial_through_proxy(host, port))

    async def _dial_through_proxy(self, host: str, port: int) -> socket.socket:
        detach: Any = await connect(self._route.to(host, port), Factory.forProtocol(_Detach))
        sock: socket.socket = detach.transport.getHandle()
        prepare(sock)
        return sock

    async def check_websocket(self) -> str:
        """
        See whether a leg can go over a WebSocket.

        @return: its URL.
        @raise ConnectError: if it cannot, also L{OSError} and C{DNSLookupError}.
        """
        (await self._dial_websocket()).close()
        return self._url

    @property
    def _url(self) -> str:
        return f"{self._route.address.url()}{self._path}{LEG}"

    def _dial_websocket(self) -> Deferred[socket.socket]:
        url = self._url
        opening = Deferred.fromCoroutine(self._open(url))

        def too_slow(result: object, timeout: float) -> NoReturn:
            raise WebSocketFailed(f"{url} does not answer in {timeout:.0f} s")

        return opening.addTimeout(TIMEOUT, self._reactor, too_slow)

    async def _open(self, url: str) -> socket.socket:
        route = self._route
        if self._verification is None:  # Authorities are read from files: not for each leg.
            address = route.address
            self._verification = server_verification(address.host, address.fingerprint)
        opening = _Opening(route, self._path + LEG)
        try:
            await connect(route.control(self._verification), _only(opening))
            return await opening.opened
        except WireError as error:
            raise WebSocketFailed(f"{url}: {error}") from None
        except SSL.Error:
            raise WebSocketFailed(f"{url} cannot be trusted") from None
        finally:
            opening.give_up()


def _too_slow(result: object, timeout: float) -> NoReturn:
    raise ConnectError(string=f"no answer in {timeout:.0f} s")


class _Detach(Protocol):
    """Lets go of a connection through a proxy: the relay says nothing before it is spoken to."""

    def connectionMade(self) -> None:
        self.transport.stopReading()  # type: ignore[union-attr]


def _only(protocol: Protocol) -> Factory[Protocol]:
    factory: Factory[Protocol] = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda addr: protocol  # type: ignore[method-assign]
    return factory


class _Opening(Protocol):
    """
    The opening handshake of a leg's WebSocket; then what goes through it.

    @ivar opened: fires with the socket that is the leg, or fails.
    """

    _bridge: WebSocketBridge | None = None

    def __init__(self, route: Route, path: str) -> None:
        self.opened: Deferred[socket.socket] = Deferred()
        self._route = route
        self._path = path
        self._key = websocket.new_key()
        self._reader = HeadReader()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        sock = _socket_of(transport)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock, 30, 15, 3)
        transport.write(websocket.request(self._route.host, self._path, self._key))

    def dataReceived(self, data: bytes) -> None:
        if self._bridge is not None:
            self._bridge.received(data)
            return
        if self.opened.called:
            return
        try:
            head = self._reader.feed(data)
            if head is None:
                return
            websocket.check_answer(head, self._key)
            ours, theirs = pair()
        except (WireError, OSError) as error:
            self.opened.errback(error)
            return
        self._bridge = WebSocketBridge(self._route.reactor, self.transport, ours, client=True)
        if self._reader.rest:
            self._bridge.received(self._reader.rest)
        self.opened.callback(theirs)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._bridge is not None:
            self._bridge.lost()
        elif not self.opened.called:
            error = reason.value
            if not isinstance(error, SSL.Error):
                error = WireError("the connection was closed during the opening handshake")
            self.opened.errback(error)

    def give_up(self) -> None:
        """Nobody waits any more: end what has not become a leg."""
        transport: Any = self.transport
        if self._bridge is None and transport is not None:
            transport.abortConnection()


def _socket_of(transport: Any) -> Any:
    """The TCP socket, also below TLS."""
    return getattr(transport, "transport", transport).getHandle()
