from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.config import ServerConfig
from relaytun.server.admission import Admission
from relaytun.server.vhosts import Vhosts


class SharedPortTests(SynchronousTestCase):
    """Whether browsers and clients come to one port."""

    def shares(self, **settings: Any) -> bool:
        config = ServerConfig(state_dir=Path(self.mktemp()), **settings)
        clock: Any = Clock()
        vhosts = Vhosts(
            clock,
            config,
            Admission(),
            guarded=lambda accepted: accepted,
            admitted=lambda accepted: accepted,
            has_room=lambda: True,
            observe=lambda status: None,
        )
        return vhosts.shares_control

    def test_same(self) -> None:
        """The HTTPS port that is the control port's number is that port."""
        self.assertTrue(self.shares(control="443", vhost_https="443"))
        self.assertFalse(self.shares(control="9000", vhost_https="443"))

    def test_any(self) -> None:
        """Two ports that the system picks are two."""
        self.assertFalse(self.shares(control="0", vhost_https="0"))
