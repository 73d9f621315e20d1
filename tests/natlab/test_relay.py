"""What always works: a stream over the relay, whatever is between the clients."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from .daemons import Daemons
from .lab import Lab


class RelayTests(SynchronousTestCase):
    """Real daemons behind NATs that nothing direct gets through, or hardly."""

    def assert_works(self, type_a: str, type_b: str, **options: str) -> None:
        lab = Lab(type_a, type_b, **options)  # type: ignore[arg-type]
        self.addCleanup(lab.close)
        daemons = Daemons(lab)
        self.addCleanup(daemons.close)
        daemons.await_stream()
        daemons.check_logs()

    def test_symmetric(self) -> None:
        """Between two symmetric NATs."""
        self.assert_works("symmetric", "symmetric")

    def test_port_restricted(self) -> None:
        """Between two usual homes with the same addresses."""
        self.assert_works("portrest", "portrest", lan_b="192.168.1")

    def test_no_udp(self) -> None:
        """Where UDP does not pass, and where the LAN keeps its hosts apart."""
        self.assert_works("udpblock", "same-isolated")
