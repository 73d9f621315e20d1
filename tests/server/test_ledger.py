"""Tests of L{relaytun.server.ledger}."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import UserError
from relaytun.plane.meter import Meter
from relaytun.server import ledger as ledger_module
from relaytun.server.ledger import KEPT_DAYS, OTHERS, Entry, Ledger

ALL = Entry._fields


class FakeUser:
    def __init__(self, name: str) -> None:
        self.name = name


class FakePeer:
    def __init__(self, name: str, user: str) -> None:
        self.name = name
        self.user = FakeUser(user)


class FakeService:
    def __init__(self, name: str) -> None:
        self.id = name


class FakeSession:
    """What the ledger needs of a session."""

    def __init__(
        self, client: str = "p", service: str = "ssh", user: str = "", visitor: str = ""
    ) -> None:
        self.provider = FakePeer(client, user)
        self.visitor = FakePeer("v", visitor)
        self.service = FakeService(service)
        self.meter = Meter()

    def move(self, forward: int, backward: int = 0) -> Any:
        """It moves."""
        self.meter.forward += forward
        self.meter.backward += backward
        return self


class LedgerTests(SynchronousTestCase):
    """What is counted, and what becomes of it."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.now = datetime(2026, 1, 30, 12, tzinfo=timezone.utc).timestamp()
        self.ledger = self.open()

    def open(self) -> Ledger:
        """A ledger by the clock of the test."""
        ledger = Ledger(self.path, lambda: self.now)
        self.addCleanup(ledger.close)
        return ledger

    def days_pass(self, days: float) -> None:
        """They pass."""
        self.now += days * 86400

    def counts(self, *by: str, days: int = 30, ledger: Ledger | None = None) -> dict[Any, Any]:
        """The traffic, by these."""
        found: Counter[tuple[Any, str]] = Counter()
        for entry, bytes_in, bytes_out in (ledger or self.ledger).entries(days, by):
            key = tuple(value for name, value in entry._asdict().items() if name in by)
            found[key, "in"] += bytes_in
            found[key, "out"] += bytes_out
        keys = {key for key, _ in found}
        return {key: (found[key, "in"], found[key, "out"]) for key in keys}

    def test_differences(self) -> None:
        """What a session has moved is counted once, written or not."""
        session: Any = FakeSession(user="alice", visitor="bob")
        self.assertEqual(self.ledger.note(session), 0)
        self.assertEqual(self.ledger.note(session.move(5, 7)), 12)
        self.assertEqual(self.ledger.note(session), 0)
        expected = {("2026-01-30", "p", "ssh", "alice", "bob"): (5, 7)}
        self.assertEqual(self.counts(*ALL), expected)
        self.ledger.flush()
        self.assertEqual(self.counts(*ALL), expected)
        self.ledger.note(session.move(1))
        self.assertEqual(self.counts("client"), {("p",): (6, 7)})
        self.ledger.flush()
        self.assertEqual(self.counts("client"), {("p",): (6, 7)})

    def test_by(self) -> None:
        """One may ask by whatever is kept."""
        for client, service in (("a", "x"), ("a", "y"), ("b", "x")):
            self.ledger.note(FakeSession(client, service).move(1, 10))
        for _ in range(2):
            self.assertEqual(self.counts("client"), {("a",): (2, 20), ("b",): (1, 10)})
            self.assertEqual(len(self.counts("client", "service")), 3)
            self.assertEqual(self.counts("day"), {("2026-01-30",): (3, 30)})
            self.ledger.flush()

    def test_days(self) -> None:
        """Traffic belongs to the day of UTC on which it was counted."""
        session: Any = FakeSession()
        self.ledger.note(session.move(1))
        self.days_pass(1)
        self.ledger.note(session.move(2))
        for _ in range(2):
            self.assertEqual(self.counts("day"), {("2026-01-30",): (1, 0), ("2026-01-31",): (2, 0)})
            self.assertEqual(self.counts("day", days=1), {("2026-01-31",): (2, 0)})
            self.ledger.flush()

    def test_kept(self) -> None:
        """It is there after a restart, for the owner only."""
        self.ledger.note(FakeSession(user="alice").move(5))
        self.ledger.close()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        again = self.open()
        self.assertEqual(self.counts("user", ledger=again), {("alice",): (5, 0)})
        self.assertEqual(again.used("alice"), 5)

    def test_used(self) -> None:
        """A user's traffic is what he provides and what he visits, once; months begin anew."""
        self.ledger.note(FakeSession(user="alice", visitor="bob").move(1, 1))
        self.ledger.note(FakeSession(user="alice", visitor="alice").move(10))
        self.ledger.flush()
        self.ledger.note(FakeSession(visitor="alice").move(100))
        self.ledger.note(FakeSession().move(1000))
        used = {name: self.ledger.used(name) for name in ("alice", "bob", "", "carol")}
        self.assertEqual(used, {"alice": 112, "bob": 2, "": 1000, "carol": 0})
        self.days_pass(2)
        self.assertEqual((self.ledger.month, self.ledger.used("alice")), ("2026-02", 0))
        self.days_pass(-2)
        self.assertEqual(self.ledger.used("alice"), 112)

    def test_locked(self) -> None:
        """While the file cannot be written nothing is lost; the log says so once."""
        other = sqlite3.connect(self.path)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        with capturedLogs() as events:
            for _ in range(3):
                self.ledger.note(FakeSession(user="alice").move(1))
                self.ledger.flush()
        self.assertEqual((len(events), self.ledger.failures), (1, 3))
        self.assertEqual(self.ledger.used("alice"), 3)
        other.rollback()
        self.ledger.flush()
        self.assertEqual(self.counts("client"), {("p",): (3, 0)})
        self.assertEqual(self.counts("client", ledger=self.open()), {("p",): (3, 0)})

    def test_bounded(self) -> None:
        """What waits to be written is bounded; users are told apart even so."""
        self.patch(ledger_module, "MOST_PENDING", 2)
        for number in range(5):
            self.ledger.note(FakeSession(client=f"c{number}", user=f"u{number % 2}").move(1))
        self.assertEqual(
            self.counts("client", "user"),
            {
                ("c0", "u0"): (1, 0),
                ("c1", "u1"): (1, 0),
                (OTHERS, "u0"): (2, 0),
                (OTHERS, "u1"): (1, 0),
            },
        )

    def test_pruned(self) -> None:
        """What is older than KEPT_DAYS goes, the rest stays."""
        session: Any = FakeSession()
        self.ledger.note(session.move(1))
        self.ledger.flush()
        self.days_pass(1)
        self.ledger.note(session.move(2))
        self.ledger.flush()
        self.days_pass(KEPT_DAYS)
        self.ledger.flush()
        self.assertEqual(self.counts("day", days=1000), {("2026-01-31",): (2, 0)})

    def test_unusable(self) -> None:
        """A file that is none of it is a clear error."""
        path = Path(self.mktemp())
        path.write_bytes(b"not a database" * 100)
        error = self.assertRaises(UserError, Ledger, path)
        self.assertIn("move it away", str(error))

    def test_unreadable(self) -> None:
        """A question that cannot be answered is a clear error."""
        self.ledger._database.execute("DROP TABLE traffic")
        self.assertRaises(UserError, list, self.ledger.entries(1, ("day",)))
        with capturedLogs() as events:
            self.days_pass(30)
            self.assertEqual(self.ledger.used("alice"), 0)
        self.assertEqual(len(events), 1)
