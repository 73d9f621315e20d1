"""A client in the lab gets another address: its stream goes on, and finds a direct path again."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..integration.links import exchange
from .daemons import Daemons
from .lab import Lab


class RoamingTests(SynchronousTestCase):
    """Real daemons, in one home."""

    def start(self, client: str) -> tuple[Lab, Daemons]:
        lab = Lab("portrest", "same")
        self.addCleanup(lab.close)
        daemons = Daemons(lab, client=client)
        self.addCleanup(daemons.close)
        return lab, daemons

    def test_renumbered(self) -> None:
        """With C{direct = lan}, too, which asks nobody."""
        lab, daemons = self.start("direct = lan")
        with daemons.stream() as stream:
            exchange(*stream)
            daemons.await_path(lambda path: path == "lan")
            exchange(*stream)
            lab.renumber("b")
            exchange(*stream)
            daemons.await_path(lambda path: path != "lan")
            daemons.await_path(lambda path: path == "lan")
            exchange(*stream)
        daemons.check_logs()
