"""Homes that reach each other over IPv6 alone, both behind firewalls: punched paths, too."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..integration.links import exchange
from .daemons import Daemons
from .ipv6 import add_ipv6
from .lab import Lab
from .test_udp_direct import UdpDaemons


class FirewallTests(SynchronousTestCase):
    """Real daemons."""

    def lab(self, only: str = "") -> Lab:
        lab = Lab("portrest", "portrest")
        self.addCleanup(lab.close)
        add_ipv6(lab, only)
        return lab

    def assert_path(self, lab: Lab, path: str) -> None:
        daemons = Daemons(lab)
        self.addCleanup(daemons.close)
        with daemons.stream() as stream:
            exchange(*stream)
            daemons.await_path(path.__eq__)
            exchange(*stream)
        daemons.check_logs()

    def test_tcp(self) -> None:
        """Both connect at once, and the firewalls let that through."""
        self.assert_path(self.lab(), "tcp-direct")

    def test_quic(self) -> None:
        """Where TCP does not pass QUIC takes a punched path of IPv6."""
        self.assert_path(self.lab(only="udp"), "quic")

    def test_datagrams(self) -> None:
        """So do the datagrams of a udp service, large ones too."""
        daemons = UdpDaemons(self.lab())
        self.addCleanup(daemons.close)
        daemons.await_echo()
        daemons.await_ways({"direct"})
        before = daemons.session()["datagrams"]
        for size in (0, 1, 1200, 1400):
            self.assertTrue(daemons.echoes(bytes(size)), size)
        counts = daemons.session()["datagrams"]
        self.assertEqual(counts["byDirect"], before["byDirect"] + 4)
        daemons.check_logs()
