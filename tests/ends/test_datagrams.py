"""Tests of L{relaytun.ends.datagrams}."""

from __future__ import annotations

from itertools import pairwise
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from relaytun.ends import datagrams
from relaytun.ends.binding import DatagramSession
from relaytun.ends.datagrams import RESOLVE_AGAIN
from relaytun.ends.datagramway import MOST_GATHERED
from relaytun.ends.probing import LAST_RETRY, PROOF, QUIET
from relaytun.wire.datagram import BIND_SIZE, OVERHEAD, Kind, encode_bind
from relaytun.wire.preamble import Role

from .datagram_support import KEYS, FakeSession, Network


class PathTests(SynchronousTestCase):
    """
    @ivar came: what the provider's side got, flow and datagram.
    """

    def setUp(self) -> None:
        self.net = Network()
        self.addCleanup(self.net.close)
        self.came: list[tuple[int, bytes]] = []
        self.net.provider.received = lambda flow, batch: self.came.extend(
            (flow, bytes(each)) for each in batch
        )

    def send(self, *payloads: bytes, flow: int = 5) -> tuple[int, int]:
        """@return: how many of them went by UDP and by the link."""
        path = self.net.visitor
        before = path.by_udp, path.by_link
        path.send(flow, payloads, max(map(len, payloads)))
        path.flush()
        self.net.reactor.pump()
        return path.by_udp - before[0], path.by_link - before[1]

    def test_first_over_the_link(self) -> None:
        """Before UDP is proven datagrams go over the link, afterwards by UDP; none is lost."""
        self.assertEqual(self.send(b"before"), (0, 1))
        self.net.connect()
        self.assertEqual(self.send(b"still"), (0, 1))
        self.net.reactor.run(1)
        self.assertEqual(self.send(b"now"), (1, 0))
        self.assertEqual(self.came, [(5, b"before"), (5, b"still"), (5, b"now")])
        self.assertIsNotNone(self.net.visitor.rtt)

    def test_batches(self) -> None:
        """Many flows and sizes at once arrive as they were."""
        self.net.prove()
        sent = [(flow, bytes([n]) * (n * 7 % 90)) for n in range(200) for flow in (1, n % 3 + 1)]
        for flow, payload in sent:
            self.net.visitor.send(flow, [payload], len(payload))
        run = b"".join(bytes([n]) * 1200 for n in range(100)) + b"last"
        self.net.visitor.send_run(9, memoryview(run), 1200)
        self.net.visitor.flush()
        self.net.reactor.pump()
        self.assertEqual(self.came[: len(sent)], sent)
        self.assertEqual(b"".join(payload for _, payload in self.came[len(sent) :]), run)
        self.assertEqual({flow for flow, _ in self.came[len(sent) :]}, {9})
        self.assertEqual(self.net.visitor.by_link, 0)

    def test_back(self) -> None:
        """The other direction works by itself."""
        came = []
        self.net.visitor.received = lambda flow, batch: came.extend(batch)
        self.net.prove()
        self.net.provider.send(3, [b"answer"], 6)
        self.net.provider.flush()
        self.net.reactor.pump()
        self.assertEqual(came, [b"answer"])
        self.net.links[Role.PROVIDER].send_datagram(3, b"more")
        self.assertEqual(came, [b"answer", b"more"])

    def test_udp_is_blocked(self) -> None:
        """Where UDP does not pass everything goes over the link, and few packets are wasted."""
        packets = []
        self.net.passes = lambda size: bool(packets.append(size))
        self.net.connect()
        self.net.reactor.run(300, 0.5)
        packets.clear()
        self.net.reactor.run(300, 0.5)
        self.assertLess(len(packets), 20)
        self.assertEqual(self.send(b"x"), (0, 1))

    def test_there_and_back(self) -> None:
        """UDP that breaks is left within seconds, and taken again when a probe was answered."""
        self.net.prove()
        self.net.passes = lambda size: False
        for _ in range(80):
            self.send(b"x")
            self.net.reactor.run(0.1)
        self.assertEqual(self.send(b"x"), (0, 1))
        self.net.passes = lambda size: True
        self.net.reactor.run(LAST_RETRY)
        self.assertEqual(self.send(b"x"), (1, 0))

    def test_quiet_for_long(self) -> None:
        """After a quiet time in which UDP has broken, not even the first datagram is lost."""
        self.net.prove()
        self.net.reactor.run(1200, 0.5)
        self.assertEqual(self.send(b"after 20 minutes"), (1, 0))
        self.net.passes = lambda size: False
        self.net.reactor.run(PROOF)
        self.assertEqual(self.send(b"still there"), (0, 1))
        self.assertEqual(len(self.came), 2)

    def test_keepalive(self) -> None:
        """In any 15 s something goes out to the relay, so that a NAT keeps the mapping."""
        times: list[float] = []
        self.net.prove()
        self.net.passes = lambda size: not times.append(self.net.reactor.seconds())
        self.net.reactor.run(120)
        gaps = [b - a for a, b in pairwise(times)]
        self.assertLessEqual(max(gaps), QUIET + 0.2)

    def test_large(self) -> None:
        """What is larger than a path takes goes over the link, and no fragment is ever sent."""
        limit = 1500 - 28
        self.net.passes = lambda size: size <= limit
        self.net.connect()
        self.net.reactor.run(2)
        fits = limit - OVERHEAD
        self.assertEqual(self.send(bytes(fits)), (1, 0))
        self.assertEqual(self.send(bytes(fits + 1)), (0, 1))
        self.assertEqual(self.send(bytes(60000), b"small", bytes(2000)), (1, 2))
        self.assertEqual(len(self.came), 5)

    def test_mtu_shrinks(self) -> None:
        """When the kernel learns of a smaller path, its news is taken up at once."""
        self.net.prove()
        socket = self.net.visitor._socket
        assert socket is not None
        self.patch(socket, "mtu", lambda: 1400)
        with mock.patch.object(socket, "_attempt", return_value=90):  # EMSGSIZE
            self.send(bytes(5000))
        self.assertEqual(self.send(bytes(5000)), (0, 1))
        self.net.reactor.run(QUIET + 1)
        self.assertEqual(self.send(bytes(1400 - 28 - OVERHEAD)), (1, 0))

    def test_dropped(self) -> None:
        """What neither way takes is counted; it is said once."""
        self.net.links[Role.VISITOR].open = False
        with mock.patch.object(type(self.net.visitor), "_log") as log:
            self.send(b"a", b"b")
            self.send(b"c")
        self.assertEqual(self.net.visitor.dropped, 3)
        self.assertEqual(log.warn.call_count, 1)

    def test_relay_is_gone(self) -> None:
        """A relay's port that is closed is noticed at once, where ICMP says so."""
        self.net.prove()
        self.net.relay_socket.close()
        self.net.reactor.readers.discard(self.net.relay._socket)
        self.send(b"lost")
        self.assertEqual(self.send(b"x"), (0, 1))

    def test_nat_moves_us(self) -> None:
        """When the address changes, UDP works again after a few seconds."""
        self.net.prove()
        ends = next(iter(self.net.relay._ends.values()))
        ends.visitor.address = ("192.0.2.1", 1)
        self.net.reactor.run(QUIET + 2)
        self.assertEqual(self.send(b"x"), (1, 0))
        self.assertEqual(self.came, [(5, b"x")])

    def test_nat_moves_us_while_used(self) -> None:
        """Sooner than the next keep-alive if datagrams are under way."""
        self.net.prove()
        self.send(b"x")
        ends = next(iter(self.net.relay._ends.values()))
        ends.visitor.address = ("192.0.2.1", 1)
        for _ in range(12):
            self.send(b"lost")
            self.net.reactor.run(0.5)
        self.came.clear()
        self.assertEqual(self.send(b"x"), (1, 0))
        self.assertEqual(self.came, [(5, b"x")])

    def test_another_session(self) -> None:
        """A new session takes over; in between the link does."""
        self.net.prove()
        self.net.sessions.clear()
        self.net.sessions[8] = FakeSession()
        for role, path in self.net.paths.items():
            path.use_session(self.net.session(role, 8))
            path.use_session(self.net.session(role, 8))
        self.assertEqual(self.send(b"x"), (0, 1))
        self.net.reactor.run(1)
        self.assertEqual(self.send(b"y"), (1, 0))
        self.net.visitor.use_session(None)
        self.assertEqual(self.send(b"z"), (0, 1))
        self.assertEqual(len(self.came), 3)

    def test_new_secrets(self) -> None:
        """While the link changes its channel, UDP goes on, whichever side is told first."""
        self.net.prove()
        for epoch in range(2, 12):
            first, second = list(self.net.paths.values())[:: 1 if epoch % 2 else -1]
            secret = bytes([epoch]) * 64
            first.new_secret(epoch, secret)
            self.assertEqual(self.send(b"x"), (1, 0))
            self.net.reactor.run(60 if epoch > 9 else 0.5)
            self.assertTrue(self.net.provider.by_udp_now)
            self.assertEqual(self.send(b"x"), (1, 0))
            second.new_secret(epoch, secret)
            self.assertEqual(self.send(b"x"), (1, 0))
            self.net.reactor.run(2)
            self.assertEqual(self.send(b"x"), (1, 0))
        self.assertEqual(len(self.came), 40)

    def test_reopened(self) -> None:
        """When the relay has been silent and the link has a new channel, a new socket is made."""
        self.net.prove()
        self.net.passes = lambda size: False
        before = self.net.visitor._socket
        self.net.reactor.run(30)
        after = self.net.visitor._socket
        self.assertIsNot(before, after)
        self.net.passes = lambda size: True
        self.net.visitor.new_secret(2, bytes(64))
        self.assertIsNot(self.net.visitor._socket, after)

    def test_rubbish(self) -> None:
        """What others send to our socket changes nothing."""
        self.net.prove()
        path = self.net.provider
        assert path._socket is not None
        to = path._socket.address
        for data in (b"", b"x", b"\0\0\0\7\0\1x", b"\0\0\0\7\0\60" + bytes(48), b"RTB1" * 20):
            self.net.relay_socket.sendto(data, to)
        packets = self.net.visitor._sealing.seal(8, 5, [b"another session"])
        packets += self.net.visitor._sealing.seal(7, 0, [b"\7unknown control"])
        for data in packets:
            self.net.relay_socket.sendto(data, to)
        self.net.reactor.pump()
        self.assertEqual(self.came, [])
        self.assertEqual(self.send(b"fine"), (1, 0))

    def test_the_other_side_comes_late(self) -> None:
        """As soon as the other side is there, so is UDP, in both directions."""
        self.net.visitor.new_secret(1, bytes(64))
        self.net.visitor.use_session(self.net.session(Role.VISITOR))
        self.net.reactor.run(60)
        self.assertEqual(self.send(b"x"), (0, 1))
        self.net.provider.new_secret(1, bytes(64))
        self.net.provider.use_session(self.net.session(Role.PROVIDER))
        self.net.reactor.run(1)
        self.assertEqual(self.send(b"x"), (1, 0))

    def test_answers_among_data(self) -> None:
        """The relay's answer is seen between data of its size."""
        self.net.prove()
        visitor, provider = self.net.visitor, self.net.provider
        assert provider._socket is not None and provider._binding is not None
        data = visitor._sealing.seal(7, 5, [bytes(BIND_SIZE - OVERHEAD)] * 2)
        self.assertEqual({len(each) for each in data}, {BIND_SIZE})
        counter = provider._binding._counter
        bind = encode_bind(KEYS[Role.PROVIDER], 7, Role.PROVIDER, Kind.BOUND, counter, b"c" * 16)
        run = memoryview(data[0] + bind + data[1])
        provider._from_relay(run, BIND_SIZE, ())
        self.assertEqual(len(self.came), 2)
        self.assertEqual(provider._binding._cookie, b"c" * 16)

    def test_many_at_once(self) -> None:
        """What is gathered is sent before it grows too large, not only at the end of a turn."""
        self.net.prove()
        for _ in range(MOST_GATHERED):
            self.net.visitor.send(5, [b"x"], 1)
        self.assertEqual(self.net.visitor._relay.outgoing, [])
        self.assertEqual(self.net.visitor.by_udp, MOST_GATHERED)

    def test_no_way_to_the_relay(self) -> None:
        """An address that cannot be reached by UDP costs no descriptor and is tried again."""
        session = DatagramSession("255.255.255.255", 9, 7, Role.VISITOR, KEYS[Role.VISITOR])
        self.net.visitor.use_session(session)
        self.assertIsNone(self.net.visitor._socket)
        self.assertEqual(self.send(b"x"), (0, 1))
        self.net.reactor.run(RESOLVE_AGAIN * 3, 1)
        self.assertIsNotNone(self.net.visitor._resolving)

    def test_names(self) -> None:
        """A relay's name is resolved; without an address the link serves, and it looks again."""
        answers: list[Deferred[object]] = []

        def resolve(reactor: object, host: str) -> Deferred[object]:
            answers.append(Deferred())
            return answers[-1]

        self.patch(datagrams, "addresses_of", resolve)
        self.net.connect()
        for answer in answers:
            answer.errback(DNSLookupError("no such name"))
        self.assertEqual(self.send(b"x"), (0, 1))
        del answers[:]
        self.net.reactor.run(RESOLVE_AGAIN + 0.1)
        self.assertEqual(len(answers), 2)
        self.net.provider.use_session(None)
        answers[0].callback([(2, "127.0.0.1")])
        self.assertIsNotNone(self.net.visitor._binding)
        self.net.provider.use_session(self.net.session(Role.PROVIDER))
        answers[2].errback(DNSLookupError("no such name"))
        self.net.close()
        self.assertEqual(self.net.reactor.getDelayedCalls(), [])
