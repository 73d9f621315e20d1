"""Tests of L{relaytun.server.public.leases}."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import UserError
from relaytun.server.public.leases import KEPT, Leases


class LeaseTests(SynchronousTestCase):
    """Whose a port is."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp())
        self.leases = self.open()

    def open(self) -> Leases:
        leases = Leases(self.clock, self.path)
        self.addCleanup(leases.close)
        return leases

    def test_taken(self) -> None:
        """It is taken for all but its holder, until it is given up."""
        self.leases.take("tcp", "6000", "ann", "web")
        self.assertTrue(self.leases.is_taken("tcp", "6000", "bob"))
        self.assertFalse(self.leases.is_taken("tcp", "6000", "ann"))
        self.assertFalse(self.leases.is_taken("udp", "6000", "bob"))
        self.leases.end("tcp", "6000")
        self.assertFalse(self.leases.is_taken("tcp", "6000", "bob"))

    def test_kept(self) -> None:
        """It is kept for a holder who is away, for a while."""
        self.leases.take("tcp", "6000", "ann", "web")
        self.clock.advance(2 * KEPT)
        self.leases.leave("tcp", "6000")
        self.clock.advance(KEPT)
        self.assertTrue(self.leases.is_taken("tcp", "6000", "bob"))
        self.clock.advance(1)
        self.assertFalse(self.leases.is_taken("tcp", "6000", "bob"))

    def test_back(self) -> None:
        """Who has come back has it as before."""
        self.leases.take("tcp", "6000", "ann", "web")
        self.leases.leave("tcp", "6000")
        self.leases.take("tcp", "6000", "ann", "web")
        self.clock.advance(2 * KEPT)
        self.assertTrue(self.leases.is_taken("tcp", "6000", "bob"))

    def test_restart(self) -> None:
        """A new start finds it, and gives its holder as long to come back."""
        self.leases.take("tcp", "6000", "ann", "web")
        self.leases.take("tcp", "6001", "bob", "web")
        self.leases.end("tcp", "6001")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        again = self.open()
        self.assertEqual(again.of("tcp", "ann", "web"), "6000")
        self.assertIsNone(again.of("tcp", "bob", "web"))
        self.clock.advance(KEPT)
        self.assertTrue(again.is_taken("tcp", "6000", "bob"))
        self.clock.advance(1)
        self.assertFalse(again.is_taken("tcp", "6000", "bob"))

    def test_no_disk(self) -> None:
        """When the disk fails it holds all the same, and the log says so."""
        self.leases._database.execute("PRAGMA query_only = 1")
        self.leases.take("tcp", "6000", "ann", "web")
        self.assertTrue(self.leases.is_taken("tcp", "6000", "bob"))

    def test_no_database(self) -> None:
        """A file that is none is an error that names it."""
        self.path.with_suffix(".x").write_bytes(b"x" * 5000)
        error = self.assertRaises(UserError, Leases, self.clock, self.path.with_suffix(".x"))
        self.assertIn(str(self.path.with_suffix(".x")), str(error))
