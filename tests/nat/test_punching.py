"""Tests of L{relaytun.nat.punching}, L{relaytun.nat.guessing} and L{relaytun.nat.candidates}."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.nat import guessing
from relaytun.nat.candidates import NoPath, first_hops, usable
from relaytun.nat.guessing import Hard, spare_descriptors, weaker
from relaytun.nat.path import UdpPath
from relaytun.nat.punching import MOST_ADDRESSES, UdpPunch
from relaytun.wire.punch import FULL_SIZE, SIZE, Kind, Speech, decode

from . import network
from .network import DELAY, Address, Network, Socket

KEY = bytes(32)
SESSION = bytes(16)
A = "198.51.100.2", 4000
B = "192.0.2.2", 5000
#: An address where nobody is.
NOBODY = "192.168.7.7", 7000


class PunchingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.addCleanup(self.nothing_is_left)
        self.ports = iter(range(10_000, 11_000))

    def nothing_is_left(self) -> None:
        """No timer, no socket and no reader stays behind."""
        self.network.advance(DELAY)
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.assertEqual(self.network.sockets, {})
        self.assertEqual(self.network.readers, {})

    def punch(self, own: Address, peers: list[Address], **options: Any) -> UdpPunch:
        def another() -> Socket:
            return Socket(self.network, (own[0], next(self.ports)))

        options.setdefault("make_socket", another)
        options.setdefault("initiator", own == A)
        options.setdefault("key", KEY)
        sock: Any = Socket(self.network, own)
        punch: Any = UdpPunch
        return punch(self.network, sock, session=SESSION, candidates=peers, **options)  # type: ignore[no-any-return]

    def both(
        self, seconds: float = 1, a: list[Address] | None = None, b: list[Address] | None = None
    ) -> tuple[UdpPath, UdpPath]:
        """Both start at once, and find each other."""
        one = self.punch(A, [B] if a is None else a).start()
        other = self.punch(B, [A] if b is None else b).start()
        self.network.run(seconds)
        paths = self.successResultOf(one), self.successResultOf(other)
        for path in paths:
            self.addCleanup(path.close)
        return paths

    def sent(self, source: Address) -> list[tuple[float, Address, Kind, int]]:
        """What was sent from there: when, to where, what, with how many hops."""
        return [
            (round(at, 3), target, decode(data).kind, hops)
            for at, came_from, target, data, hops in self.network.log
            if came_from == source
        ]


class ProofTests(PunchingTestCase):
    def test_success(self) -> None:
        """Both sides end up with the peer's address, after a full-size packet each way."""
        one, other = self.both()
        self.assertEqual((one.address, other.address), (B, A))
        self.assertAlmostEqual(one.round_trip, 0.02, 2)
        self.assertEqual((one.found, other.found), ("candidate", "candidate"))
        for source in (A, B):
            sizes = {len(data) for _, own, _, data, _ in self.network.log if own == source}
            self.assertEqual(sizes, {SIZE, FULL_SIZE})

    def test_schedule(self) -> None:
        """The first packet has few hops; then 50 ms, each 100 ms to 1 s, each 250 ms to 5 s."""
        done = self.punch(A, [B]).start()
        self.network.run(6)
        error = self.failureResultOf(done, NoPath)
        self.assertEqual(str(error.value), "no packet of the peer arrived")
        sent = self.sent(A)
        times = [round(at * 1000) for at, *_ in sent]
        due = [0, *range(50, 1000, 100), *range(1200, 5001, 250)]
        self.assertEqual(len(times), len(due))
        for at, wanted in zip(times, due, strict=True):
            self.assertLessEqual(abs(at - wanted), 10)
        self.assertEqual([hops for *_, hops in sent], [4] + [64] * (len(sent) - 1))

    def test_peer_reflexive(self) -> None:
        """An answer goes to where the question came from, and that becomes the peer's address."""
        seen = A[0], 40001

        self.network.aliases[seen] = A
        self.network.passes = lambda source, target, *_: (
            None if target == A else seen if source == A else source
        )
        _, other = self.both()
        self.assertEqual((other.address, other.found), (seen, "reflexive"))
        self.assertIn((seen, 64), [(target, hops) for _, target, _, hops in self.sent(B)])

    def test_private_and_public(self) -> None:
        """All candidates are tried at the same time; those where nobody is do no harm."""
        self.both(a=[NOBODY, B], b=[A, NOBODY])
        first = [target for at, target, *_ in self.sent(A) if at == 0]
        self.assertEqual(first, [NOBODY, B])

    def test_loss(self) -> None:
        """Each packet is repeated until it is answered."""
        dropped = set()

        def lossy(source: Address, _: Address, data: bytes, hops: int) -> Address | None:
            what = source, decode(data).kind
            if what in dropped:
                return source
            dropped.add(what)
            return None

        self.network.passes = lossy
        self.both()
        self.assertGreater(len(dropped), 6)

    def test_slow(self) -> None:
        """A path whose answers take longer than a question is repeated is found as well."""
        self.patch(network, "DELAY", 0.2)
        one, other = self.both(seconds=3)
        self.assertAlmostEqual(one.round_trip, 0.4, 2)
        one.close()
        other.close()
        self.network.advance(0.2)

    def test_only_small_packets(self) -> None:
        """A path that full-size packets do not pass is no path."""
        self.network.passes = lambda source, target, data, hops: (
            source if len(data) == SIZE else None
        )
        one, other = self.punch(A, [B]).start(), self.punch(B, [A]).start()
        self.network.run(6)
        error = self.failureResultOf(one, NoPath)
        self.assertEqual(str(error.value), "small packets pass, but none of 1200 bytes")
        self.failureResultOf(other, NoPath)

    def test_other_path_when_large_ones_fail(self) -> None:
        """If full-size packets fail on one path, the next one that answers is chosen."""
        narrow, back = ("192.0.2.3", 5001), ("198.51.100.3", 4001)
        self.network.aliases = {narrow: B, back: A}

        def two_ways(source: Address, target: Address, data: bytes, _: int) -> Address | None:
            if target == narrow:
                return back if len(data) == SIZE else None
            return narrow if target == back else source

        self.network.passes = two_ways
        one, other = self.both(seconds=2, a=[narrow, B])
        self.assertEqual((one.address, other.address), (B, A))

    def test_one_way(self) -> None:
        """Who hears the peer, but is not heard, says so."""
        self.network.passes = lambda source, *_: source if source == B else None
        one, other = self.punch(A, [B]).start(), self.punch(B, [A]).start()
        self.network.run(6)
        self.assertIn("no answers to ours", str(self.failureResultOf(one, NoPath).value))
        self.assertIn("no packet of the peer", str(self.failureResultOf(other, NoPath).value))

    def test_not_confirmed(self) -> None:
        """Without the other side's agreement there is no path."""
        self.network.passes = lambda source, target, data, _: (
            None if decode(data).kind is Kind.USED else source
        )
        one, other = self.punch(A, [B]).start(), self.punch(B, [A]).start()
        self.network.run(6)
        self.assertIn("did not agree", str(self.failureResultOf(one, NoPath).value))
        self.successResultOf(other).close()

    def test_no_route(self) -> None:
        """A host that cannot send is told so."""
        punch = self.punch(A, [B])
        self.network.sockets[A].broken = True
        done = punch.start()
        self.network.run(6)
        self.assertIn("cannot send", str(self.failureResultOf(done, NoPath).value))

    def test_cancelled(self) -> None:
        """A cancelled attempt leaves nothing behind, nor does one that never started."""
        done = self.punch(A, [B], hard=Hard(False, B, NEXT, "birthday")).start()
        self.network.run(0.3)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.punch(A, [B]).stop()
        punch = self.punch(A, [B])
        done = punch.start()
        punch.stop()
        punch.stop()
        self.failureResultOf(done, CancelledError)


class SecurityTests(PunchingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.attempt = self.punch(A, [])
        self.done = self.attempt.start()
        self.addCleanup(self.failureResultOf, self.done, CancelledError)
        self.addCleanup(self.attempt.stop)
        self.peer = Speech(KEY, SESSION, False)

    def test_strangers_get_no_answer(self) -> None:
        """Nothing answers what is forged, reflected, of another attempt, or not ours at all."""
        for data in [
            b"",
            b"\x40" * 1200,
            Speech(bytes(31) + b"\1", SESSION, False).question(Kind.PING, bytes(8)),
            Speech(KEY, b"\1" * 16, False).question(Kind.PING, bytes(8)),
            Speech(KEY, SESSION, True).question(Kind.PING, bytes(8)),
        ]:
            self.network.deliver(B, A, data)
        self.network.run(1)
        self.assertEqual(self.network.log, [])
        self.assertFalse(self.attempt.heard)

    def test_replay(self) -> None:
        """A packet that is repeated, from wherever, is not answered again."""
        data = self.peer.question(Kind.PING, b"question")
        self.network.deliver(B, A, data)
        self.assertIn((0, B, Kind.PONG, 64), self.sent(A))
        self.network.deliver(NOBODY, A, data)
        self.network.run(0.2)
        self.assertNotIn(NOBODY, [target for _, target, *_ in self.sent(A)])

    def test_pong_is_no_larger(self) -> None:
        """An answer has exactly the size of its question."""
        for kind in (Kind.PING, Kind.ECHO):
            data = self.peer.question(kind, b"question")
            self.network.log.clear()
            self.network.deliver(B, A, data)
            answers = [len(d) for *_, d, _ in self.network.log if decode(d).kind == kind + 1]
            self.assertEqual(answers, [len(data)])

    def test_pong_from_elsewhere(self) -> None:
        """A pong counts only from where its ping went."""
        self.network.deliver(B, A, self.peer.question(Kind.PING, b"question"))
        (ping,) = [decode(d) for *_, d, _ in self.network.log if decode(d).kind is Kind.PING]
        self.network.deliver(NOBODY, A, self.peer.answer(ping))
        self.network.run(0.1)
        self.assertNotIn(Kind.ECHO, [kind for _, _, kind, _ in self.sent(A)])

    def test_bounds(self) -> None:
        """Answers a second and addresses of the peer are bounded."""
        for number in range(1000):
            self.network.deliver((B[0], 1024 + number), A, self.peer.question(Kind.PING, bytes(8)))
        self.assertEqual(len({target for _, target, *_ in self.sent(A)}), MOST_ADDRESSES)
        for _ in range(1000):
            self.network.deliver((B[0], 1024), A, self.peer.question(Kind.PING, bytes(8)))
        pongs = [kind for _, _, kind, _ in self.sent(A) if kind is Kind.PONG]
        self.assertEqual(len(pongs), 200)

    def test_use_of_the_wrong_side(self) -> None:
        """Only the initiator chooses."""
        self.network.deliver(B, A, self.peer.question(Kind.USE, bytes(8)))
        self.assertNotIn(Kind.USED, [kind for _, _, kind, _ in self.sent(A)])


#: What a hard side could tell.
NEXT = tuple((B[0], B[1] + 2 * number) for number in range(1, 11))


class GuessingTests(PunchingTestCase):
    def hard(self, own: Address, mine: bool, **options: Any) -> Any:
        hard = Hard(mine, B if own == A else A, **options)
        return self.punch(own, [], hard=hard).start()

    def test_prediction(self) -> None:
        """From 1 s on, what the hard side predicts is tried, first with few hops, from its end."""
        done = self.hard(A, False, predicted=NEXT)
        self.network.run(0.99)
        self.assertEqual(self.network.log, [])
        self.network.run(5)
        self.failureResultOf(done, NoPath)
        tried = [target for at, target, _, hops in self.sent(A) if hops == 4]
        self.assertEqual(tried, list(reversed(NEXT)))

    def test_prediction_meets(self) -> None:
        """The hard side's new socket is found under its predicted port."""
        real = B[0], next(self.ports)
        self.ports = iter(range(real[1], real[1] + 10))
        predicted = (B[0], real[1] - 1), real, (B[0], real[1] + 1)
        self.network.passes = lambda source, target, _, hops: source if hops == 64 else None
        one = self.punch(A, [], hard=Hard(False, B, predicted)).start()
        other = self.punch(B, [], hard=Hard(True, A, predicted)).start()
        self.network.run(2)
        path = self.successResultOf(one)
        self.assertEqual((path.address, path.found), (real, "predicted"))
        path.close()
        self.successResultOf(other).close()

    def test_opened_at_once(self) -> None:
        """The hard side's new socket takes its port behind the known one's, and at once."""
        done = self.punch(B, [A], hard=Hard(True, A, NEXT)).start()
        first = [(source, target) for _, source, target, _, hops in self.network.log if hops == 4]
        new = B[0], 10_000
        self.assertEqual(first, [(B, A), (new, A)])
        self.network.run(0.99)
        self.assertEqual(len(self.sent(new)), 1)
        self.network.run(0.1)
        self.assertEqual([hops for *_, hops in self.sent(new)], [4, 4, 64])
        done.cancel()
        self.failureResultOf(done, CancelledError)

    def test_answered_early(self) -> None:
        """The easy side may be ahead: what comes to the new socket was predicted all the same."""
        done = self.punch(B, [A], hard=Hard(True, A, NEXT), initiator=False).start()
        peer = Speech(KEY, SESSION, True)
        self.network.deliver(A, (B[0], 10_000), peer.question(Kind.PING, b"question"))
        pings = [decode(data) for *_, data, _ in self.network.log]
        for ping in pings:
            if ping.kind is Kind.PING:
                self.network.deliver(A, (B[0], 10_000), peer.answer(ping))
        self.network.deliver(A, (B[0], 10_000), peer.question(Kind.USE, b"decision"))
        path = self.successResultOf(done)
        self.assertEqual(path.found, "predicted")
        path.close()

    def test_unusable(self) -> None:
        """What cannot be an address is not tried, whatever is predicted."""
        predicted = ("224.0.0.1", 1), (B[0], 65536), ("name", 1), B
        done = self.punch(A, [], hard=Hard(False, B, predicted)).start()
        self.network.run(6)
        self.failureResultOf(done, NoPath)
        self.assertEqual({target for _, target, *_ in self.sent(A)}, {B})

    def test_own_sockets(self) -> None:
        """Without somebody who makes sockets, they are as the first one, if the system can."""
        for host, possible in (("127.0.0.1", True), ("198.51.100.2", False)):
            punch = self.punch((host, 4000), [], make_socket=None)
            opened = punch.open_socket()
            self.assertEqual(opened is not None, possible)
            if opened is not None:
                self.assertEqual(opened.sock.getsockname()[0], host)
            punch.stop()

    def test_weaker(self) -> None:
        """What only one side allows is not done."""
        for one, other, both in (
            ("no", "birthday", "no"),
            ("birthday", "predict", "predict"),
            ("predict", "no", "no"),
            ("birthday", "birthday", "birthday"),
        ):
            self.assertEqual(weaker(one, other), both)  # type: ignore[arg-type]

    def test_policy_no(self) -> None:
        """Nothing is guessed when the policy says so, or there is nothing to go by."""
        for mine in (False, True):
            for options in ({"predicted": NEXT, "policy": "no"}, {"policy": "predict"}):
                done = self.hard(A, mine, **options)
                self.network.run(5.1)
                self.failureResultOf(done, NoPath)
        self.assertEqual(self.network.log, [])

    def test_birthday_probes(self) -> None:
        """The easy side sends 200 packets a second and 1000 in all, each to another port."""
        done = self.hard(A, False, policy="birthday")
        self.network.run(2.5)
        self.assertLessEqual(abs(len(self.network.log) - 200), 20)
        self.network.run(6)
        self.failureResultOf(done, NoPath)
        ports = {target[1] for _, target, *_ in self.sent(A)}
        self.assertEqual((len(self.network.log), len(ports)), (1000, 1000))

    def test_birthday_sockets(self) -> None:
        """The hard side opens 256 sockets, which it closes again, with packets of few hops."""
        done = self.hard(B, True, policy="birthday")
        self.network.run(3)
        self.assertEqual(len(self.network.sockets), 257)
        self.assertEqual({hops for *_, hops in self.network.log}, {4})
        self.network.run(5)
        self.failureResultOf(done, NoPath)

    def test_birthday_meets(self) -> None:
        """A probe that hits one of them makes the path."""
        self.patch(guessing, "_PORTS", range(9_500, 11_000))
        one = self.hard(A, False, policy="birthday")
        other = self.hard(B, True, policy="birthday")
        self.network.passes = lambda source, target, _, hops: source if hops == 64 else None
        self.network.run(6)
        path = self.successResultOf(one)
        self.assertEqual(path.found, "birthday")
        self.successResultOf(other).close()
        path.close()

    def test_descriptors(self) -> None:
        """With few descriptors left, fewer sockets are opened, or none."""
        self.patch(guessing, "spare_descriptors", lambda: 40)
        done = self.hard(B, True, policy="birthday")
        self.network.run(3)
        self.assertEqual(len(self.network.sockets), 41)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.patch(guessing, "spare_descriptors", lambda: 31)
        done = self.hard(B, True, policy="birthday")
        self.network.run(8)
        self.failureResultOf(done, NoPath)

    def test_no_more_descriptors(self) -> None:
        """When the system refuses a socket, nothing else breaks."""
        for policy in ("predict", "birthday"):
            hard = Hard(True, A, NEXT, policy)  # type: ignore[arg-type]
            done = self.punch(B, [], hard=hard, make_socket=mock.Mock(side_effect=OSError)).start()
            self.network.run(9)
            self.failureResultOf(done, NoPath)

    def test_spare_descriptors(self) -> None:
        """Half of what is left, after a reserve, may be used."""
        with mock.patch("resource.getrlimit", return_value=(1064, 1064)):
            with mock.patch("os.listdir", return_value=["0"] * 100):
                self.assertEqual(spare_descriptors(), 450)
            with mock.patch("os.listdir", side_effect=OSError):
                self.assertEqual(spare_descriptors(), 0)
        with mock.patch("resource.getrlimit", return_value=(-1, -1)):
            self.assertEqual(spare_descriptors(), 256)
        with mock.patch.dict("sys.modules", resource=None):
            self.assertEqual(spare_descriptors(), 0)


class CandidateTests(SynchronousTestCase):
    def test_first_hops(self) -> None:
        """Each attempt's first packets get another way, the first one's four hops."""
        self.assertEqual([first_hops(attempt) for attempt in (1, 2, 3, 4)], [4, 2, 3, 4])

    def test_usable(self) -> None:
        """Only unicast addresses of the right family are tried, each once, sixteen at most."""
        self.assertEqual(
            usable(
                [
                    *(("192.168.1.1", 1), ("192.168.1.1", 1), ("10.0.0.1", 65535)),
                    *(("192.168.1.1", 0), ("192.168.1.1", 65536), ("name", 1), ("224.0.0.1", 1)),
                    *(("0.0.0.0", 1), ("255.255.255.255", 1), ("127.0.0.1", 1), ("fd00::1", 1)),
                ]
            ),
            [("192.168.1.1", 1), ("10.0.0.1", 65535)],
        )
        self.assertEqual(usable([("fd00::1", 1), ("1.2.3.4", 1)], ipv6=True), [("fd00::1", 1)])
        self.assertEqual(usable([("127.0.0.1", 1)], loopback=True), [("127.0.0.1", 1)])
        self.assertEqual(len(usable([("1.2.3.4", port) for port in range(1, 99)])), 16)


class RealTests(TestCase):
    timeout = 20

    async def meets(self, family: int, host: str) -> None:
        socks = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        for sock in socks:
            sock.bind((host, 0))
        names = [sock.getsockname()[:2] for sock in socks]
        real: Any = reactor
        one, other = (
            UdpPunch(real, sock, KEY, SESSION, initiator, [peer], loopback=True).start()
            for sock, initiator, peer in zip(socks, (True, False), reversed(names), strict=True)
        )
        for path in [await one, await other]:
            self.addCleanup(path.close)
            self.assertIn(path.address, names)
        self.assertEqual(
            socks[0].getsockopt(socket.IPPROTO_IP, socket.IP_TTL),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).getsockopt(
                socket.IPPROTO_IP, socket.IP_TTL
            ),
        )

    async def test_ipv4(self) -> None:
        """Real sockets find each other, and their hop limit is what it was."""
        await self.meets(socket.AF_INET, "127.0.0.1")

    async def test_ipv6(self) -> None:
        """The same over IPv6."""
        await self.meets(socket.AF_INET6, "::1")
