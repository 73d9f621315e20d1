"""Tests of L{relaytun.server.meetings}: who tells whom what, and who hears nothing."""

from __future__ import annotations

import gc
from typing import Any

from relaytun.server.granted import Session
from relaytun.server.meetings import PAUSE
from relaytun.wire.messages import (
    Candidate,
    CloseSession,
    GetClientList,
    Go,
    MeetingAnswer,
    MeetingOffer,
    Message,
)

from .support import ANN, BOB, BrokerCase, Channel, Connection, tcp

SECRET = "192.0.2.77"


class MeetingsTests(BrokerCase):
    """
    @ivar session: a live one, of a service whose streams go over links.
    """

    def setUp(self) -> None:
        super().setUp()
        self.provider = self.client("p", tcp("ssh", mode="link"), identity=ANN)
        self.visitor = self.client("v", identity=BOB)
        self.session = self.granted_link()

    def granted_link(self) -> Session:
        session, _ = self.granted(self.visitor, self.provider, mode="link")
        self.assertEqual(session.mode, "link")
        return session

    def told(self, **fields: Any) -> dict[str, Any]:
        """What offer and answer have in common."""
        usual: dict[str, Any] = {
            "session_id": self.session.id,
            "attempt": 1,
            "generation": 1,
            "candidates": (Candidate(kind="host", protocol="udp", address=SECRET, port=7),),
            "nat": "easy",
        }
        return usual | fields

    def offer(self, **fields: Any) -> MeetingOffer:
        return MeetingOffer(**self.told(**fields))

    def answer(self, **fields: Any) -> MeetingAnswer:
        return MeetingAnswer(**self.told(**fields))

    def assert_silent(self, *others: Connection) -> None:
        """Nobody was told anything."""
        for client in (self.visitor, self.provider, *others):
            self.assertEqual(client.inbox, [])

    def heard(self, client: Connection) -> list[Message]:
        """What it was told."""
        inbox = list(client.inbox)
        client.inbox.clear()
        return inbox

    def test_meeting(self) -> None:
        """Offer and answer are passed on as they are; with the answer both are told to begin."""
        offer, answer = self.offer(rtt=0.25), self.answer(rtt=0.05)
        self.visitor.says(offer)
        self.assertEqual(self.heard(self.provider), [offer])
        self.assert_silent()
        self.provider.says(answer)
        (heard, first) = self.heard(self.visitor)
        (second,) = self.heard(self.provider)
        self.assertEqual(heard, answer)
        for go, delay in ((first, 0.0), (second, 0.1)):
            assert isinstance(go, Go)
            self.assertEqual((go.session_id, go.attempt), (self.session.id, 1))
            self.assertAlmostEqual(go.delay, delay)

    def test_nobody_else_hears(self) -> None:
        """Candidates are told to the other client of the session alone; no list has them."""
        others = [self.client("other"), self.client("q", tcp("ssh", mode="link"))]
        self.visitor.says(self.offer())
        self.provider.says(self.answer())
        self.heard(self.visitor), self.heard(self.provider)
        self.assert_silent(*others)
        for client in (*others, self.visitor, self.provider):
            client.says(GetClientList())
            self.assertNotIn(SECRET, repr(self.heard(client)))

    def test_not_the_visitor(self) -> None:
        """Only the session's visitor offers, and only its provider answers."""
        stranger = self.client("other")
        for client in (stranger, self.provider):
            client.says(self.offer())
        self.visitor.says(self.offer())
        self.heard(self.provider)
        for client in (stranger, self.visitor):
            client.says(self.answer())
        self.assert_silent(stranger)

    def test_no_such_session(self) -> None:
        """Of a session that there is not, nothing comes."""
        nowhere = f"{9:032x}"
        self.visitor.says(self.offer(session_id=nowhere))
        self.provider.says(self.answer(session_id=nowhere))
        self.assert_silent()

    def test_raw(self) -> None:
        """A session without a link has no TLS that could tell who is there: it is not for this."""
        provider = self.client("raw", tcp("ssh"))
        session, _ = self.granted(self.visitor, provider)
        self.assertEqual(session.mode, "raw")
        self.visitor.says(self.offer(session_id=session.id))
        provider.says(self.answer(session_id=session.id))
        self.assert_silent(provider)

    def test_not_live(self) -> None:
        """Before the grant, after the end, and without one of the clients there is nothing."""
        session, _ = self.offered(self.visitor, self.provider, mode="link")
        self.visitor.says(self.offer(session_id=session.id))
        self.assert_silent()
        self.visitor.says(CloseSession(session_id=self.session.id))
        self.heard(self.visitor), self.heard(self.provider)
        self.visitor.says(self.offer())
        self.assert_silent()
        self.session = self.granted_link()
        Channel(self.session)
        self.provider.lost()
        self.heard(self.visitor)
        self.visitor.says(self.offer())
        self.assert_silent()

    def test_unasked(self) -> None:
        """An answer without an offer, to another one, or for a second time is none."""
        self.provider.says(self.answer())
        self.assert_silent()
        self.visitor.says(self.offer(attempt=5))
        self.heard(self.provider)
        for attempt in (4, 6):
            self.provider.says(self.answer(attempt=attempt))
        self.assert_silent()
        self.provider.says(self.answer(attempt=5))
        self.assertEqual(len(self.heard(self.visitor)), 2)
        self.heard(self.provider)
        self.provider.says(self.answer(attempt=5))
        self.assert_silent()

    def test_rate(self) -> None:
        """Offers of one session that come too fast, or not in order, are not passed on."""
        self.visitor.says(self.offer(attempt=2))
        self.assertEqual(len(self.heard(self.provider)), 1)
        self.clock.advance(PAUSE - 0.1)
        self.visitor.says(self.offer(attempt=3))
        self.assert_silent()
        self.clock.advance(0.1)
        for attempt in (1, 2):
            self.visitor.says(self.offer(attempt=attempt))
        self.assert_silent()
        self.visitor.says(self.offer(attempt=3))
        self.assertEqual(len(self.heard(self.provider)), 1)

    def test_forgotten(self) -> None:
        """Nothing is kept of a session that is over."""
        self.visitor.says(self.offer())
        self.heard(self.provider)
        self.assertEqual(len(self.broker.meetings._meetings), 1)
        self.visitor.says(CloseSession(session_id=self.session.id))
        del self.session
        gc.collect()
        self.assertEqual(len(self.broker.meetings._meetings), 0)
