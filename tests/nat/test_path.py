"""Tests of L{relaytun.nat.path} and L{relaytun.nat.udpsocket}."""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.path import UdpPath
from relaytun.nat.udpsocket import UdpSocket
from relaytun.wire.punch import FULL_SIZE, Kind, Speech, decode, is_punch

from .network import DELAY, Address, Network, Socket

A = "198.51.100.2", 4000
B = "192.0.2.2", 5000
B_LATER = "192.0.2.2", 5001


class PathTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.lost: list[Address] = []
        self.arrived: dict[Address, list[bytes]] = {A: [], B: []}
        self.one = self.path(A, B)
        self.other = self.path(B, A)

    def path(self, own: Address, peer: Address) -> UdpPath:
        network: Any = self.network
        sock: Any = Socket(network, own)
        speech = Speech(bytes(32), bytes(16), own == A)
        path = UdpPath(network, UdpSocket(network, sock, lambda *_: None), speech, peer, 0.5)
        path.received = self.arrived[own].append
        path.lost = lambda: self.lost.append(own)
        self.addCleanup(path.close)
        return path

    def pings(self, source: Address) -> list[float]:
        """When pings were sent from there."""
        return [
            round(at)
            for at, own, _, data, _ in self.network.log
            if own == source and is_punch(data) and decode(data).kind is Kind.PING
        ]

    def test_datagrams(self) -> None:
        """Whatever is no punch packet goes to the other side as it is, its start included."""
        for data in (b"", b"\x40quic", b"\0\0\0\1sealed", b"!RP1 by chance"):
            self.assertTrue(self.one.send(data))
        self.network.advance(DELAY)
        self.assertEqual(self.arrived[B], [b"", b"\x40quic", b"\0\0\0\1sealed", b"!RP1 by chance"])

    def test_stranger(self) -> None:
        """A datagram from another address goes nowhere."""
        self.network.deliver(B_LATER, A, b"\x40quic")
        self.assertEqual(self.arrived[A], [])

    def test_nobody_listens(self) -> None:
        """What arrives before somebody listens is lost."""
        network: Any = self.network
        sock: Any = Socket(network, B_LATER)
        speech = Speech(bytes(32), bytes(16), True)
        path = UdpPath(network, UdpSocket(network, sock, lambda *_: None), speech, A, 0)
        self.network.deliver(A, B_LATER, b"\x40quic")
        self.network.passes = lambda *_: None
        self.network.run(30)
        self.assertEqual(sock.fileno(), -1)
        path.close()

    def test_active(self) -> None:
        """While something flows there is a ping every 2 s."""
        for _ in range(10):
            self.one.send(b"\x40")
            self.network.run(1)
        self.assertEqual(self.pings(A)[:4], [2, 4, 6, 8])
        self.assertEqual(self.lost, [])
        self.assertAlmostEqual(self.one.round_trip, 2 * DELAY, 2)

    def test_idle(self) -> None:
        """While nothing does, every 15 s."""
        self.network.run(70)
        pings = self.pings(A)
        self.assertEqual([b - a for a, b in zip(pings[-3:], pings[-2:], strict=False)], [15, 15])
        self.assertEqual(self.lost, [])

    def test_lost(self) -> None:
        """After 6 s without anything the path is lost and closed; that is told once."""
        self.one.send(b"\x40")
        self.network.run(3)
        self.network.passes = lambda *_: None
        self.network.run(5)
        self.assertEqual(self.lost, [])
        self.network.run(3)
        self.assertEqual(sorted(self.lost), sorted([A, B]))
        self.assertFalse(self.one.send(b"\x40"))
        self.network.run(30)
        self.assertEqual(len(self.lost), 2)
        self.assertEqual(self.network.sockets, {})

    def test_lost_when_idle(self) -> None:
        """An idle path that is dead is found out by its next ping."""
        self.network.run(40)
        self.network.passes = lambda *_: None
        self.network.run(22)
        self.assertEqual(sorted(self.lost), sorted([A, B]))

    def test_data_keeps_it_alive(self) -> None:
        """Datagrams are a sign of life when every pong is lost."""
        self.network.passes = lambda source, target, data, hops: None if is_punch(data) else source
        for _ in range(20):
            self.one.send(b"\x40")
            self.other.send(b"\x40")
            self.network.run(1)
        self.assertEqual(self.lost, [])

    def test_new_mapping(self) -> None:
        """A peer that is seen under another address, since its NAT forgot, is followed there."""
        self.network.run(10)
        self.network.aliases[B_LATER] = B
        self.network.passes = lambda source, target, data, hops: (
            None if target == B else B_LATER if source == B else source
        )
        self.network.run(25)
        self.assertEqual(self.lost, [])
        self.assertEqual(self.one.address, B_LATER)
        self.one.send(b"\x40there")
        self.network.advance(DELAY)
        self.assertEqual(self.arrived[B], [b"\x40there"])
        sizes = [len(data) for _, own, target, data, _ in self.network.log if target == B_LATER]
        self.assertIn(FULL_SIZE, sizes)

    def test_no_new_mapping_without_need(self) -> None:
        """While the peer's address is alive, no other one takes its place."""
        other = Speech(bytes(32), bytes(16), False)
        data = other.question(Kind.PING, bytes(8))
        self.network.deliver(B_LATER, A, data)
        kinds = [decode(data).kind for _, _, to, data, _ in self.network.log if to == B_LATER]
        self.assertEqual(kinds, [Kind.PONG])

    def test_bounded(self) -> None:
        """Answers a second are bounded, and strange answers are nothing."""
        for _ in range(200):
            data = self.other._speech.question(Kind.PING, bytes(8))
            self.network.deliver(B, A, data)
        self.assertEqual(len(self.network.log), 100)
        question = decode(self.one._speech.question(Kind.PING, bytes(8)))
        self.network.deliver(B, A, self.other._speech.answer(question))
        self.assertEqual(self.one.round_trip, 0.5)
        for _ in range(20):
            self.one._ask(Kind.PING, B)
        self.assertEqual(len(self.one._questions), 8)


class UdpSocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()

    def open(self, sock: Any) -> UdpSocket:
        network: Any = self.network
        opened = UdpSocket(network, sock, lambda *_: None)
        self.addCleanup(opened.close)
        return opened

    def test_closed_while_reading(self) -> None:
        """A socket that is closed by what it read is not read from any more."""
        sock = Socket(self.network, A)
        opened = self.open(sock)
        seen = []
        opened.received = lambda data, *_: (seen.append(data), opened.close())  # type: ignore[func-returns-value, assignment]
        sock.arrived.extend([(b"1", B), (b"2", B)])
        opened.doRead()
        self.assertEqual(seen, [b"1"])

    def test_fair(self) -> None:
        """A flood of datagrams leaves the reactor its turns."""
        sock = Socket(self.network, A)
        opened = self.open(sock)
        sock.arrived.extend([(b"1", B)] * 100)
        opened.doRead()
        self.assertEqual(len(sock.arrived), 36)

    def test_reactor(self) -> None:
        """What a reactor asks of a descriptor."""
        sock = Socket(self.network, A)
        opened = self.open(sock)
        self.assertEqual((opened.fileno(), opened.logPrefix()), (1, "punch"))
        opened.doWrite()
        opened.connectionLost(Failure(Exception()))
        self.assertEqual(opened.fileno(), -1)

    def test_whole(self) -> None:
        """A datagram that is too long for the way is refused, and not cut into pieces."""
        for family, host, level, option in [
            (socket.AF_INET, "127.0.0.1", socket.IPPROTO_IP, 10),
            (socket.AF_INET6, "::1", socket.IPPROTO_IPV6, 23),
        ]:
            real = socket.socket(family, socket.SOCK_DGRAM)
            real.bind((host, 0))
            before = real.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            opened = self.open(real)
            if sys.platform == "linux":
                self.assertEqual(real.getsockopt(level, option), 2)
            opened.widen()
            after = real.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self.assertGreaterEqual(after, before)

    def test_hops(self) -> None:
        """Few hops are for one datagram, of either family; a system without them sends none."""
        for family, host, level, option in [
            (socket.AF_INET, "127.0.0.1", socket.IPPROTO_IP, socket.IP_TTL),
            (socket.AF_INET6, "::1", socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
        ]:
            real = socket.socket(family, socket.SOCK_DGRAM)
            real.bind((host, 0))
            usual = real.getsockopt(level, option)
            opened = self.open(real)
            self.assertTrue(opened.send(b"1", real.getsockname()[:2], 4))
            self.assertEqual(real.getsockopt(level, option), usual)
            opened.close()
            self.assertFalse(opened.send(b"1", (host, 9), 4))
