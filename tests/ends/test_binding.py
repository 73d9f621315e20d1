"""Tests of L{relaytun.ends.binding}."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.ends.binding import KEEPALIVE, LAST_RETRY, Binding, DatagramSession
from relaytun.wire.datagram import NO_COOKIE, Bind, Kind, decode_bind, encode_bind
from relaytun.wire.preamble import Role

KEY = bytes(range(32))
SESSION = DatagramSession("relay.example", 9001, 7, Role.VISITOR, KEY)
COOKIE = b"c" * 16


class BindingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[Bind] = []
        self.confirmations = self.losses = 0
        self.binding = Binding(self.clock, SESSION, self.send, self.confirmed, self.lost)

    def send(self, packet: bytes) -> None:
        bind = decode_bind(packet)
        self.assertTrue(bind.is_authentic(KEY))
        self.sent.append(bind)

    def confirmed(self) -> None:
        self.confirmations += 1

    def lost(self) -> None:
        self.losses += 1

    def asked(self) -> Bind:
        """The one question since the last call."""
        (bind,) = self.sent
        self.sent.clear()
        self.assertIs(bind.kind, Kind.ASK)
        return bind

    def answer(
        self, kind: Kind, cookie: bytes = COOKIE, counter: int = -1, key: bytes = KEY
    ) -> None:
        if counter < 0:
            counter = self.binding._counter
        self.binding.received(encode_bind(key, 7, Role.VISITOR, kind, counter, cookie))

    def bind(self) -> None:
        self.binding.start()
        self.asked()
        self.answer(Kind.COOKIE)
        self.asked()
        self.answer(Kind.BOUND)

    def test_two_steps(self) -> None:
        """The cookie is brought back at once; then the address is bound."""
        self.binding.start()
        first = self.asked()
        self.assertEqual(first.cookie, NO_COOKIE)
        self.answer(Kind.COOKIE)
        second = self.asked()
        self.assertEqual(second.cookie, COOKIE)
        self.assertGreater(second.counter, first.counter)
        self.assertFalse(self.binding.bound)
        self.answer(Kind.BOUND)
        self.assertTrue(self.binding.bound)
        self.assertEqual(self.confirmations, 1)

    def test_keepalive(self) -> None:
        """Within every 15 s a packet goes out, with the newest cookie."""
        self.bind()
        for n in range(5):
            self.clock.advance(KEEPALIVE)
            self.assertEqual(self.asked().cookie, bytes([n]) * 16 if n else COOKIE)
            self.answer(Kind.BOUND, bytes([n + 1]) * 16)
        self.assertEqual(self.confirmations, 1)

    def test_address_changed(self) -> None:
        """A cookie for a keep-alive: the NAT has moved us; the new address is bound at once."""
        self.bind()
        self.clock.advance(KEEPALIVE)
        self.asked()
        self.answer(Kind.COOKIE, b"d" * 16)
        self.assertEqual(self.asked().cookie, b"d" * 16)
        self.answer(Kind.BOUND)
        self.assertTrue(self.binding.bound)

    def test_confirm(self) -> None:
        """In doubt it asks at once, and only once at a time; before it is bound it asks anyway."""
        self.binding.start()
        self.asked()
        self.binding.confirm()
        self.assertEqual(self.sent, [])
        self.answer(Kind.COOKIE)
        self.asked()
        self.answer(Kind.BOUND)
        self.clock.advance(1)
        self.binding.confirm()
        self.binding.confirm()
        self.asked()
        self.answer(Kind.BOUND)
        self.clock.advance(KEEPALIVE - 0.1)
        self.assertEqual(self.sent, [])
        self.assertEqual((self.confirmations, self.losses), (1, 0))

    def test_silence(self) -> None:
        """Without an answer it asks again, ever less often, and is not bound after a while."""
        self.bind()
        self.clock.advance(KEEPALIVE)
        times = []
        for _ in range(4000):
            if self.sent:
                self.asked()
                times.append(self.clock.seconds())
            self.clock.advance(0.1)
        gaps = [round(later - earlier) for earlier, later in pairwise(times)]
        self.assertEqual(gaps[:8], [1, 1, 2, 4, 8, 16, 32, LAST_RETRY])
        self.assertEqual(set(gaps[8:]), {LAST_RETRY})
        self.assertFalse(self.binding.bound)
        self.assertEqual(self.losses, 1)
        self.answer(Kind.BOUND)
        self.assertEqual(self.confirmations, 2)

    def test_lies(self) -> None:
        """What is not the relay's answer to the last question changes nothing."""
        self.binding.start()
        self.asked()
        self.answer(Kind.BOUND, counter=self.binding._counter - 1)
        self.answer(Kind.BOUND, key=bytes(32))
        self.answer(Kind.ASK)
        for session, role in ((8, Role.VISITOR), (7, Role.PROVIDER)):
            counter = self.binding._counter
            self.binding.received(encode_bind(KEY, session, role, Kind.BOUND, counter))
        self.binding.received(b"rubbish")
        self.assertFalse(self.binding.bound)
        self.assertEqual(self.sent, [])

    def test_cookies_without_end(self) -> None:
        """A relay that always answers with cookies makes no storm."""
        self.binding.start()
        for _ in range(20):
            self.answer(Kind.COOKIE)
        self.assertEqual(len(self.sent), 4)

    def test_stopped(self) -> None:
        """After stop nothing is sent, whatever comes."""
        self.bind()
        self.binding.stop()
        self.answer(Kind.COOKIE)
        self.clock.advance(100)
        self.assertEqual(self.sent, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_counters_rise_over_objects(self) -> None:
        """Another binding of the same session, later, is no replay."""
        self.clock.advance(1)
        self.bind()
        self.clock.advance(1)
        self.assertGreater(
            Binding(self.clock, SESSION, self.send, self.confirmed, self.lost)._counter,
            self.binding._counter,
        )
