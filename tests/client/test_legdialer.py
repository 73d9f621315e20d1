"""Tests of L{relaytun.client.legdialer}: which way legs take, and what they meet on it."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Client
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.client.httpproxy import HTTPProxy
from relaytun.client.legdialer import (
    FIRST_DETOUR,
    LONGEST_DETOUR,
    TCP_PATIENCE,
    ServerLegs,
    WebSocketFailed,
)
from relaytun.client.route import Route
from relaytun.config import ServerAddress
from relaytun.ends.legs import ClientSession
from relaytun.wire import messages, websocket
from relaytun.wire.httphead import HeadReader
from relaytun.wire.preamble import Role

from .support import until

SERVER = ServerAddress(host="relay.example", port=9000)


def session_at(port: int = 9001) -> ClientSession:
    return ClientSession(
        id="0" * 32,
        peer="p",
        service="s",
        role=Role.VISITOR,
        channel_key=bytes(32),
        relay=messages.RelayAddress(host="relay.example", port=port),
        since=0,
    )


class Legs(ServerLegs):
    """
    Whose connections are the test's.

    @ivar tcp: what comes of TCP; C{None}: nothing does, for ever.
    @ivar websockets: what comes of WebSockets.
    @ivar dialled: what was tried, in its order.
    """

    tcp: str | Exception | None = "tcp"
    websockets: str | Exception = "websocket"

    def __init__(self, clock: Clock, transport: str, proxy: HTTPProxy | None = None) -> None:
        super().__init__(Route(clock, SERVER, proxy), self, transport)  # type: ignore[arg-type]
        self.dialled: list[str] = []

    def _dial_tcp(self, host: str, port: int) -> Deferred[Any]:
        self.dialled.append("tcp")
        return Deferred() if self.tcp is None else outcome(self.tcp)

    def _dial_websocket(self) -> Deferred[Any]:
        self.dialled.append("ws")
        return outcome(self.websockets)


def outcome(what: str | Exception) -> Deferred[Any]:
    return fail(what) if isinstance(what, Exception) else succeed(what)


class WaysTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.session = session_at()

    def legs(self, transport: str = "auto", proxy: HTTPProxy | None = None) -> Legs:
        legs = Legs(self.clock, transport, proxy)
        self.patch(Legs, "_log", _Quiet())
        return legs

    def dial(self, legs: Legs, session: ClientSession | None = None) -> str:
        """A leg; returns all that was tried for it."""
        legs.dialled.clear()
        dialling = legs.dial(session or self.session)
        self.clock.advance(TCP_PATIENCE)
        self.successResultOf(dialling)
        return " ".join(legs.dialled)

    def test_told(self) -> None:
        """C{tcp} and C{ws} are what they say, even when it fails."""
        for transport, path in (("tcp", "relay"), ("ws", "ws")):
            legs = self.legs(transport)
            self.assertEqual(self.dial(legs), transport)
            self.assertEqual(self.session.path, path)
            self.assertIsNone(legs.better_in(self.session))
            legs.tcp = legs.websockets = ConnectError()
            self.failureResultOf(legs.dial(self.session), ConnectError)

    def test_proxy(self) -> None:
        """Through a proxy C{auto} is C{ws}, and C{tcp} is still C{tcp}."""
        proxy = HTTPProxy("p", 1)
        self.assertEqual(self.dial(self.legs("auto", proxy)), "ws")
        self.assertEqual(self.dial(self.legs("tcp", proxy)), "tcp")

    def test_auto(self) -> None:
        """The relay port is the first choice."""
        self.assertEqual(self.dial(self.legs()), "tcp")
        self.assertEqual(self.session.path, "relay")

    def test_fall_back(self) -> None:
        """If it is refused or silent, WebSockets are taken for a while, longer each time."""
        for trouble in (ConnectError(), OSError(), None):
            legs = self.legs()
            legs.tcp = trouble
            detour = FIRST_DETOUR
            while detour < 2 * LONGEST_DETOUR:
                self.assertEqual(self.dial(legs), "tcp ws")
                self.assertEqual(self.session.path, "ws")
                wait = legs.better_in(self.session)
                assert wait is not None
                self.assertLessEqual(abs(wait - min(detour, LONGEST_DETOUR)), TCP_PATIENCE)
                self.clock.advance(wait - 2 * TCP_PATIENCE)
                self.assertEqual(self.dial(legs), "ws")
                self.clock.advance(2 * TCP_PATIENCE)
                detour *= 2
            legs.tcp = "tcp"
            self.assertEqual(self.dial(legs), "tcp")
            self.assertIsNone(legs.better_in(self.session))
            legs.tcp = ConnectError()
            self.dial(legs)
            self.assertEqual(legs.better_in(self.session), FIRST_DETOUR - TCP_PATIENCE)

    def test_one_tries(self) -> None:
        """While one leg tries the relay port again, the others do not wait for it."""
        legs = self.legs()
        legs.tcp = None
        self.dial(legs)
        self.clock.advance(FIRST_DETOUR)
        first, second = legs.dial(self.session), legs.dial(self.session)
        self.assertNoResult(first)
        self.successResultOf(second)
        self.clock.advance(TCP_PATIENCE)
        self.successResultOf(first)

    def test_together(self) -> None:
        """Legs that find out at the same time make one detour of it."""
        legs = self.legs()
        legs.tcp = None
        several = [legs.dial(self.session) for _ in range(3)]
        self.clock.advance(TCP_PATIENCE)
        for dialling in several:
            self.successResultOf(dialling)
        self.assertEqual(legs.better_in(self.session), FIRST_DETOUR)

    def test_away(self) -> None:
        """A server that is away altogether is no reason for a detour."""
        legs = self.legs()
        legs.tcp, legs.websockets = ConnectError(string="first"), ConnectError(string="second")
        failure = self.failureResultOf(legs.dial(self.session), ConnectError)
        self.assertIn("first", str(failure.value))
        legs.tcp = legs.websockets = "works"
        self.assertEqual(self.dial(legs), "tcp")

    def test_elsewhere(self) -> None:
        """Another relay port is another chance."""
        legs = self.legs()
        legs.tcp = ConnectError()
        self.dial(legs)
        legs.tcp = "tcp"
        self.assertEqual(self.dial(legs, session_at(9002)), "tcp")

    def test_learn(self) -> None:
        """The server's path is taken, unless the user has named one."""
        response = messages.RegisterResponse(success=True, ws_path="/secret")
        for ours, path in (("/relaytun", "/secret"), ("/mine", "/mine")):
            legs = ServerLegs(Route(self.clock, SERVER, None, ours), None)  # type: ignore[arg-type]
            legs.learn(messages.RegisterResponse(success=True))
            self.assertEqual(legs._path, ours)
            legs.learn(response)
            self.assertEqual(legs._path, path)
            legs.learn(messages.RegisterResponse(success=True, ws_path="/x HTTP/1.1\r\nEvil: y"))
            self.assertEqual(legs._path, path)
        legs = ServerLegs(Route(self.clock, SERVER), None)  # type: ignore[arg-type]
        legs.learn(messages.RegisterResponse(success=True, ws_path=""))  # That is /leg.
        self.assertEqual(legs._path, "")


class _Quiet:
    def warn(self, *args: Any, **fields: Any) -> None:
        pass

    info = warn


class Answering(Protocol):
    """A server that answers with what it was given, or opens a leg."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.opened = False
        self.reader = HeadReader()

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if self.opened:
            self.transport.loseConnection()
            return
        if self.answer is not None:
            self.transport.write(self.answer)
            self.transport.loseConnection()
        elif (head := self.reader.feed(data)) is not None:
            self.opened = True
            self.transport.write(websocket.answer(head))


class OpeningTests(TestCase):
    """The opening handshake over a real connection, with what a stranger answers."""

    timeout = 10

    async def open(self, answer: bytes | None, secure: bool = False) -> socket.socket:
        factory: Factory[Protocol] = Factory()
        factory.buildProtocol = lambda addr: Answering(answer)  # type: ignore[method-assign]
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        address = ServerAddress(host="127.0.0.1", port=port.getHost().port, secure=secure)
        legs = ServerLegs(Route(reactor, address), None, "ws")  # type: ignore[arg-type]
        return await legs.dial(session_at())

    async def test_refusals(self) -> None:
        """What is no leg's WebSocket is an error that names the URL and says what came."""
        for answer, saying in (
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "/relaytun/leg: it answers HTTP 404"),
            (b"SSH-2.0-x\r\n\r\n", "no HTTP response"),
            (b"", "closed during the opening handshake"),
            (b"HTTP/1.1 101 x\r\n\r\n", "wrong"),
        ):
            try:
                await self.open(answer)
            except WebSocketFailed as error:
                self.assertIn(saying, str(error))
            else:
                self.fail("that is no leg")

    async def test_no_tls(self) -> None:
        """A server that cannot be trusted is not used."""
        try:
            await self.open(b"nonsense", secure=True)
        except WebSocketFailed as error:
            self.assertIn("wss://127.0.0.1", str(error))
        else:
            self.fail("that is no TLS")

    async def test_cancelled(self) -> None:
        """One that is not wanted any more says so in one way, whichever way it takes."""
        proxy = HTTPProxy("127.0.0.1", 1)
        address = ServerAddress(host="127.0.0.1", port=1, secure=False)
        for route in (Route(reactor, address), Route(reactor, address, proxy)):  # type: ignore[arg-type]
            for transport in ("ws", "tcp") if route.proxy else ("ws",):
                legs = ServerLegs(route, None, transport)  # type: ignore[arg-type]
                dialling = legs.dial(session_at())
                dialling.cancel()
                self.failureResultOf(dialling, CancelledError)

    async def test_opened(self) -> None:
        """One that is open is a socket."""
        sock = await self.open(None)
        self.assertEqual(sock.family, socket.AF_UNIX)
        sock.close()
        readers: Any = reactor.getReaders  # type: ignore[attr-defined]
        await until(lambda: not any(isinstance(each, Client) for each in readers()))
