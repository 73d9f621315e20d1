"""Tests of L{relaytun.server.accounts}: the sessions of a broker, a ledger, and a clock."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from hypothesis import given, settings, strategies as st

from relaytun.errors import UserError
from relaytun.server.accounts import INTERVAL, LEAST_GRANT, Accounts
from relaytun.server.granted import Session
from relaytun.server.ledger import Ledger
from relaytun.wire import messages
from relaytun.wire.moods import Mood

from .support import ANN, BOB, BrokerCase, Channel, Connection, Settings, tcp, udp

MB = 1024 * 1024


class AccountsCase(BrokerCase):
    """A test case with users and a ledger."""

    def begin(self, *users: Settings, **limits: Any) -> None:
        """A broker with these users, a provider of the server's own, and a visitor of alice's."""
        self.now = datetime(2026, 1, 30, 12, tzinfo=timezone.utc).timestamp()
        self.broker = self.make_broker(users=users, **limits)
        self.ledger = Ledger(":memory:", lambda: self.now)
        self.accounts = Accounts(self.clock, self.broker.sessions, self.broker.users, self.ledger)
        self.addCleanup(self.accounts.close)
        self.provider = self.client("p", tcp("ssh"), tcp("web"))
        self.visitor = self.of("alice", "a")

    def of(self, user: str, name: str, *services: Any, **more: Any) -> Connection:
        """A client of a user's."""
        found = self.broker.users.find(user)
        assert found
        connection = self.connect(user=found)
        self.assertTrue(
            connection.register(name, services, proof_token=found.token, **more).success
        )
        return connection

    def session(self, service: str = "ssh") -> Session:
        """A live session between the two."""
        return self.granted(self.visitor, self.provider, service)[0]

    def move(self, session: Session, count: int, at_once: int = 65536) -> int:
        """Move bytes as a splice does; how many that was."""
        meter = session.meter
        moved = 0
        while moved < count and self.broker.sessions.find(session.key) is not None:
            allowance = min(meter.limit - meter.total, at_once, count - moved)
            if allowance <= 0:
                meter.exhausted()
            else:
                meter.forward += allowance
                moved += allowance
        return moved


class CountTests(AccountsCase):
    """What is written when."""

    def test_interval(self) -> None:
        """What moves is written every few seconds, as long as it runs."""
        self.begin(Settings())
        self.accounts.startService()
        session = self.session()
        session.meter.forward = 5
        self.clock.advance(INTERVAL)
        self.assertEqual(self.ledger.used("alice"), 5)
        self.assertEqual(self.ledger._pending, {})
        self.accounts.stopService()
        self.accounts.stopService()
        session.meter.forward = 8
        self.clock.advance(INTERVAL)
        self.assertEqual(self.ledger.used("alice"), 5)
        session.machine.closed()
        self.assertEqual(self.ledger.used("alice"), 8)

    def test_stats(self) -> None:
        """The answer has what moved, to the byte, by what was asked for."""
        self.begin(Settings(quota=1000))
        one, two = self.session("ssh"), self.session("web")
        one.meter.forward, one.meter.backward = 1, 2
        two.meter.backward = 5
        ours = self.granted(self.client("v"), self.provider, "web")[0]
        ours.meter.forward = 100
        by_client = self.accounts.stats()
        self.assertEqual(
            by_client,
            {
                "days": 30,
                "by": "client",
                "rows": [{"client": "p", "bytesIn": 101, "bytesOut": 7}],
                "bytesIn": 101,
                "bytesOut": 7,
                "notWritten": 0,
            },
        )
        self.assertEqual(
            self.accounts.stats(1, "service")["rows"],
            [
                {"client": "p", "service": "ssh", "bytesIn": 1, "bytesOut": 2},
                {"client": "p", "service": "web", "bytesIn": 100, "bytesOut": 5},
            ],
        )
        self.assertEqual(
            self.accounts.stats(by="user")["rows"],
            [
                {"user": "", "bytesIn": 100, "bytesOut": 0, "quota": 0, "usedThisMonth": 100},
                {"user": "alice", "bytesIn": 1, "bytesOut": 7, "quota": 1000, "usedThisMonth": 8},
            ],
        )
        self.assertEqual(
            [row["day"] for row in self.accounts.stats(by="day")["rows"]], ["2026-01-30"]
        )
        self.broker.users.replace([])
        self.assertEqual(self.accounts.stats(by="user")["rows"][1]["quota"], 0)

    def test_goes_on(self) -> None:
        """Something that goes wrong once is logged, and does not stop the counting."""
        self.begin(Settings())
        self.accounts.startService()
        self.addCleanup(self.accounts.stopService)
        session = self.session()
        session.meter.forward = 5
        flush = self.ledger.flush
        self.ledger.flush = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        self.clock.advance(INTERVAL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.ledger.flush = flush  # type: ignore[method-assign]
        self.clock.advance(INTERVAL)
        self.assertEqual(self.ledger._pending, {})

    def test_wrong_questions(self) -> None:
        """What cannot be asked is an error with a sentence."""
        self.begin(Settings())
        for days in (0, 401, -1, True, 1.5, "7", None, [], {}):
            self.assertRaises(UserError, self.accounts.stats, days)
        for by in ("", "visitor", None, 1, ["day"], {}):
            self.assertRaises(UserError, self.accounts.stats, 1, by)


class QuotaTests(AccountsCase):
    """What a month's quota lets pass."""

    @given(
        st.integers(1, 3 * MB),
        st.lists(st.tuples(st.integers(0, 4), st.integers(1, MB)), max_size=60),
    )
    @settings(max_examples=40, deadline=None)
    def test_exact(self, quota: int, moves: list[tuple[int, int]]) -> None:
        """Whatever the sessions move in whatever order: the quota is used up, and not exceeded."""
        self.begin(Settings(quota=quota))
        sessions = [self.session() for _ in range(5)]
        for number, count in moves:
            self.move(sessions[number], count)
            self.assertLessEqual(sum(session.meter.total for session in sessions), quota)
        self.move(sessions[0], 4 * MB)
        total = sum(session.meter.total for session in sessions)
        self.assertEqual(total, quota)
        self.assertEqual(len(self.broker.sessions), 0)
        self.assertEqual(sum(self.accounts._granted.values()), 0)

    def test_asks_seldom(self) -> None:
        """One of many sessions that moves all there is asks a few times only."""
        self.begin(Settings(quota=1024 * MB))
        first, *_ = [self.session() for _ in range(50)]
        asked = 0
        exhausted = first.meter.exhausted

        def counting() -> None:
            nonlocal asked
            asked += 1
            exhausted()

        first.meter.exhausted = counting
        self.assertEqual(self.move(first, 2048 * MB, at_once=MB), 1024 * MB)
        self.assertLess(asked, 40)

    def test_over(self) -> None:
        """When it is used up sessions end for that reason, and new ones are refused."""
        self.begin(Settings(quota=MB), Settings(name="bob", token="b"))
        bob = self.of("bob", "b")
        others = self.granted(bob, self.provider)[0]
        session, idle = self.session(), self.session()
        channel = Channel(session)
        self.visitor.inbox.clear()
        self.provider.inbox.clear()
        self.move(session, 2 * MB)
        self.assertEqual(channel.moods, [Mood.BYTE_LIMIT])
        self.assertEqual(
            [(one.session_id, one.reason) for one in self.visitor.inbox],  # type: ignore[attr-defined]
            [(session.id, "byte_limit"), (idle.id, "byte_limit")],
        )
        self.visitor.inbox.clear()
        self.assertTrue(others.live)
        self.visitor.says(messages.ConnectRequest(to_client_id="p", service_id="ssh"))
        error = self.visitor.take(messages.Error)
        self.assertEqual(error.code, "byte_limit")
        self.assertEqual(
            error.message,
            "user alice has used up the quota of this month (1 MB); it starts anew on "
            "2026-02-01 (UTC)",
        )
        self.now += 2 * 86400
        self.provider.inbox.clear()
        self.session()

    def test_provider(self) -> None:
        """It is the quota of both sides' users."""
        self.begin(Settings(), Settings(name="bob", token="b", quota=MB))
        self.provider = self.of("bob", "q", tcp("ssh"))
        session = self.session()
        self.assertEqual(self.move(session, 2 * MB), MB)
        self.provider.inbox.clear()
        self.visitor.inbox.clear()
        self.visitor.says(messages.ConnectRequest(to_client_id="q", service_id="ssh"))
        self.assertIn("user bob has used up", self.visitor.take(messages.Error).message)

    def test_session_limit(self) -> None:
        """The limit of each session holds as well."""
        self.begin(Settings(quota=10 * MB), max_bytes_per_session=MB)
        session, other = self.session(), self.session()
        self.assertEqual(self.move(session, 2 * MB), MB)
        self.assertTrue(other.live)
        self.assertEqual(self.move(other, 100), 100)

    def test_datagrams(self) -> None:
        """A batch of datagrams fits into what a session is let have."""
        self.begin(Settings(quota=100_000))
        self.provider = self.of("", "d", udp("dns"), identity=BOB)
        self.visitor = self.of("alice", "e", identity=ANN)
        session, _ = self.granted(self.visitor, self.provider, "dns", mode="link")
        session.meter.exhausted()
        self.assertGreaterEqual(session.meter.limit, LEAST_GRANT)

    def test_collected(self) -> None:
        """What is over a quota for whatever reason ends when it is looked at."""
        self.begin(Settings())
        session, other = self.session(), self.session()
        self.move(session, 500)
        self.broker.replace_users([Settings(quota=1000)])
        self.accounts.quotas_changed()
        self.assertEqual(self.move(other, 300), 300)
        self.assertTrue(session.live)
        self.broker.replace_users([Settings(quota=800)])
        self.accounts.quotas_changed()
        self.assertEqual(len(self.broker.sessions), 0)

    def test_no_more_quota(self) -> None:
        """When the quota is taken away, sessions go on without."""
        self.begin(Settings(quota=MB))
        session, other = self.session(), self.session()
        self.move(session, 100)
        self.broker.replace_users([Settings()])
        other.meter.exhausted()
        self.assertEqual(other.meter.limit, other.most)
        self.accounts.quotas_changed()
        self.assertEqual(session.meter.limit, session.most)
