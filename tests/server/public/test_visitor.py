"""Tests of L{relaytun.server.public.visitor} and L{relaytun.server.public.visiting}."""

from __future__ import annotations

from relaytun.server.public.visitor import OUTAGE, PublicVisitor
from relaytun.wire import messages
from relaytun.wire.preamble import Refusal

from ..support import ANN, tcp
from .support import PublicCase


class RawTests(PublicCase):
    """Connections to a raw service."""

    def setUp(self) -> None:
        super().setUp()
        self.connection = self.provider("p", tcp("ssh"))
        self.visitor = PublicVisitor(self.visiting, "p", "ssh")

    def test_first(self) -> None:
        """The first connection asks for a session, as the public, and is then a leg of it."""
        ours, _ = self.socket()
        self.visitor.serve(ours)
        offer = self.accept(self.connection)
        self.assertEqual((offer.from_client_id, offer.public, offer.mode), ("public", True, "raw"))
        ((session, channel, sock, _),) = self.relay.adopted
        self.assertEqual((session.id, channel), (offer.session_id, 0))
        self.assertIs(sock, ours)

    def test_next(self) -> None:
        """Later ones are legs of the same session, each with a number of its own."""
        for _ in range(3):
            self.visitor.serve(self.socket()[0])
        self.accept(self.connection)
        self.visitor.serve(self.socket()[0])
        self.assertEqual([channel for _, channel, _, _ in self.relay.adopted], [0, 1, 2, 3])
        self.assertEqual(len({session.id for session, _, _, _ in self.relay.adopted}), 1)

    def test_session_over(self) -> None:
        """A connection whose session has just ended gets another one; once is enough."""
        ours, theirs = self.socket()
        self.visitor.serve(ours)
        self.accept(self.connection)
        self.relay.adopted[0][3](ours, Refusal.NOT_LIVE)
        self.accept(self.connection)
        (first, _, _, _), (second, _, sock, refused) = self.relay.adopted
        self.assertIsNot(first, second)
        refused(sock, Refusal.NOT_LIVE)
        self.assertEqual((theirs.recv(1), theirs.broken), (b"", True))

    def test_lonely(self) -> None:
        """A provider that brings no leg costs the connection."""
        ours, theirs = self.socket()
        self.visitor.serve(ours)
        self.accept(self.connection)
        self.relay.adopted[0][3](ours, Refusal.LONELY)
        self.assertEqual((theirs.recv(1), theirs.broken), (b"", True))
        self.assertEqual(self.connection.inbox, [])

    def test_rejected(self) -> None:
        """A provider that says no costs the connection, and the next one asks again."""
        ours, theirs = self.socket()
        self.visitor.serve(ours)
        offer = self.connection.take(messages.ConnectOffer)
        self.connection.says(messages.RejectSession(session_id=offer.session_id))
        self.assertEqual((theirs.recv(1), theirs.broken), (b"", True))
        self.visitor.serve(self.socket()[0])
        self.connection.take(messages.ConnectOffer)

    def test_away(self) -> None:
        """While the provider is away a connection waits for it, and not for ever."""
        self.connection.lost()
        ours, theirs = self.socket()
        self.visitor.serve(ours)
        self.clock.advance(OUTAGE - 1)
        again = self.provider("p", tcp("ssh"))
        self.visitor.back()
        self.accept(again)
        self.assertEqual(len(self.relay.adopted), 1)
        again.lost()
        ours, theirs = self.socket()
        self.visitor.serve(ours)
        self.clock.advance(OUTAGE)
        self.assertEqual((theirs.recv(1), theirs.broken), (b"", True))

    def test_close(self) -> None:
        """What is public no more ends its session, those who wait, and those who come."""
        self.visitor.serve(self.socket()[0])
        offer = self.accept(self.connection)
        self.visitor.close()
        closed = self.connection.take(messages.SessionClosed)
        self.assertEqual((closed.session_id, closed.reason), (offer.session_id, "happy"))
        ours, theirs = self.socket()
        self.visitor.serve(ours)
        self.assertEqual((theirs.recv(1), theirs.broken), (b"", True))
        self.visitor.close()

    def test_close_while_asking(self) -> None:
        """A session that is granted too late is closed."""
        ours, theirs = self.socket()
        self.visitor.serve(ours)
        self.visitor.close()
        self.assertEqual((theirs.recv(1), theirs.broken), (b"", True))
        offer = self.connection.take(messages.ConnectOffer)
        self.connection.says(messages.AcceptSession(session_id=offer.session_id))
        self.assertEqual(self.connection.take(messages.SessionClosed).session_id, offer.session_id)

    def test_full(self) -> None:
        """A server that has its sessions resets the connection."""
        self.broker.sessions._max_sessions = 0
        ours, theirs = self.socket()
        self.visitor.serve(ours)
        self.assertEqual((theirs.recv(1), theirs.broken), (b"", True))

    def test_streams(self) -> None:
        """Streams are counted while they run."""
        self.assertEqual(self.visitor.streams, 0)
        self.visitor.serve(self.socket()[0])
        self.accept(self.connection)
        self.assertEqual(self.visitor.streams, 0)


class LinkTests(PublicCase):
    """Connections to a service that is offered over links."""

    def test_link(self) -> None:
        """They share one link, whose leg begins in this process."""
        connection = self.provider("p", tcp("ssh", mode="link"), identity=ANN)
        visitor = PublicVisitor(self.visiting, "p", "ssh")
        visitor.serve(self.socket()[0])
        visitor.serve(self.socket()[0])
        offer = self.accept(connection)
        self.assertEqual(offer.mode, "link")
        self.assertEqual(len(self.relay.accepted_ones), 1)
        self.addCleanup(self.relay.accepted_ones[0].close)
        self.assertEqual(visitor.streams, 2)
        link = visitor.link
        connection.lost()
        again = self.connect()
        self.again(again, "p", tcp("ssh", mode="link"), identity=ANN)
        visitor.back()
        self.assertIs(visitor.link, link)
        visitor.close()
        self.assertIsNone(visitor.link)
        self.clock.advance(1000)
