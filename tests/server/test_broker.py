"""Tests of L{relaytun.server.broker}: the conversations of several clients."""

from __future__ import annotations

import base64
from typing import Any

from msgspec import UNSET

from relaytun.server import sessions as sessions_module
from relaytun.server.granted import ANSWER_TIMEOUT
from relaytun.wire import messages
from relaytun.wire.messages import Service

from .support import ANN, BOB, BrokerCase, Connection, tcp, udp


class ListTests(BrokerCase):
    """Who is there."""

    def listed(self, connection: Connection) -> dict[str, list[str]]:
        """What it is told."""
        connection.says(messages.GetClientList())
        entries = connection.take(messages.ClientList).clients
        self.assertEqual({entry.status for entry in entries}, {"online"})
        return {entry.id: [service.id for service in entry.services] for entry in entries}

    def test_list(self) -> None:
        """The list has every registered client by name, oneself too, with what it offers now."""
        visitor = self.client("v")
        provider = self.client("p", tcp("ssh"), tcp("web"))
        self.client("a", tcp("dns"), identity=ANN)
        self.connect()
        self.assertEqual(self.listed(visitor), {"a": ["dns"], "p": ["ssh", "web"], "v": []})
        provider.register("p", [tcp("new")])
        self.assertEqual(list(self.listed(visitor)), ["a", "p", "v"])
        self.assertEqual(self.listed(visitor)["p"], ["new"])
        provider.says(messages.Unregister())
        self.assertEqual(self.listed(visitor), {"a": ["dns"], "v": []})

    def test_transient(self) -> None:
        """A transient login is not on the list, and may ask for it."""
        guest = self.connect()
        guest.register("", identity=ANN, transient=True)
        self.client("p")
        self.assertEqual(self.listed(guest), {"p": []})

    def test_services_as_they_are(self) -> None:
        """A service is listed with all that its provider said of it, and that it is raw."""
        service = Service(
            id="web",
            protocol="http",
            local_port=8080,
            local_host="192.168.0.7",
            description="my \u202epage",
        )
        provider = self.client("p", service)
        provider.says(messages.GetClientList())
        ((listed,),) = [entry.services for entry in provider.take(messages.ClientList).clients]
        self.assertEqual(listed.mode, "raw")
        self.assertEqual(
            (listed.id, listed.protocol, listed.local_port, listed.local_host, listed.description),
            ("web", "http", 8080, "192.168.0.7", "my \u202epage"),
        )


class ConnectTests(BrokerCase):
    """How a visitor gets a session."""

    def setUp(self) -> None:
        super().setUp()
        self.provider = self.connect(dialled_host="10.0.0.1")
        self.provider.register("p", [tcp("ssh"), tcp("web")])
        self.visitor = self.connect(dialled_host="203.0.113.5")
        self.visitor.register("v")

    def asks(self, target: str, service: str, request_id: str = "r1") -> messages.Error:
        """The visitor asks, and is refused."""
        self.visitor.says(
            messages.ConnectRequest(to_client_id=target, service_id=service, request_id=request_id)
        )
        error = self.visitor.take(messages.Error)
        self.assertEqual((error.request_id, self.provider.inbox), (request_id, []))
        return error

    def test_granted(self) -> None:
        """Asked, offered, accepted, created: each side learns its peer, its key and the relay."""
        self.visitor.says(
            messages.ConnectRequest(to_client_id="p", service_id="ssh", request_id="r1")
        )
        self.assertEqual(self.visitor.inbox, [])
        offer = self.provider.take(messages.ConnectOffer)
        self.assertEqual(
            (offer.from_client_id, offer.to_client_id, offer.service_id, offer.mode),
            ("v", "p", "ssh", "raw"),
        )
        self.assertEqual(offer.relay_addr, messages.RelayAddress(host="10.0.0.1", port=9001))
        self.provider.says(messages.AcceptSession(session_id=offer.session_id))
        self.assertEqual(self.provider.inbox, [])
        created = self.visitor.take(messages.CreateSession)
        self.assertEqual(
            (created.session_id, created.peer_client_id, created.request_id, created.mode),
            (offer.session_id, "p", "r1", "raw"),
        )
        self.assertEqual((created.service.id, created.service.local_port), ("ssh", 22))
        self.assertEqual(created.relay_addr, messages.RelayAddress(host="203.0.113.5", port=9001))
        keys = [base64.b64decode(text) for text in (offer.channel_key, created.channel_key)]
        self.assertEqual([len(key) for key in keys], [32, 32])
        self.assertNotEqual(*keys)

    def test_everything_is_fresh(self) -> None:
        """No two sessions have an id or a key in common."""
        seen: set[str] = set()
        for _ in range(20):
            _, created = self.granted(self.visitor, self.provider)
            seen |= {created.session_id, created.channel_key}
        self.assertEqual(len(seen), 40)

    def test_without_request_id(self) -> None:
        """Who sends no requestId gets none."""
        self.visitor.says(messages.ConnectRequest(to_client_id="p", service_id="ssh"))
        offer = self.provider.take(messages.ConnectOffer)
        self.provider.says(messages.AcceptSession(session_id=offer.session_id))
        self.assertIs(self.visitor.take(messages.CreateSession).request_id, UNSET)
        self.visitor.says(messages.ConnectRequest(to_client_id="x", service_id="ssh"))
        self.assertIs(self.visitor.take(messages.Error).request_id, UNSET)

    def test_unhealthy(self) -> None:
        """A service that is not healthy gets no sessions until it is again."""
        self.provider.says(messages.ServiceHealth(service_id="ssh", healthy=False))
        error = self.asks("p", "ssh")
        self.assertEqual(error.code, "client_offline")
        self.assertEqual(error.message, "p's health check of ssh fails")
        self.visitor.says(messages.ConnectRequest(service_id="ssh"))
        error = self.visitor.take(messages.Error)
        self.assertEqual(error.code, "client_offline")
        self.assertIn("whoever offers ssh says that it is not healthy", error.message)
        other = self.client("q", tcp("ssh"))
        self.visitor.says(messages.ConnectRequest(service_id="ssh"))
        self.assertEqual(other.take(messages.ConnectOffer).to_client_id, "q")
        self.provider.says(messages.ServiceHealth(service_id="ssh", healthy=True))
        self.granted(self.visitor, self.provider)

    def test_public_host(self) -> None:
        """With a public_host everybody is told to dial that one."""
        self.broker = self.make_broker(public_host="relay.example.com")
        response = self.connect(dialled_host="10.0.0.1").register("p")
        self.assertEqual(response.relay, messages.RelayAddress(host="relay.example.com", port=9001))

    def test_accepted_twice(self) -> None:
        """A second yes grants nothing more."""
        session, created = self.granted(self.visitor, self.provider)
        self.provider.says(messages.AcceptSession(session_id=created.session_id))
        self.assertEqual((self.visitor.inbox, self.provider.inbox), ([], []))
        self.assertTrue(session.live)

    def test_rejected(self) -> None:
        """A no reaches the visitor as error rejected, and the session is forgotten."""
        session, offer = self.offered(self.visitor, self.provider)
        self.provider.says(messages.RejectSession(session_id=offer.session_id, reason="busy"))
        error = self.visitor.take(messages.Error)
        self.assertEqual(
            (error.code, error.session_id, error.request_id),
            ("rejected", offer.session_id, "r1"),
        )
        self.assertEqual((self.provider.inbox, len(self.broker.sessions)), ([], 0))
        self.provider.says(messages.AcceptSession(session_id=offer.session_id))
        self.assertEqual((self.visitor.inbox, session.live), ([], False))

    def test_unanswered(self) -> None:
        """A provider that does not answer in time: error timeout, and the provider knows too."""
        _, offer = self.offered(self.visitor, self.provider)
        self.clock.advance(ANSWER_TIMEOUT - 0.001)
        self.assertEqual(self.visitor.inbox, [])
        self.clock.advance(0.001)
        error = self.visitor.take(messages.Error)
        self.assertEqual((error.code, error.request_id), ("timeout", "r1"))
        closed = self.provider.take(messages.SessionClosed)
        self.assertEqual(
            (closed.session_id, closed.reason, closed.bytes_transferred),
            (offer.session_id, "lonely", 0),
        )
        self.assertEqual((len(self.broker.sessions), self.clock.getDelayedCalls()), (0, []))

    def test_answered_leaves_no_timer(self) -> None:
        """When the provider has answered no clock runs."""
        self.granted(self.visitor, self.provider)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        _, offer = self.offered(self.visitor, self.provider)
        self.provider.says(messages.RejectSession(session_id=offer.session_id))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unknown(self) -> None:
        """Whom nobody knows, who is not there, what is not offered: three different errors."""
        gone = self.client("gone", tcp("ssh"), identity=ANN)
        gone.lost()
        anonymous = self.client("anonymous", tcp("ssh"))
        anonymous.lost()
        self.assertEqual(self.asks("nobody", "ssh").code, "unknown_client")
        self.assertEqual(self.asks("gone", "ssh", "r2").code, "client_offline")
        self.assertEqual(self.asks("anonymous", "ssh").code, "unknown_client")
        self.assertEqual(self.asks("p", "nothing", "r3").code, "unknown_service")
        self.assertEqual(len(self.broker.sessions), 0)

    def test_service_withdrawn(self) -> None:
        """A service that its provider offers no more is not to be had, from that moment."""
        self.provider.register("p", [tcp("web")])
        self.assertEqual(self.asks("p", "ssh").code, "unknown_service")
        self.granted(self.visitor, self.provider, "web")

    def test_session_limit(self) -> None:
        """With max_sessions there is no further one, offered or live, until one has ended."""
        self.broker = self.make_broker(max_sessions=2)
        self.provider, self.visitor = self.client("p", tcp("ssh")), self.client("v")
        self.offered(self.visitor, self.provider)
        _, created = self.granted(self.visitor, self.provider)
        error = self.asks("p", "ssh")
        self.assertEqual(error.code, "session_limit")
        self.assertIn("max_sessions = 2", error.message)
        self.visitor.says(messages.CloseSession(session_id=created.session_id))
        self.visitor.take(messages.SessionClosed)
        self.provider.take(messages.SessionClosed)
        self.granted(self.visitor, self.provider)

    def test_with_itself(self) -> None:
        """A client may visit its own service, and hears of the end once."""
        session, created = self.granted(self.provider, self.provider)
        self.assertTrue(session.live)
        self.provider.says(messages.CloseSession(session_id=created.session_id))
        self.assertEqual(self.provider.take(messages.SessionClosed).reason, "happy")

    def test_transient_visitor(self) -> None:
        """A transient login may visit, under its name; that it leaves ends its sessions only."""
        main = self.client("a", tcp("ssh"), identity=ANN)
        passing = self.client("a", identity=ANN, transient=True)
        session, created = self.granted(passing, self.provider)
        self.assertEqual((session.visitor.name, created.peer_client_id), ("a", "p"))
        other, _ = self.granted(main, self.provider)
        passing.says(messages.Unregister())
        self.assertEqual(self.provider.take(messages.SessionClosed).session_id, session.id)
        self.assertEqual(list(self.broker.sessions), [other])

    def test_many_at_once(self) -> None:
        """Answers in another order reach those who asked, with their own requestId."""
        others = [self.client(f"v{number}") for number in range(3)]
        for number, visitor in enumerate(others):
            visitor.says(
                messages.ConnectRequest(to_client_id="p", service_id="ssh", request_id=f"r{number}")
            )
        offers = list(self.provider.inbox)
        for offer in reversed(offers):
            assert isinstance(offer, messages.ConnectOffer)
            self.provider.says(messages.AcceptSession(session_id=offer.session_id))
        for number, visitor in enumerate(others):
            created = visitor.take(messages.CreateSession)
            self.assertEqual(created.request_id, f"r{number}")
            self.assertEqual(created.session_id, offers[number].session_id)  # type: ignore


class LinkTests(BrokerCase):
    """Who gets a session for a link service, and what both sides learn."""

    def setUp(self) -> None:
        super().setUp()
        services = (tcp("raw"), tcp("link", mode="link", compression="zstd"), udp("dns"))
        self.provider = self.client("p", *services, identity=ANN)
        self.visitor = self.client("v", identity=BOB)
        self.stranger = self.client("s")

    def refused(self, visitor: Connection, service: str, **more: Any) -> str:
        """What a visitor hears that may not."""
        visitor.says(
            messages.ConnectRequest(to_client_id="p", service_id=service, request_id="r1", **more)
        )
        error = visitor.take(messages.Error)
        self.assertEqual((error.code, error.request_id), ("forbidden", "r1"))
        self.assertEqual((self.provider.inbox, len(self.broker.sessions)), ([], 0))
        return error.message

    def test_granted(self) -> None:
        """Both are told that it is a link, and each the identity of the other."""
        session, offer = self.offered(self.visitor, self.provider, "link", mode="link")
        self.assertEqual((offer.mode, offer.peer_fingerprint), ("link", BOB.fingerprint))
        self.assertIs(offer.datagram_session, UNSET)
        self.provider.says(messages.AcceptSession(session_id=offer.session_id))
        created = self.visitor.take(messages.CreateSession)
        self.assertEqual((created.mode, created.peer_fingerprint), ("link", ANN.fingerprint))
        self.assertEqual((created.service.mode, created.service.compression), ("link", "zstd"))
        self.assertIs(created.datagram_session, UNSET)
        self.assertEqual((session.mode, session.datagram_session), ("link", None))

    def test_no_identity(self) -> None:
        """A visitor without an identity gets no link, whatever it says it can do."""
        for service in ("link", "dns"):
            for more in ({}, {"mode": "raw"}, {"mode": "link"}):
                self.assertIn("needs an identity", self.refused(self.stranger, service, **more))

    def test_no_link(self) -> None:
        """A visitor that does not say that it can do links gets none, and learns how to ask."""
        for service in ("link", "dns"):
            for more in ({}, {"mode": "raw"}):
                self.assertIn('says mode "link"', self.refused(self.visitor, service, **more))

    def test_raw_service(self) -> None:
        """A raw service is raw whoever asks; identities are told as far as there are any."""
        for visitor, seen in ((self.visitor, BOB.fingerprint), (self.stranger, UNSET)):
            for more in ({}, {"mode": "raw"}, {"mode": "link"}):
                session, offer = self.offered(visitor, self.provider, "raw", **more)
                self.assertEqual((offer.mode, offer.peer_fingerprint), ("raw", seen))
                self.provider.says(messages.AcceptSession(session_id=offer.session_id))
                created = visitor.take(messages.CreateSession)
                self.assertEqual((created.mode, created.peer_fingerprint), ("raw", ANN.fingerprint))
                self.assertEqual((session.mode, session.datagram_session), ("raw", None))

    def test_transient_visitor(self) -> None:
        """A passing login of an identity may have links, too."""
        guest = self.connect()
        name = guest.register("", identity=BOB, transient=True).assigned_id
        _, offer = self.offered(guest, self.provider, "link", mode="link")
        self.assertEqual((offer.from_client_id, offer.peer_fingerprint), (name, BOB.fingerprint))

    def test_datagrams(self) -> None:
        """A udp session has a number of its own, told to both; by it the relay finds it."""
        sessions = self.broker.sessions
        numbers = set()
        for _ in range(20):
            session, offer = self.offered(self.visitor, self.provider, "dns", mode="link")
            number = session.datagram_session
            assert number is not None
            self.assertIs(sessions.by_datagram(number), session)
            self.assertFalse(session.live)
            self.provider.says(messages.AcceptSession(session_id=offer.session_id))
            created = self.visitor.take(messages.CreateSession)
            self.assertEqual((offer.mode, created.mode), ("link", "link"))
            self.assertEqual((offer.datagram_session, created.datagram_session), (number, number))
            numbers.add(number)
        self.assertEqual(len(numbers), 20)
        for session in list(sessions):
            session.machine.closed()
        self.assertEqual([sessions.by_datagram(number) for number in numbers], [None] * 20)

    def test_taken_number(self) -> None:
        """A number that a session has is not given to another one."""
        numbers = iter([7, 7, 7, 8])
        self.patch(sessions_module.secrets, "randbits", lambda bits: next(numbers))
        first, _ = self.offered(self.visitor, self.provider, "dns", mode="link")
        second, _ = self.offered(self.visitor, self.provider, "dns", mode="link")
        self.assertEqual((first.datagram_session, second.datagram_session), (7, 8))

    def test_refused_udp(self) -> None:
        """A udp session that the provider does not want leaves no number behind."""
        session, offer = self.offered(self.visitor, self.provider, "dns", mode="link")
        self.provider.says(messages.RejectSession(session_id=offer.session_id))
        assert session.datagram_session is not None
        self.assertIsNone(self.broker.sessions.by_datagram(session.datagram_session))


class LeavingTests(BrokerCase):
    """What the others hear when a client leaves."""

    def setUp(self) -> None:
        super().setUp()
        self.provider = self.client("p", tcp("ssh"), identity=ANN)
        self.visitor = self.client("v", identity=BOB)

    def test_provider_leaves_before_it_answers(self) -> None:
        """The visitor is told client_offline, with its requestId."""
        _, offer = self.offered(self.visitor, self.provider)
        self.provider.lost()
        error = self.visitor.take(messages.Error)
        self.assertEqual(
            (error.code, error.session_id, error.request_id),
            ("client_offline", offer.session_id, "r1"),
        )

    def test_visitor_leaves_before_the_answer(self) -> None:
        """The provider is told that the session is no more, and a late yes changes nothing."""
        _, offer = self.offered(self.visitor, self.provider)
        self.visitor.says(messages.Unregister())
        closed = self.provider.take(messages.SessionClosed)
        self.assertEqual((closed.session_id, closed.reason), (offer.session_id, "client_offline"))
        self.provider.says(messages.AcceptSession(session_id=offer.session_id))
        self.assertEqual((self.provider.inbox, len(self.broker.sessions)), ([], 0))

    def test_leaves_a_live_session(self) -> None:
        """Without channels a live session ends when either of its clients leaves."""
        for leaver, other in ((self.provider, self.visitor), (self.visitor, self.provider)):
            provider, visitor = self.client("p2", tcp("ssh")), self.client("v2")
            pair = {self.provider: provider, self.visitor: visitor}
            _, created = self.granted(visitor, provider)
            pair[leaver].lost()
            closed = pair[other].take(messages.SessionClosed)
            self.assertEqual(
                (closed.session_id, closed.reason), (created.session_id, "client_offline")
            )
            self.assertEqual(len(self.broker.sessions), 0)
            pair[other].lost()

    def test_closed_by_either(self) -> None:
        """Either client may close a session; both hear that it ended happily."""
        for closer in (self.visitor, self.provider):
            _, created = self.granted(self.visitor, self.provider)
            closer.says(messages.CloseSession(session_id=created.session_id))
            for client in (self.visitor, self.provider):
                closed = client.take(messages.SessionClosed)
                self.assertEqual(
                    (closed.session_id, closed.reason, closed.bytes_transferred),
                    (created.session_id, "happy", 0),
                )
            closer.says(messages.CloseSession(session_id=created.session_id))
            self.assertEqual((self.visitor.inbox, self.provider.inbox), ([], []))

    def test_closed_before_the_answer(self) -> None:
        """A visitor that gives up while the provider is asked gets an error; both are told."""
        _, offer = self.offered(self.visitor, self.provider)
        self.visitor.says(messages.CloseSession(session_id=offer.session_id))
        self.assertEqual(self.visitor.error(), "rejected")
        self.assertEqual(self.provider.take(messages.SessionClosed).reason, "happy")

    def test_provider_does_not_know_it(self) -> None:
        """A provider that has lost its memory may reject a live session: that is its end."""
        _, created = self.granted(self.visitor, self.provider)
        self.provider.says(messages.RejectSession(session_id=created.session_id))
        for client in (self.visitor, self.provider):
            self.assertEqual(client.take(messages.SessionClosed).reason, "rejected")

    def test_displaced_provider(self) -> None:
        """A new login takes the name at once; what the old one was asked ends, and is told."""
        self.offered(self.visitor, self.provider)
        again = self.client("p", tcp("ssh"), identity=ANN)
        self.assertEqual(self.visitor.error(), "client_offline")
        session, _ = self.granted(self.visitor, again)
        self.assertIs(session.provider, again.peer)

    def test_others_are_undisturbed(self) -> None:
        """That a client leaves ends no session of others."""
        other_provider, other = self.client("p2", tcp("ssh")), self.client("v2")
        session, _ = self.granted(other, other_provider)
        self.granted(self.visitor, self.provider)
        self.visitor.lost()
        self.assertEqual(list(self.broker.sessions), [session])
        self.assertEqual((other.inbox, other_provider.inbox), ([], []))

    def test_nothing_is_left(self) -> None:
        """A thousand clients and sessions later there is nothing but what was there before."""
        for number in range(1000):
            visitor = self.client(f"v{number}")
            self.granted(visitor, self.provider)
            visitor.lost()
            self.provider.take(messages.SessionClosed)
        self.assertEqual((len(self.broker.sessions), len(self.broker.registry)), (0, 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])
