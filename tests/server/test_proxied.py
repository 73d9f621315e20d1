"""Tests of L{relaytun.server.proxied}."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relaytun.server.admission import Admission
from relaytun.server.proxied import HEADER_TIMEOUT, ProxyProtocol
from relaytun.wire import proxyprotocol

from ..plane.test_websocket import FakeReactor

BALANCER = ("10.0.0.1", 999)
CLIENT = ("192.0.2.7", 4711)
HEADER = proxyprotocol.encode("v2", CLIENT, ("192.0.2.1", 443))
NETWORKS = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")]


class ProxyProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.accepted: list[tuple[socket.socket, Any]] = []
        self.admission = Admission(per_address=2)
        self.port = ProxyProtocol(
            self.reactor,  # type: ignore[arg-type]
            NETWORKS,
            lambda sock, address: self.accepted.append((sock, address)),
            self.admission,
        )

    def connect(self, address: Any, data: bytes = b"") -> socket.socket:
        """A peer; its first bytes are there already."""
        peer, sock = socket.socketpair()
        for end in (peer, sock):
            end.setblocking(False)
            self.addCleanup(end.close)
        peer.send(data)
        self.port(sock, address)
        return peer

    def assert_clean(self) -> None:
        self.assertEqual((len(self.admission), self.reactor.getDelayedCalls()), (0, []))
        self.assertEqual(self.reactor.readers, set())

    def test_told(self) -> None:
        """A balancer's connection counts as its client's, and the rest of it is left alone."""
        self.connect(BALANCER, HEADER + b"rest")
        self.connect(("2001:db8::1", 999, 0, 0), HEADER + b"rest")
        self.connect(("::ffff:10.0.0.1", 999, 0, 0), HEADER + b"rest")
        for sock, address in self.accepted:
            self.assertEqual((sock.recv(99), address), (b"rest", CLIENT))
        self.assertEqual(len(self.accepted), 3)
        self.assert_clean()

    def test_byte_by_byte(self) -> None:
        """A header may come in parts, and what has come of it is not looked at again."""
        peer = self.connect(BALANCER)
        for number in range(len(HEADER)):
            self.assertEqual(self.accepted, [])
            peer.send(HEADER[number : number + 1])
            self.reactor.turn()
        ((_, address),) = self.accepted
        self.assertEqual(address, CLIENT)
        self.assert_clean()

    def test_from_itself(self) -> None:
        """A balancer's own connections, as for its health checks, have its own address."""
        self.connect(BALANCER, b"PROXY UNKNOWN\r\n")
        self.assertEqual(self.accepted[0][1], BALANCER)

    def test_others(self) -> None:
        """Whoever is no balancer is taken as it comes, its header with it."""
        for address in (CLIENT, ("fe80::1%eth0", 1, 0, 2), ""):
            self.connect(address, HEADER)
            sock, told = self.accepted.pop()
            self.assertEqual((sock.recv(99), told), (HEADER, address))

    def test_none(self) -> None:
        """A balancer that sends something else, nothing, or hangs up is dropped."""
        self.connect(BALANCER, b"GET / HTTP/1.1\r\n")
        self.assert_clean()
        peer = self.connect(BALANCER)
        peer.close()
        self.reactor.turn()
        self.assert_clean()
        peer = self.connect(BALANCER, HEADER[:5])
        self.reactor.advance(HEADER_TIMEOUT)
        self.assertEqual(peer.recv(1), b"")
        self.assert_clean()
        self.assertEqual(self.accepted, [])

    def test_flood(self) -> None:
        """Those that say nothing make room for each other, and are gone when it stops."""
        peers = [self.connect(BALANCER) for _ in range(3)]
        self.assertEqual(peers[0].recv(1), b"")
        self.assertRaises(BlockingIOError, peers[2].recv, 1)
        self.port.stop()
        self.assertEqual(peers[2].recv(1), b"")
        self.assert_clean()

    def test_trouble(self) -> None:
        """A connection that goes wrong costs itself only."""

        def fail(sock: socket.socket, address: Any) -> None:
            raise ZeroDivisionError

        self.port = ProxyProtocol(self.reactor, NETWORKS, fail)  # type: ignore[arg-type]
        peer = self.connect(BALANCER, HEADER)
        self.assertEqual(peer.recv(1), b"")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
