"""Tests of L{relaytun.nat.reflection}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.nat.reflection import Asking, Reflection, ask
from relaytun.wire import stun

from ..plane.test_splice import until
from ..plane.test_websocket import FakeReactor

PLACES = [("203.0.113.10", 9001), ("203.0.113.10", 9002)]
SEEN = ("198.51.100.2", 40000)
ALSO = ("198.51.100.2", 40001)


class AskingTests(SynchronousTestCase):
    """Questions and answers, by a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[tuple[bytes, Any]] = []
        self.asking = self.ask(PLACES)

    def ask(self, places: list[tuple[str, int]]) -> Asking:
        return Asking(
            self.clock, lambda packet, address: self.sent.append((packet, address)), places
        )

    def questions(self) -> list[tuple[bytes, Any]]:
        """The transactions of what was sent meanwhile, and where to."""
        sent, self.sent = self.sent, []
        found = []
        for packet, address in sent:
            asked = stun.decode(packet)
            assert isinstance(asked, stun.Request)
            found.append((asked.transaction, address))
        return found

    def answer(self, question: tuple[bytes, Any], seen: tuple[str, int] = SEEN) -> bool:
        return self.asking.received(stun.encode_answer(question[0], *seen))

    def assert_over(self, *external: tuple[str, int], rtt: float | None) -> None:
        told = self.successResultOf(self.asking.done)
        self.assertEqual(told, Reflection(external, rtt))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_both(self) -> None:
        """Both are asked at once, in their order, and the answers are told in that order, too."""
        one, other = self.questions()
        self.assertEqual([one[1], other[1]], PLACES)
        self.clock.advance(0.05)
        self.assertTrue(self.answer(other, ALSO))
        self.assertNoResult(self.asking.done)
        self.clock.advance(0.05)
        self.assertTrue(self.answer(one))
        self.assert_over(SEEN, ALSO, rtt=0.05)

    def test_retries(self) -> None:
        """Who does not answer is asked again, after 0.2 s and 0.4 s, and each try has its time."""
        lost, other = self.questions()
        self.answer(other)
        self.clock.advance(0.2)
        (again,) = self.questions()
        self.assertEqual(again[1], PLACES[0])
        self.assertNotEqual(again[0], lost[0])
        self.clock.advance(0.4)
        (last,) = self.questions()
        self.clock.pump([0.25, 0.25])
        self.assertNoResult(self.asking.done)
        self.assertEqual(self.questions(), [])
        self.answer(last)
        self.assert_over(SEEN, SEEN, rtt=0.0)

    def test_late(self) -> None:
        """The answer to an earlier try counts as well."""
        early, _ = self.questions()
        self.clock.advance(0.3)
        self.assertTrue(self.answer(early))
        self.assertTrue(self.answer(early, ALSO))
        self.clock.pump([0.3, 0.3, 0.8])
        self.assert_over(SEEN, rtt=0.3)

    def test_nobody(self) -> None:
        """Where nothing comes back one knows after 1.4 s."""
        self.clock.pump([0.2, 0.4, 0.7])
        self.assertNoResult(self.asking.done)
        self.clock.advance(0.1)
        self.assert_over(rtt=None)
        self.assertEqual(len(self.sent), 6)
        self.assertFalse(self.answer(self.questions()[0]))

    def test_refused(self) -> None:
        """A reflector that refuses is asked no more."""
        one, other = self.questions()
        self.asking.received(stun.encode_refusal(one[0], 420))
        self.answer(other)
        self.assert_over(SEEN, rtt=0.0)

    def test_no_places(self) -> None:
        """Without reflectors there is nothing to wait for."""
        self.asking.done.cancel()
        self.failureResultOf(self.asking.done, CancelledError)
        self.asking = self.ask([])
        self.assert_over(rtt=None)

    def test_strangers(self) -> None:
        """Nothing else that comes in is taken: the owner of the socket has it."""
        transaction, _ = self.questions()[0]
        for packet in (
            b"something",
            stun.encode_answer(bytes(12), *SEEN),
            stun.encode_request(transaction),
            stun.encode_answer(transaction, *SEEN)[:20],
        ):
            self.assertFalse(self.asking.received(packet))

    def test_cancelled(self) -> None:
        """Whoever stops it hears nothing more."""
        question, _ = self.questions()
        self.asking.done.cancel()
        self.failureResultOf(self.asking.done, CancelledError)
        self.assertFalse(self.answer(question))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SocketTests(TestCase):
    """With a socket of the caller's."""

    timeout = 20

    def udp(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        return sock

    async def test_ask(self) -> None:
        """The socket is asked from, and is the caller's again, without a reader, in the end."""
        sock, place = self.udp(), self.udp()
        there = place.getsockname()
        told = ask(reactor, sock, [there, there])  # type: ignore[arg-type]
        for _ in range(2):
            came: list[Any] = []
            await until(lambda: receive(place, came))  # noqa: B023
            packet, address = came[0]
            place.sendto(stun.encode_answer(stun.decode(packet).transaction, *address), address)
        reflection = await told
        self.assertEqual(reflection.external, (sock.getsockname(),) * 2)
        self.assertNotIn(sock.fileno(), [each.fileno() for each in reactor.getReaders()])  # type: ignore[attr-defined]

    def test_refused(self) -> None:
        """What the system says of packets that went nowhere is not the end."""
        fake = FakeReactor()
        sock, gone = self.udp(), self.udp()
        there = gone.getsockname()
        gone.close()
        told = ask(fake, sock, [there, ("255.255.255.255", 1)])  # type: ignore[arg-type]
        fake.turn()
        (reader,) = fake.readers
        reader.connectionLost(None)
        sock.close()
        fake.turn()
        told.addErrback(lambda failure: failure.trap(CancelledError))
        told.cancel()
        self.assertEqual((fake.readers, fake.getDelayedCalls()), (set(), []))

    def test_nobody(self) -> None:
        """Without anybody to ask the socket is not touched."""
        fake = FakeReactor()
        told = self.successResultOf(ask(fake, self.udp(), []))  # type: ignore[arg-type]
        self.assertEqual((told, fake.readers), (Reflection(), set()))


def receive(sock: socket.socket, into: list[Any]) -> bool:
    try:
        into.append(sock.recvfrom(2048))
    except BlockingIOError:
        return False
    return True
