"""Tests of L{relaytun.server.access}."""

from __future__ import annotations

import gc
import ipaddress
import socket
from typing import Any

from hypothesis import given, strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from relaytun.server.access import Access, hand_on

from ..plane.test_splice import tcp_pair


def networks(*texts: str) -> list[Any]:
    """Networks, as the configuration has them."""
    return [ipaddress.ip_network(text) for text in texts]


def access(allow: str = "", deny: str = "", most: int = 0) -> Access:
    """A rule."""
    return Access(Clock(), networks(*allow.split()), networks(*deny.split()), most)


class NetworkTests(SynchronousTestCase):
    """Which addresses may connect."""

    def test_all(self) -> None:
        """Without a rule everybody may."""
        for address in ("192.0.2.1", "2001:db8::1", "", "nonsense"):
            self.assertTrue(access().admits(address))

    def test_allow(self) -> None:
        """Where some are allowed, the others are not."""
        rule = access(allow="192.0.2.0/24 2001:db8::/32")
        for good in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::5", "2001:db8::5%eth0"):
            self.assertTrue(rule.admits(good))
        for bad in ("192.0.3.1", "::ffff:192.0.3.1", "2001:db9::", "", "nonsense"):
            self.assertFalse(rule.admits(bad))

    def test_deny_wins(self) -> None:
        """Whom one list allows and the other denies is denied."""
        rule = access(allow="192.0.2.0/24", deny="192.0.2.7/32")
        self.assertTrue(rule.admits("192.0.2.8"))
        self.assertFalse(rule.admits("192.0.2.7"))
        self.assertFalse(rule.admits("::ffff:192.0.2.7"))

    def test_deny(self) -> None:
        """Where some are denied, the others may."""
        rule = access(deny="0.0.0.0/0")
        self.assertFalse(rule.admits("::ffff:1.2.3.4"))
        self.assertTrue(rule.admits("2001:db8::1"))
        self.assertTrue(rule.admits(""))

    def test_mapped_network(self) -> None:
        """An IPv4 network that is written as IPv6 is that network."""
        rule = access(deny="::ffff:192.0.2.0/120 2001:db8::/120")
        self.assertFalse(rule.admits("192.0.2.200"))
        self.assertTrue(rule.admits("192.0.3.200"))
        self.assertFalse(rule.admits("2001:db8::1"))

    @given(st.ip_addresses(v=4))
    def test_mapped(self, address: Any) -> None:
        """An IPv4 address and the same one mapped into IPv6 are treated alike."""
        rule = access(allow="128.0.0.0/1", deny="192.0.0.0/2")
        self.assertEqual(rule.admits(str(address)), rule.admits(f"::ffff:{address}"))


class CountTests(SynchronousTestCase):
    """How many of them."""

    def test_count(self) -> None:
        """An address has so many connections at once, and gets a place back when one ends."""
        rule = access(most=2)
        one, two = rule.enter("192.0.2.1"), rule.enter("::ffff:192.0.2.1")
        assert one and two
        self.assertIsNone(rule.enter("192.0.2.1"))
        self.assertIsNotNone(rule.enter("192.0.2.2"))
        one.leave()
        one.leave()
        self.assertIsNotNone(rule.enter("192.0.2.1"))
        self.assertIsNone(rule.enter("192.0.2.1"))
        self.assertEqual(rule.refused, 2)

    def test_ipv6(self) -> None:
        """A /64 is one address."""
        rule = access(most=1)
        self.assertIsNotNone(rule.enter("2001:db8::1"))
        self.assertIsNone(rule.enter("2001:db8::2"))
        self.assertIsNotNone(rule.enter("2001:db8:0:1::1"))

    def test_nothing_kept(self) -> None:
        """Of an address without connections nothing is kept."""
        rule = access(most=1)
        visit = rule.enter("192.0.2.1")
        assert visit
        visit.leave()
        self.assertFalse(rule._connections)

    def test_change(self) -> None:
        """Another rule holds for those that come; those that are there still count."""
        rule = access()
        visits = [rule.enter("192.0.2.1") for _ in range(3)]
        rule.change((), (), 2)
        self.assertIsNone(rule.enter("192.0.2.1"))
        for visit in visits[:2]:
            assert visit
            visit.leave()
        self.assertIsNotNone(rule.enter("192.0.2.1"))

    def test_log(self) -> None:
        """A flood is worth two lines a second."""
        clock = Clock()
        rule = Access(clock, deny=networks("0.0.0.0/0"))
        with capturedLogs() as events:
            for _ in range(100):
                rule.enter("192.0.2.1")
            clock.advance(1)
            rule.enter("192.0.2.1")
        self.assertEqual(len(events), 3)


class PortTests(SynchronousTestCase):
    """The guard of a port."""

    def setUp(self) -> None:
        self.taken: list[socket.socket] = []

    def guard(self, rule: Access, address: Any = ("192.0.2.1", 5)) -> socket.socket:
        """The other end of a connection that came."""
        far, near = tcp_pair()
        self.addCleanup(far.close)
        rule.accepted(lambda sock, _: self.taken.append(sock))(near, address)
        return far

    def test_refused(self) -> None:
        """One that may not be is reset at once."""
        far = self.guard(access(deny="192.0.2.0/24"))
        self.assertRaises(ConnectionResetError, far.recv, 1)
        self.assertEqual(self.taken, [])

    def test_counts_until_closed(self) -> None:
        """One that may be counts until its socket is closed, and works as any."""
        rule = access(most=1)
        far = self.guard(rule)
        (sock,) = self.taken
        self.assertEqual(sock.gettimeout(), 0.0)
        sock.send(b"hello")
        self.assertEqual(far.recv(10), b"hello")
        self.assertRaises(ConnectionResetError, self.guard(rule).recv, 1)
        sock.close()
        sock.close()
        self.assertEqual(far.recv(10), b"")
        self.guard(rule)
        self.assertEqual(len(self.taken), 2)
        self.taken.pop().close()

    def test_counts_until_forgotten(self) -> None:
        """One that is forgotten without being closed counts no more."""
        rule = access(most=1)
        self.guard(rule, ("2001:db8::1", 5, 0, 0))
        socket.close(self.taken[0].detach())
        self.taken.clear()
        gc.collect()
        self.assertFalse(rule._connections)

    def test_handed_on(self) -> None:
        """One that goes on in another socket counts until that one is forgotten."""
        rule = access(most=1)
        self.guard(rule)
        (sock,) = self.taken
        other = sock.dup()
        hand_on(sock, other)
        hand_on(sock, other)
        hand_on(other, sock)
        sock.close()
        self.assertTrue(rule._connections)
        other.close()
        del other
        self.assertFalse(rule._connections)

    def test_unix(self) -> None:
        """The peers of a UNIX socket have no address, and are not counted as one."""
        rule = access(most=1)
        for _ in range(3):
            self.guard(rule, "")
        self.assertEqual(len(self.taken), 3)
        for sock in self.taken:
            sock.close()
