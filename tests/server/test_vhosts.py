from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.config import ServerConfig
from relaytun.plane.pair import End
from relaytun.server.admission import Admission
from relaytun.server.http.routes import Route
from relaytun.server.vhosts import Vhosts


class SharedPortTests(SynchronousTestCase):
    """Whether browsers and clients come to one port."""

    def vhosts(self, **settings: Any) -> Vhosts:
        config = ServerConfig(state_dir=Path(self.mktemp()), **settings)
        clock: Any = Clock()
        return Vhosts(
            clock,
            config,
            Admission(),
            guarded=lambda accepted: accepted,
            admitted=lambda accepted: accepted,
            has_room=lambda: True,
            observe=lambda status: None,
        )

    def shares(self, **settings: Any) -> bool:
        return self.vhosts(**settings).shares_control

    def test_same(self) -> None:
        """The HTTPS port that is the control port's number is that port."""
        self.assertTrue(self.shares(control="443", vhost_https="443"))
        self.assertFalse(self.shares(control="9000", vhost_https="443"))

    def test_any(self) -> None:
        """Two ports that the system picks are two."""
        self.assertFalse(self.shares(control="0", vhost_https="0"))

    def test_names(self) -> None:
        """What nobody has registered is for clients, and the server's own name in any case."""
        vhosts = self.vhosts(control="443", vhost_https="443", public_host="Relay.example.com")
        self.assertFalse(vhosts.is_public("www.example.com"))
        vhosts.routes.add(Route("www.example.com", nobody))
        vhosts.passed_through["*.example.com"] = lambda sock, address: None
        for name, public in (
            ("www.example.com", True),
            ("own.example.com", True),
            ("relay.example.com", False),
            ("example.org", False),
        ):
            self.assertIs(vhosts.is_public(name), public)

    def test_own_name(self) -> None:
        """Clients come in by the server's own name, whoever has a wildcard above it."""
        vhosts = self.vhosts(control="443", vhost_https="443", public_host="Relay.example.com")
        theirs = mock.Mock()
        vhosts.passed_through["*.example.com"] = theirs
        self.assertIs(vhosts._who_serves("app.example.com"), theirs)
        self.assertIsNone(vhosts._who_serves("relay.example.com"))


def nobody(address: tuple[str, int]) -> End:
    """No service is reached."""
    raise OSError
