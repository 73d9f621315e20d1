"""Tests of L{relaytun.server.reflector}."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from hypothesis import given, strategies as st
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.errors import UserError
from relaytun.server import reflector
from relaytun.server.reflector import (
    CONNECTIONS_PER_ADDRESS,
    PER_ADDRESS,
    SILENCE,
    Answering,
    Reflector,
    StreamReflector,
)
from relaytun.server.relay import Relay
from relaytun.wire import stun
from relaytun.wire.stun import Answer, Refusal, decode, encode_answer, encode_request

from ..plane.test_datagrams import taken_by_udp
from ..plane.test_splice import turn, until
from ..plane.test_websocket import FakeReactor

TRANSACTION = bytes(range(12))
ASKED = encode_request(TRANSACTION)
SOMEBODY = ("192.0.2.1", 1000)
ANSWERED = Answer(TRANSACTION, *SOMEBODY)
#: With an attribute that a server would have to know: CHANGE-REQUEST of RFC 5780.
STRANGE = ASKED[:3] + b"\x20" + ASKED[4:] + bytes.fromhex("0003000400000006")


class AnsweringTests(SynchronousTestCase):
    """What is answered."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.answering = Answering(self.clock)

    def answer(self, packet: bytes, address: tuple[Any, ...] = SOMEBODY) -> Any:
        answer = self.answering.answer(packet, address)
        return None if answer is None else decode(answer)

    def test_told(self) -> None:
        """Who asks is told where he is, of whichever family."""
        self.assertEqual(self.answer(ASKED), ANSWERED)
        self.assertEqual(
            self.answer(ASKED, ("2001:db8::1", 5, 0, 0)), Answer(TRANSACTION, "2001:db8::1", 5)
        )
        mapped = self.answer(ASKED, ("::ffff:192.0.2.1", 1000, 0, 0))
        self.assertEqual((mapped, self.answering.answered), (ANSWERED, 3))

    def test_strange(self) -> None:
        """A request that it does not understand in full is refused, as the RFC has it."""
        self.assertEqual(self.answer(STRANGE), Refusal(TRANSACTION, stun.UNKNOWN_ATTRIBUTE))

    def test_nothing_larger(self) -> None:
        """A question that is smaller than its answer gets none."""
        self.assertIsNone(self.answer(b"\0\1\0\0" + ASKED[4:20]))

    def test_answers(self) -> None:
        """An answer is not answered: two reflectors cannot be set on each other."""
        self.assertIsNone(self.answer(encode_answer(TRANSACTION, *SOMEBODY)))
        self.assertIsNone(self.answer(stun.encode_refusal(TRANSACTION, 420)))

    @given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda data: ASKED[:20] + data))
    def test_anything(self, packet: bytes) -> None:
        """Whatever comes, nothing larger goes back."""
        answer = self.answering.answer(packet, SOMEBODY)
        self.assertLessEqual(len(answer or b""), len(packet))

    def test_rate(self) -> None:
        """One address may ask so often a second, and takes nothing from another one."""
        for _ in range(int(PER_ADDRESS)):
            self.assertEqual(self.answer(ASKED), ANSWERED)
        self.assertIsNone(self.answer(ASKED, ("192.0.2.1", 2000)))
        self.assertIsNotNone(self.answer(ASKED, ("192.0.2.2", 1000)))
        self.clock.advance(1 / PER_ADDRESS)
        self.assertEqual(self.answer(ASKED), ANSWERED)
        self.assertIsNone(self.answer(ASKED))
        self.assertEqual(self.answering.unanswered, 2)

    def test_many_addresses(self) -> None:
        """What is kept of addresses is bounded, and so is what they may ask together."""
        self.patch(reflector, "MOST_ADDRESSES", 3)
        for n in range(4):
            self.answer(ASKED, (f"192.0.2.{n}", 1))
        self.assertEqual(list(self.answering._by_address), [f"192.0.2.{n}" for n in (1, 2, 3)])
        self.patch(reflector, "IN_ALL", 2.0)
        self.answering = Answering(self.clock)
        answers = [self.answer(ASKED, (f"192.0.2.{n}", 1)) is not None for n in range(3)]
        self.assertEqual(answers, [True, True, False])


class StreamTests(SynchronousTestCase):
    """Connections."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.reflector = StreamReflector(self.reactor, Answering(self.reactor))  # type: ignore[arg-type]
        self.addCleanup(self.reflector.stop)

    def connect(self, begun: bytes = b"", host: str = "192.0.2.1") -> socket.socket:
        peer, sock = socket.socketpair()
        for end in (peer, sock):
            end.setblocking(False)
            self.addCleanup(end.close)
        self.reflector.accepted(sock, (host, 1000), begun)
        return peer

    def assert_closed(self, peer: socket.socket) -> None:
        self.assertEqual(peer.recv(99), b"")
        self.assertEqual((len(self.reflector.admission), self.reflector.connections), (0, set()))
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), (set(), []))

    def test_asks(self) -> None:
        """Requests are answered one after the other, whatever the parts in which they come."""
        peer = self.connect(ASKED[:3])
        peer.send(ASKED[3:30])
        self.reactor.turn()
        self.assertRaises(BlockingIOError, peer.recv, 99)
        peer.send(ASKED[30:] + ASKED)
        self.reactor.turn()
        answer = encode_answer(TRANSACTION, *SOMEBODY)
        self.assertEqual(peer.recv(99), answer * 2)
        self.reactor.turn()
        peer.close()
        self.reactor.turn()
        self.assertEqual(self.reflector.connections, set())

    def test_silence(self) -> None:
        """A connection is kept as long as it asks now and then."""
        peer = self.connect(ASKED)
        peer.recv(99)
        self.reactor.advance(SILENCE - 1)
        peer.send(ASKED)
        self.reactor.turn()
        peer.recv(99)
        self.reactor.advance(SILENCE - 1)
        self.assertEqual(len(self.reflector.connections), 1)
        self.reactor.advance(1)
        self.assert_closed(peer)

    def test_strangers(self) -> None:
        """What asks nothing is closed without a word."""
        for data in (b"GET / HTTP/1.1\r\n", encode_answer(TRANSACTION, *SOMEBODY)):
            self.assert_closed(self.connect(data))

    def test_does_not_read(self) -> None:
        """Who does not read his answers is let go."""
        self.patch(reflector, "PER_ADDRESS", 1e9)
        self.patch(reflector, "IN_ALL", 1e9)
        self.reflector = StreamReflector(self.reactor, Answering(self.reactor))  # type: ignore[arg-type]
        peer = self.connect()
        with contextlib.suppress(OSError):
            for _ in range(100_000):
                peer.send(ASKED)
                self.reactor.turn()
        self.assertEqual(self.reflector.connections, set())

    def test_crowd(self) -> None:
        """When an address has all of its places, its oldest connection makes room."""
        first = self.connect()
        for _ in range(CONNECTIONS_PER_ADDRESS):
            self.connect()
        self.connect(host="192.0.2.2")
        self.assertEqual(first.recv(99), b"")
        self.assertEqual(len(self.reflector.connections), CONNECTIONS_PER_ADDRESS + 1)

    def test_lost(self) -> None:
        """A connection that died is forgotten, and closing again is nothing."""
        peer = self.connect()
        (connection,) = self.reflector.connections
        connection.connectionLost(None)  # type: ignore[arg-type]
        connection.close()
        self.assert_closed(peer)


class LegTests(SynchronousTestCase):
    """Connections to the relay port that are no legs."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.relay = Relay(self.reactor, None, None)  # type: ignore[arg-type]
        self.reflector = StreamReflector(self.reactor, Answering(self.reactor))  # type: ignore[arg-type]
        self.relay.reflect = self.reflector.accepted
        self.addCleanup(self.reflector.stop)

    def connect(self, address: Any = SOMEBODY) -> socket.socket:
        peer, sock = socket.socketpair()
        for end in (peer, sock):
            end.setblocking(False)
            self.addCleanup(end.close)
        self.relay.accepted(sock, address)
        return peer

    def test_asks(self) -> None:
        """STUN is answered there, too, and is no leg as soon as it is told from one."""
        peer = self.connect()
        peer.send(ASKED[:7])
        self.reactor.turn()
        self.assertEqual(self.relay.open_legs, 1)
        peer.send(ASKED[7:])
        self.reactor.turn()
        self.reactor.turn()
        self.assertEqual(decode(peer.recv(99)), ANSWERED)
        self.assertEqual((self.relay.open_legs, len(self.relay.admission)), (0, 0))

    def test_others(self) -> None:
        """What is neither is turned away as ever, and all is where there is no reflector."""
        for data in (b"\0" * 64, b"\0\1\0\x18none"):
            peer = self.connect()
            peer.send(data)
            self.reactor.turn()
            self.assertEqual(peer.recv(99), b"-\1")
        for address, reflect in ((SOMEBODY, None), ("", self.reflector.accepted)):
            self.relay.reflect = reflect
            peer = self.connect(address)
            peer.send(ASKED)
            self.reactor.turn()
            self.assertEqual(peer.recv(99), b"-\1")
        self.relay.stop()


class PortTests(TestCase):
    """The port of its own."""

    timeout = 20

    def start(self, port: int | None, relay: int = 0) -> Reflector:
        answering = Answering(reactor)  # type: ignore[arg-type]
        beside: Any = type("Relay", (), {"number": relay})()
        service = Reflector(reactor, answering, "127.0.0.1", port, beside)  # type: ignore[arg-type]
        self.addCleanup(lambda: maybeDeferred(service.stopService))
        service.privilegedStartService()
        service.startService()
        return service

    async def test_answers(self) -> None:
        """Over UDP and TCP, on one number."""
        service = self.start(0)
        self.assertEqual(service.address, {"host": "127.0.0.1", "port": service.number})
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.connect(("127.0.0.1", service.number))
                sock.setblocking(False)
                sock.send(b"nothing of the kind" if kind is socket.SOCK_DGRAM else b"")
                sock.send(ASKED)
                came: list[bytes] = []
                await until(lambda: read(sock, came))  # noqa: B023
                self.assertEqual(decode(came[0]), Answer(TRANSACTION, *sock.getsockname()))

    async def test_beside(self) -> None:
        """By itself it takes the number after the relay's if that is free, else any."""
        with taken_by_udp() as taken:
            number = taken.getsockname()[1]
            other = self.start(None, number - 1).number
        self.assertNotIn(other, (0, number))
        await turn()  # Only then is the TCP port free again.
        self.assertEqual(self.start(None, number - 1).number, number)
        self.assertNotEqual(self.start(None, 65535).number, 0)

    def test_busy(self) -> None:
        """A number that was asked for and is busy is an error."""
        with taken_by_udp() as taken:
            number = taken.getsockname()[1]
            with self.assertRaises(UserError) as raised:
                self.start(number)
        self.assertIn(f"udp:{number}, which goes with the reflector port", str(raised.exception))

    def test_stopped(self) -> None:
        """Once stopped it has no number."""
        service = self.start(0)
        service.stopService()
        self.assertEqual(service.number, 0)


def read(sock: socket.socket, into: list[bytes]) -> bool:
    with contextlib.suppress(BlockingIOError):
        into.append(sock.recv(99))
    return bool(into)
