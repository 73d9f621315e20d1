"""Tests of L{relaytun.config.networks}."""

from __future__ import annotations

import contextlib
from ipaddress import ip_network

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.config.networks import in_ranges, networks, port_ranges


class NetworkTests(SynchronousTestCase):
    """Lists of networks."""

    def test_good(self) -> None:
        """Networks and single addresses of both families, each once."""
        found = networks("10.0.0.0/8, 192.0.2.1\n2001:db8::/32,10.0.0.0/8")
        expected = ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32")
        self.assertEqual(found, tuple(map(ip_network, expected)))

    def test_bad(self) -> None:
        """What is no network is refused and not guessed at."""
        for text in ("10.0.0.1/8", "a", "10.0.0.0/33", "10.0.0", "1.2.3.4 5.6.7.8"):
            error = self.assertRaises(ValueError, networks, text)
            self.assertIn("not a network: write 10.0.0.0/8", str(error))
        self.assertIn("empty", str(self.assertRaises(ValueError, networks, ",")))

    @given(st.text() | st.text(alphabet="0123456789./:,-"))
    def test_only_value_errors(self, text: str) -> None:
        """Whatever the text, the only error is ValueError."""
        for parse in (networks, port_ranges):
            with contextlib.suppress(ValueError):
                parse(text)


class PortRangeTests(SynchronousTestCase):
    """Lists of ranges of ports."""

    def test_good(self) -> None:
        """Ranges and single ports, in their order."""
        self.assertEqual(port_ranges("6000-6999, 7001"), ((6000, 6999), (7001, 7001)))
        self.assertEqual(port_ranges("1 - 65535"), ((1, 65535),))

    def test_bad(self) -> None:
        """What is no port or runs backwards is refused."""
        for text in ("0", "1-", "-1", "65536", "a", "1-2-3", "1:2"):
            error = self.assertRaises(ValueError, port_ranges, text)
            self.assertIn("not ports: write numbers from 1 to 65535", str(error))
        error = self.assertRaises(ValueError, port_ranges, "2-1")
        self.assertIn("swap the two", str(error))

    def test_in_ranges(self) -> None:
        """Both ends of a range are in it."""
        ranges = port_ranges("10-12,20")
        inside = [port for port in range(25) if in_ranges(port, ranges)]
        self.assertEqual(inside, [10, 11, 12, 20])
