"""Tests of L{relaytun.client.meeting} and its attempts: which connection is used, or why none."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client import attempt as module, mapping
from relaytun.client.attempt import TCP_FIRST, NoDirectPath
from relaytun.client.gathering import Offer
from relaytun.client.meeting import ClientNetwork, Meetings
from relaytun.client.roaming import Way
from relaytun.nat.candidates import TIMEOUT, NoPath
from relaytun.nat.interfaces import is_local
from relaytun.wire.messages import Candidate, MeetingAnswer

KEY = bytes(range(32))
SESSION = f"{7:032x}"


class FakeTcpOpen:
    """What L{TcpOpen} is to a meeting."""

    def __init__(
        self, reactor: Any, local: Any, candidates: Any, connected: Any, make_socket: Any = None
    ) -> None:
        self.local, self.candidates, self.connected = local, candidates, connected
        self.done: Deferred[None] = Deferred()
        self.stopped: list[Any] = []

    def start(self) -> Deferred[None]:
        return self.done

    def stop(self, winner: Any = None) -> None:
        self.stopped.append(winner)
        if not self.done.called:
            self.done.callback(None)


class FakePath:
    """What a UDP path is to a meeting."""

    address = ("127.0.0.1", 9)
    closed = 0
    received = lost = None

    def send(self, data: bytes) -> bool:
        return True

    def close(self) -> None:
        self.closed += 1


class FakePunch:
    """What L{UdpPunch} is to a meeting."""

    def __init__(
        self,
        reactor: Any,
        sock: Any,
        key: bytes,
        session: bytes,
        initiator: bool,
        udp: Any,
        **more: Any,
    ) -> None:
        self.sock, self.key, self.session, self.initiator = sock, key, session, initiator
        self.candidates, self.more = udp, more
        self.done: Deferred[Any] = Deferred()
        self.stopped = False

    def start(self) -> Deferred[Any]:
        return self.done

    def stop(self) -> None:
        self.stopped = True
        self.sock.close()
        if not self.done.called:
            self.done.cancel()


class FakePipe:
    """What L{QuicPipe} is to a meeting."""

    def __init__(self, reactor: Any, send: Any, end: Any, **more: Any) -> None:
        self.end, self.more = end, more
        self.connected: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.started = False

    def start(self) -> None:
        self.started = True

    def received(self, data: bytes) -> None:
        """A datagram."""

    def close(self) -> None:
        self.end.close()
        if not self.connected.called:
            self.connected.errback(ValueError("no handshake"))
        if not self.closed.called:
            self.closed.callback(None)


class FakeMapping:
    released = 0

    def release(self) -> None:
        self.released += 1


class MeetingCase(SynchronousTestCase):
    """
    @ivar ours: this client's offer, with a real UDP socket.
    @ivar proofs: of each connection that was found: the socket, its name, and what says whether it
        leads to the other client.
    @ivar used: what a link uses.
    """

    lan_only = False
    punched: Any = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.openings: list[FakeTcpOpen] = []
        self.punches: list[FakePunch] = []
        self.pipes: list[FakePipe] = []
        for name, fake, made in (
            ("TcpOpen", FakeTcpOpen, self.openings),
            ("UdpPunch", FakePunch, self.punches),
        ):
            self.patch(module, name, self.making(fake, made))
        self.patch(module.quic, "QuicPipe", self.making(FakePipe, self.pipes))
        self.patch(module.quic, "AVAILABLE", True)
        self.ours = Offer()
        self.ours.quic = True
        self.ours.nat = "easy"
        self.ours.hard_nat = "predict"
        self.ours.asked = True
        self.ours.tcp_port = 4000
        self.udp = self.ours.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.mapping = {name: FakeMapping() for name in ("tcp", "udp")}
        self.ours.mappings = dict(self.mapping)  # type: ignore[arg-type]
        self.addCleanup(self.ours.close)
        self.proofs: list[tuple[socket.socket, str, Deferred[bool]]] = []
        self.used: list[Way] = []
        self.network = ClientNetwork(
            self.clock,  # type: ignore[arg-type]
            tuple,
            self.lan_only,
            "no",
            None,
            self.used.append,
        )

    @staticmethod
    def making(fake: Any, made: list[Any]) -> Any:
        def make(*arguments: Any, **more: Any) -> Any:
            made.append(fake(*arguments, **more))
            return made[-1]

        return make

    def candidate(self, **fields: Any) -> Candidate:
        usual = {"kind": "reflexive", "protocol": "udp", "address": "203.0.113.1", "port": 5}
        return Candidate(**usual | fields)

    def meet(self, *candidates: Candidate, visitor: bool = True, **fields: Any) -> Deferred[None]:
        usual: dict[str, Any] = {
            "session_id": SESSION,
            "attempt": 3,
            "generation": 1,
            "candidates": candidates
            or (self.candidate(), self.candidate(protocol="tcp", kind="host", port=6)),
            "nat": "easy",
            "hard_nat": "birthday",
            "quic": True,
        }
        theirs = MeetingAnswer(**usual | fields)
        return self.network.meet(self.ours, theirs, KEY, visitor, self.found, self.punched)

    def found(self, sock: socket.socket, name: str) -> Deferred[bool]:
        proof: Deferred[bool] = Deferred()
        self.proofs.append((sock, name, proof))
        self.addCleanup(sock.close)
        return proof

    def connect(self, opening: int = 0) -> socket.socket:
        """Somebody connects; @return: our end."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            other = socket.create_connection(listening.getsockname())
            sock, _ = listening.accept()
        self.addCleanup(other.close)
        self.openings[opening].connected(sock)
        return sock

    def assert_over(self) -> None:
        """Nothing is left of it."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for opening in self.openings:
            self.assertTrue(opening.stopped)
        for punch in self.punches:
            self.assertTrue(punch.stopped)
        self.ours.close()
        self.assertEqual(self.udp.fileno(), -1)

    def why(self, done: Deferred[None]) -> str:
        """That it failed, and why."""
        return str(self.failureResultOf(done, NoDirectPath).value)


class MeetingTests(MeetingCase):
    """With all that there is."""

    def test_both_ways(self) -> None:
        """TCP is tried from the port, UDP from the socket, with the key of this attempt."""
        self.meet(visitor=False)
        (opening,), (punch,) = self.openings, self.punches
        self.assertEqual(opening.local, ("0.0.0.0", 4000))
        self.assertEqual(opening.candidates, [("203.0.113.1", 6)])
        self.assertIs(punch.sock, self.udp)
        self.assertEqual(punch.candidates, [("203.0.113.1", 5)])
        self.assertEqual((punch.key, punch.initiator), (KEY, False))
        self.assertEqual(len(punch.session), 16)
        self.assertIsNone(punch.more["hard"])
        self.assertIsNone(self.ours.udp)

    def test_tcp(self) -> None:
        """A TCP connection that leads to the other client is used; all else ends."""
        done = self.meet()
        sock = self.connect()
        ((proven, name, proof),) = self.proofs
        self.assertIs(proven, sock)
        self.assertEqual(name, "tcp-direct")
        self.assertNoResult(done)
        proof.callback(True)
        self.successResultOf(done)
        self.assertIn(sock, self.openings[0].stopped)
        self.assert_over()
        (way,) = self.used
        self.assertEqual((way.protocol, way.local, way.is_over), ("tcp", "127.0.0.1", False))
        self.assertEqual([m.released for m in self.mapping.values()], [0, 1])
        way.end()
        self.assertEqual(sock.recv(1), b"")
        sock.close()
        way.end()
        self.assertTrue(way.is_over)
        way.over()
        way.over()
        self.assertEqual(self.mapping["tcp"].released, 1)

    def test_stranger(self) -> None:
        """A connection that leads to somebody else changes nothing; the next one may be it."""
        done = self.meet()
        self.connect()
        self.proofs[0][2].callback(False)
        self.assertNoResult(done)
        sock = self.connect()
        self.proofs[1][2].callback(True)
        self.successResultOf(done)
        self.assertIs(self.used[0].sock, sock)

    def test_only_strangers(self) -> None:
        """Strangers who connect do not keep an attempt from being over."""
        done = self.meet()
        self.connect()
        self.connect()
        self.punches[0].done.errback(NoPath("no packet of the peer arrived"))
        self.proofs[0][2].callback(False)
        self.clock.advance(TIMEOUT + TCP_FIRST)
        self.assertNoResult(done)
        self.proofs[1][2].errback(RuntimeError("it tripped"))
        self.assertEqual(self.why(done), "no packet of the peer arrived")
        self.assert_over()

    def test_stranger_in_time(self) -> None:
        """The same where the stranger has failed before the time is up."""
        done = self.meet()
        self.connect()
        self.proofs[0][2].callback(False)
        self.punches[0].done.errback(NoPath("nothing"))
        self.clock.advance(TIMEOUT + TCP_FIRST)
        self.assertEqual(self.why(done), "nothing")

    def test_reset_at_once(self) -> None:
        """A connection that is gone before it is looked at is none."""
        self.meet()
        sock = socket.socket()
        self.openings[0].connected(sock)
        self.assertEqual((self.proofs, sock.fileno()), ([], -1))

    def test_lan(self) -> None:
        """What comes from a network of one's own is called lan."""
        self.patch(module, "is_local", lambda host, local: (host, local) == ("127.0.0.1",) * 2)
        self.meet()
        self.connect()
        self.assertEqual(self.proofs[0][1], "lan")

    def test_udp(self) -> None:
        """A UDP path carries QUIC if no TCP connection has come a moment later."""
        done = self.meet()
        path = FakePath()
        self.punches[0].done.callback(path)
        self.clock.advance(TCP_FIRST - 0.01)
        self.assertEqual(self.pipes, [])
        self.clock.advance(0.01)
        (pipe,) = self.pipes
        self.assertTrue(pipe.started)
        self.assertEqual((pipe.more["client"], pipe.more["key"]), (True, KEY))
        self.assertEqual((path.received, path.lost), (pipe.received, pipe.close))
        ((near, name, proof),) = self.proofs
        self.assertEqual(name, "quic")
        proof.callback(True)
        self.successResultOf(done)
        self.assert_over()
        (way,) = self.used
        self.assertEqual((way.sock, way.protocol, way.local), (near, "udp", "127.0.0.1"))
        self.assertEqual([m.released for m in self.mapping.values()], [1, 0])
        self.assertEqual(path.closed, 0)
        way.end()
        self.assertEqual(path.closed, 1)
        near.close()

    def test_tcp_before_udp(self) -> None:
        """A TCP connection that is proven meanwhile is the better one: the UDP path is closed."""
        done = self.meet()
        path = FakePath()
        self.punches[0].done.callback(path)
        self.connect()
        self.proofs[0][2].callback(True)
        self.successResultOf(done)
        self.assertEqual((path.closed, self.pipes), (1, []))
        self.assert_over()

    def test_tcp_after_udp(self) -> None:
        """If TCP is proven while QUIC still is not, QUIC ends, and what is said of it is late."""
        done = self.meet()
        path = FakePath()
        self.punches[0].done.callback(path)
        self.clock.advance(TCP_FIRST)
        sock = self.connect()
        self.proofs[1][2].callback(True)
        self.successResultOf(done)
        self.assertEqual(path.closed, 1)
        self.proofs[0][2].callback(False)
        self.assertEqual([way.sock for way in self.used], [sock])

    def test_quic_fails(self) -> None:
        """A UDP path on which QUIC does not get through is none."""
        done = self.meet()
        self.punches[0].done.callback(FakePath())
        self.clock.advance(TCP_FIRST)
        self.pipes[0].close()
        self.proofs[0][2].callback(False)
        self.openings[0].done.errback(NoPath("no TCP connection came about"))
        self.assertEqual(self.why(done), "no handshake, and no TCP connection came about")
        self.assert_over()

    def test_no_descriptors(self) -> None:
        """Without descriptors for QUIC the path is closed."""

        def none() -> Any:
            raise OSError("too many open files")

        self.patch(module, "pair", none)
        done = self.meet()
        path = FakePath()
        self.punches[0].done.callback(path)
        self.openings[0].done.errback(NoPath("no TCP"))
        self.clock.advance(TCP_FIRST)
        self.assertEqual(self.why(done), "no TCP, and too many open files")
        self.assertEqual(path.closed, 1)

    def test_cancel(self) -> None:
        """At whatever moment it is given up, everything is closed, also what is being proven."""
        done = self.meet()
        path = FakePath()
        self.punches[0].done.callback(path)
        sock = self.connect()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual((path.closed, sock.recv(1)), (1, b""))
        self.proofs[0][2].callback(True)
        self.assertEqual(self.used, [])
        self.assert_over()

    def test_nowhere(self) -> None:
        """If the other client names no address there is nothing to try, and no socket is left."""
        done = self.meet(self.candidate(protocol="tcp", address="::1"), nat="blocked")
        self.openings[0].done.errback(NoPath("no TCP"))
        self.assertEqual(self.why(done), "UDP seems to be blocked at the other client: no TCP")
        self.ours.tcp_port = 0
        done = self.meet()
        self.assertEqual(self.why(done), "there is no address to try")
        self.assert_over()

    def test_ipv6(self) -> None:
        """Where both have IPv6, TCP is tried over that, too."""
        self.ours.tcp6_port = 6000
        self.meet(self.candidate(protocol="tcp", address="2001:db8::1"))
        self.assertEqual(
            [opening.local for opening in self.openings], [("0.0.0.0", 4000), ("::", 6000)]
        )

    def test_ipv6_udp(self) -> None:
        """UDP is punched for over both, each from its own socket and with words of its own."""
        self.ours.udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        six = "2001:db8::1"
        done = self.meet(self.candidate(), self.candidate(address=six, kind="host", port=7))
        self.assertEqual(
            [(punch.sock.family, punch.candidates) for punch in self.punches],
            [
                (socket.AF_INET, [("203.0.113.1", 5)]),
                (socket.AF_INET6, [(six, 7)]),
            ],
        )
        self.assertEqual(len({punch.session for punch in self.punches}), 2)
        path = FakePath()
        path.address = six, 7
        self.punches[1].done.callback(path)
        self.assertTrue(self.punches[0].stopped)
        self.clock.advance(TCP_FIRST)
        self.proofs[0][2].callback(True)
        self.successResultOf(done)
        self.assertEqual((self.proofs[0][1], self.used[0].protocol), ("quic", "udp"))
        self.used[0].end()
        self.assertEqual(path.closed, 1)
        self.assert_over()

    def test_one_family(self) -> None:
        """Only what the other client has, too, is tried; the other socket is closed."""
        for address, family in (("203.0.113.1", socket.AF_INET), ("fd00::1", socket.AF_INET6)):
            self.ours.udp, self.ours.udp6 = socks = tuple(
                socket.socket(each, socket.SOCK_DGRAM) for each in (socket.AF_INET, socket.AF_INET6)
            )
            done = self.meet(self.candidate(address=address))
            self.assertEqual([sock.family for sock in socks if sock.fileno() >= 0], [family])
            self.assertEqual(self.punches[-1].sock.family, family)
            done.cancel()
            self.failureResultOf(done, CancelledError)
        self.assertEqual(len(self.punches), 2)
        self.udp.close()

    def test_ipv6_is_not_hard(self) -> None:
        """No ports of IPv6 are guessed, whatever the NAT of IPv4 is."""
        self.ours.udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.ours.nat = "hard"
        self.meet(self.candidate(), self.candidate(address="2001:db8::1", kind="host"))
        self.assertEqual([bool(punch.more["hard"]) for punch in self.punches], [True, False])
        self.punches[1].stop()

    def test_no_quic(self) -> None:
        """Without the library at both sides UDP is left alone, and said to be."""
        for ours, where in ((True, "at the other client"), (False, "here")):
            self.patch(module.quic, "AVAILABLE", ours)
            done = self.meet(quic=not ours)
            self.openings[-1].done.errback(NoPath("no TCP"))
            self.assertIn(f"aioquic is missing {where}", self.why(done))
        self.assertEqual(self.punches, [])
        self.assert_over()

    def fails(self, ours: str, theirs: str) -> str:
        """Why an attempt has failed between clients behind these NATs."""
        self.ours.nat = ours
        done = self.meet(nat=theirs)
        if len(self.punches) == len(self.openings):
            self.punches[-1].done.errback(NoPath("no UDP"))
        self.openings[-1].done.errback(NoPath("no TCP"))
        self.ours.udp = self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        return self.why(done)

    def test_words(self) -> None:
        """The reason names what is known of both NATs, in words."""
        for ours, theirs, words in (
            ("easy", "easy", ""),
            ("hard", "hard", "both are behind hard NATs: "),
            ("hard", "easy", "this client is behind a hard NAT: "),
            ("open", "hard", "the other client is behind a hard NAT: "),
            ("blocked", "easy", "UDP seems to be blocked here: "),
        ):
            self.assertEqual(self.fails(ours, theirs), f"{words}no UDP, and no TCP")
        self.ours.asked = False
        self.assertEqual(self.fails("blocked", "easy"), "no UDP, and no TCP")

    def hard(self, ours: str, theirs: str, policy: str = "predict", **fields: Any) -> Any:
        """What is guessed between clients behind these NATs, each of which predicts a port."""
        self.ours.nat = ours
        self.ours.candidates = (self.candidate(kind="predicted", port=51),)
        self.ours.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.ours.udp.close)
        self.meet(
            self.candidate(**fields),
            self.candidate(kind="predicted", port=52),
            nat=theirs,
            hard_nat=policy,
        )
        return self.punches[-1].more["hard"]

    def test_hard(self) -> None:
        """Ports are guessed if exactly one NAT is hard: what that side predicts, and no sooner."""
        self.udp.close()
        for ours, theirs, mine, port in (("hard", "easy", True, 51), ("open", "hard", False, 52)):
            hard = self.hard(ours, theirs)
            self.assertEqual(
                (hard.mine, hard.address, hard.predicted, hard.policy),
                (mine, ("203.0.113.1", 5), (("203.0.113.1", port),), "predict"),
            )
            self.assertEqual(self.punches[-1].candidates, [("203.0.113.1", 5)])
        self.assertIsNone(self.hard("hard", "hard"))
        self.assertIsNone(self.hard("easy", "blocked"))
        self.assertIsNone(self.hard("hard", "easy", kind="host"))

    def test_policies(self) -> None:
        """The weaker of what the two clients allow holds, whichever of them is behind that NAT."""
        self.udp.close()
        for nats in (("hard", "easy"), ("easy", "hard")):
            for policies, both in (
                (("birthday", "birthday"), "birthday"),
                (("birthday", "predict"), "predict"),
                (("predict", "birthday"), "predict"),
            ):
                self.ours.hard_nat = policies[0]  # type: ignore[assignment]
                hard = self.hard(*nats, policy=policies[1])
                self.assertEqual(hard.policy, both)
            for policies in (("birthday", "no"), ("no", "birthday")):
                self.ours.hard_nat = policies[0]  # type: ignore[assignment]
                self.assertIsNone(self.hard(*nats, policy=policies[1]))


class DatagramTests(MeetingCase):
    """
    A link of a udp service.

    @ivar handed: the paths for datagrams.
    """

    def setUp(self) -> None:
        super().setUp()
        self.handed: list[Any] = []
        self.punched = self.handed.append

    def punch(self) -> Any:
        path = FakePath()
        self.punches[0].done.callback(path)
        return path

    def test_with_tcp(self) -> None:
        """UDP is punched for when TCP has won, too; only then it is over."""
        done = self.meet()
        self.connect()
        self.proofs[0][2].callback(True)
        self.assertNoResult(done)
        self.assertEqual(self.openings[0].stopped, [self.used[0].sock])
        path = self.punch()
        self.successResultOf(done)
        self.assertEqual((self.clock.getDelayedCalls(), self.pipes), ([], []))
        (sealed,) = self.handed
        self.ours.close()
        self.assertEqual((path.closed, self.mapping["udp"].released), (0, 0))
        sealed.close()
        self.assertEqual((path.closed, self.mapping["udp"].released), (1, 1))

    def test_before_tcp(self) -> None:
        """A path is handed over at once, and stays when TCP is proven then."""
        done = self.meet()
        path = self.punch()
        self.assertEqual(len(self.handed), 1)
        self.connect()
        self.proofs[0][2].callback(True)
        self.successResultOf(done)
        self.assertEqual((path.closed, self.pipes), (0, []))
        self.assert_over()
        self.handed[0].close()
        self.assertEqual(path.closed, 1)

    def test_with_quic(self) -> None:
        """Where no TCP connection comes, QUIC takes the same path."""
        done = self.meet()
        path = self.punch()
        self.clock.advance(TCP_FIRST)
        self.proofs[0][2].callback(True)
        self.successResultOf(done)
        self.assertEqual(self.proofs[0][1], "quic")
        self.assert_over()
        self.handed[0].close()
        self.assertEqual(path.closed, 0)
        self.used[0].end()
        self.assertEqual(path.closed, 1)

    def test_no_udp(self) -> None:
        """With TCP alone it is done, as soon as UDP is given up."""
        done = self.meet()
        self.connect()
        self.proofs[0][2].callback(True)
        self.punches[0].done.errback(NoPath("no UDP"))
        self.successResultOf(done)
        self.assertEqual(self.handed, [])

    def test_no_quic(self) -> None:
        """Without the library there is a path for datagrams all the same, and no channel."""
        self.patch(module.quic, "AVAILABLE", False)
        done = self.meet()
        path = self.punch()
        self.clock.advance(TCP_FIRST)
        self.assertEqual((len(self.handed), self.pipes), (1, []))
        self.openings[0].done.errback(NoPath("no TCP"))
        self.assertEqual(self.why(done), "no TCP")
        self.assertEqual(path.closed, 0)
        self.assert_over()

    def test_alone(self) -> None:
        """If nothing but a path for datagrams is wanted, that is enough."""
        done = self.meet(self.candidate(), quic=False)
        self.assertEqual(self.openings, [])
        self.punch()
        self.successResultOf(done)
        self.assertEqual(len(self.handed), 1)
        self.assert_over()

    def test_alone_in_vain(self) -> None:
        """And if there is none, it has failed."""
        done = self.meet(self.candidate(), quic=False)
        self.punches[0].done.errback(NoPath("no UDP"))
        self.assertEqual(self.why(done), "no UDP")

    def test_cancel(self) -> None:
        """When TCP has won it may still be given up."""
        done = self.meet()
        self.connect()
        self.proofs[0][2].callback(True)
        done.addErrback(lambda failure: failure.trap(CancelledError))
        done.cancel()
        self.assert_over()


class LanTests(MeetingCase):
    """C{direct = lan}."""

    lan_only = True

    def test_only_here(self) -> None:
        """Only own addresses of the other client, of a network of one's own, are tried."""
        done = self.meet(
            self.candidate(address="192.168.1.2"),
            self.candidate(kind="mapped", address="10.0.0.1"),
            self.candidate(kind="host"),
            self.candidate(kind="host", address="192.168.1.3", port=1),
            self.candidate(kind="host", protocol="tcp", address="10.1.2.3", port=2),
        )
        self.assertEqual(self.punches[0].candidates, [("192.168.1.3", 1)])
        self.assertEqual(self.openings[0].candidates, [("10.1.2.3", 2)])
        self.punches[0].done.errback(NoPath("no UDP"))
        self.openings[0].done.errback(NoPath("no TCP"))
        self.assertEqual(
            self.why(done),
            "with direct = lan: the other client is not in this network (no UDP, and no TCP)",
        )

    def test_none_here(self) -> None:
        """Without any of these nothing is sent."""
        done = self.meet()
        self.assertIn("it names no address in one", self.why(done))
        self.assertEqual((self.openings, self.punches), ([], []))
        self.assert_over()


class LocalTests(SynchronousTestCase):
    """What is of a network of one's own."""

    def test_local(self) -> None:
        """Private networks are, and one's own subnet of IPv6."""
        for host, local, here in (
            ("10.1.2.3", "", True),
            ("172.31.0.1", "", True),
            ("172.32.0.1", "", False),
            ("192.168.9.9", "192.0.2.1", True),
            ("192.0.2.2", "192.0.2.1", False),
            ("fd00::1", "", True),
            ("2001:db8::1", "2001:db8::ffff:2", True),
            ("2001:db8:0:1::1", "2001:db8::2", False),
            ("2001:db8::1", "", False),
            ("somewhere", "", False),
        ):
            self.assertIs(is_local(host, local), here, host)


class MeetingsTests(SynchronousTestCase):
    """What makes them for a client."""

    def made(self, lan_only: bool) -> tuple[Clock, Meetings]:
        clock = Clock()
        self.patch(mapping, "is_installed", lambda: False)
        self.changes = 0
        return clock, Meetings(clock, tuple, lan_only, "predict", self.changed)  # type: ignore[arg-type]

    def test_life(self) -> None:
        """It looks at the addresses as long as there is a link, and stops at the end."""
        for lan_only in (True, False):
            clock, meetings = self.made(lan_only)
            direct = meetings.make(True, lambda: None, lambda sock, path: Deferred())
            self.assertEqual(len(clock.getDelayedCalls()), 1)
            direct.close()
            clock.advance(10)
            self.assertEqual(clock.getDelayedCalls(), [])
            meetings.make(False, lambda: None, lambda sock, path: Deferred())
            meetings.close()
            self.assertEqual(clock.getDelayedCalls(), [])

    def test_network_changed(self) -> None:
        """Another network has another router, perhaps; with C{lan} none is asked in any case."""
        for lan_only in (True, False):
            _, meetings = self.made(lan_only)
            if meetings._mappings is not None:
                meetings._mappings.known = True
            meetings._network_changed()
            if meetings._mappings is not None:
                self.assertFalse(meetings._mappings.known)
            self.assertEqual(meetings._mappings is None, lan_only)
            self.assertEqual(self.changes, 1)

    def test_prepare(self) -> None:
        """The router is looked for before there is a link, if any is asked at all."""
        searches: list[object] = []
        self.patch(mapping.Mappings, "search", lambda asked: searches.append(asked))
        for lan_only, expected in ((True, 0), (False, 1)):
            _, meetings = self.made(lan_only)
            meetings.prepare()
            self.assertEqual(len(searches), expected)

    def changed(self) -> None:
        self.changes += 1
