"""Tests of what a client may change after its login, and of the events of broker and sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET

from relaytun.server.peer import Peer
from relaytun.wire import messages

from .support import ANN, BOB, BrokerCase, Channel, tcp, udp


class UpdateTests(BrokerCase):
    """The message update_services."""

    def setUp(self) -> None:
        super().setUp()
        self.exposed: list[Any] = []
        self.broker.public = self
        self.provider = self.client("p", tcp("ssh"), tcp("web"), identity=ANN)
        self.visitor = self.client("v", identity=BOB)

    def exposures_changed(self, peer: Peer, exposures: Iterable[messages.Exposure]) -> None:
        if exposures:
            self.exposed.append((peer.name, exposures))

    def client_left(self, peer: Peer) -> None:
        pass

    def update(self, *services: messages.Service, **more: Any) -> None:
        self.provider.says(messages.UpdateServices(services=services, **more))

    def test_offered(self) -> None:
        """New services are to be had as if they had been registered, removed ones are not."""
        self.update(tcp("ssh"), tcp("db", mode="link"), udp("dns"))
        self.assertEqual(
            {name: one.mode for name, one in self.provider.peer.services.items()},
            {"ssh": "raw", "db": "link", "dns": "link"},
        )
        self.visitor.says(messages.ConnectRequest(to_client_id="p", service_id="web"))
        self.assertEqual(self.visitor.error(), "unknown_service")

    def test_sessions(self) -> None:
        """Sessions of services that stay go on; others end with their channels."""
        kept, _ = self.granted(self.visitor, self.provider, "ssh")
        gone, _ = self.granted(self.visitor, self.provider, "web")
        idle, _ = self.granted(self.visitor, self.provider, "web")
        channel = Channel(gone)
        self.update(tcp("ssh", description="as before"), tcp("web", local_host="elsewhere"))
        self.assertTrue(kept.live)
        self.assertFalse(gone.live)
        self.assertEqual(channel.moods, [])
        self.assertIsNone(self.broker.sessions.find(idle.key))
        channel.over()
        self.assertIsNone(self.broker.sessions.find(gone.key))
        self.assertIsNotNone(self.broker.sessions.find(kept.key))

    def test_health(self) -> None:
        """What is known of a service's health is not forgotten."""
        self.update(tcp("ssh", healthy=False), tcp("web"))
        self.update(tcp("ssh"), tcp("web"))
        self.assertEqual(
            [one.healthy for one in self.provider.peer.services.values()], [False, UNSET]
        )

    def test_exposures(self) -> None:
        """Who opens services for the public is told what is wanted from now on."""
        exposure = messages.Exposure(service="ssh", remote_port=6000)
        self.update(tcp("ssh"), exposures=(exposure,))
        self.assertEqual(self.exposed, [("p", (exposure,))])

    def test_refused(self) -> None:
        """What could not be registered is refused as a whole, and nothing changes."""
        plain = self.client("plain", tcp("ssh"))
        for services in ((udp("dns"),), (tcp("web"), udp("dns"))):
            plain.says(messages.UpdateServices(services=services))
            self.assertEqual(plain.error(), "forbidden")
        self.assertEqual(list(plain.peer.services), ["ssh"])
        transient = self.connect()
        transient.register("v", identity=BOB, transient=True)
        transient.says(messages.UpdateServices(services=(tcp("ssh"),)))
        self.assertEqual(transient.error(), "forbidden")
        stranger = self.connect()
        stranger.says(messages.UpdateServices())
        self.assertEqual(stranger.error(), "not_registered")


class EventTests(BrokerCase):
    """What is told of clients, services and sessions."""

    def setUp(self) -> None:
        super().setUp()
        self.heard: list[tuple[Any, ...]] = []
        self.broker.events.listeners.append(
            lambda event, **fields: self.heard.append(
                (event, fields.get("client") or fields.get("service"), fields.get("mood"))
            )
        )

    def take(self) -> list[tuple[Any, ...]]:
        heard, self.heard = self.heard, []
        return [tuple(each for each in one if each is not None) for one in heard]

    def test_clients(self) -> None:
        """A client is online from its first login to the end of the last one."""
        first = self.client("p", tcp("ssh"), identity=ANN)
        self.assertEqual(self.take(), [("client_online", "p"), ("service_online", "p")])
        second = self.client("p", tcp("ssh"), tcp("web"), identity=ANN)
        self.assertTrue(first.closed)
        self.assertEqual(self.take(), [("service_online", "p")])
        second.says(messages.UpdateServices(services=(tcp("ssh"),)))
        self.assertEqual(self.take(), [("service_offline", "p")])
        second.lost()
        self.assertEqual(self.take(), [("service_offline", "p"), ("client_offline", "p")])

    def test_guests(self) -> None:
        """Logins of short life, and those that never registered, are not told of."""
        self.client("v", identity=BOB)
        self.take()
        guest = self.connect()
        guest.register("v", identity=BOB, transient=True)
        guest.lost()
        self.connect().lost()
        self.assertEqual(self.take(), [])

    def test_sessions(self) -> None:
        """A session that was granted opens and closes; one that was not is refused."""
        provider, visitor = self.client("p", tcp("ssh"), identity=ANN), self.client("v")
        self.take()
        self.granted(visitor, provider)
        self.assertEqual(self.take(), [("session_opened", "ssh")])
        visitor.lost()
        self.assertIn(("session_closed", "ssh", "client_offline"), self.take())
        visitor = self.client("v")
        provider.inbox.clear()
        self.take()
        _, offer = self.offered(visitor, provider)
        provider.says(messages.RejectSession(session_id=offer.session_id))
        self.assertEqual(self.take(), [("session_refused", "ssh", "rejected")])


class LimitTests(BrokerCase):
    """Limits that change."""

    def test_limits(self) -> None:
        """New limits hold from now on, and end nothing."""
        provider, visitor = self.client("p", tcp("ssh"), identity=ANN), self.client("v")
        session, _ = self.granted(visitor, provider)
        self.broker.registry.limit(1)
        self.broker.sessions.limit(1, 100, 10.0)
        self.assertFalse(self.connect().register("w").success)
        visitor.says(messages.ConnectRequest(to_client_id="p", service_id="ssh"))
        self.assertEqual(visitor.error(), "session_limit")
        self.broker.sessions.limit(2, 100, 10.0)
        limited, _ = self.granted(visitor, provider)
        self.assertEqual(limited.meter.limit, 100)
        self.assertGreater(session.meter.limit, 100)

    def test_idle(self) -> None:
        """A shorter time for idle sessions holds for those that there are."""
        provider, visitor = self.client("p", tcp("ssh"), identity=ANN), self.client("v")
        self.broker.sessions.start()
        session, _ = self.granted(visitor, provider)
        self.broker.sessions.limit(10, 0, 4.0)
        for _ in range(8):
            self.clock.advance(1.0)
        self.assertIsNone(self.broker.sessions.find(session.key))
        self.broker.sessions.stop()

    def test_going_away(self) -> None:
        """A server that is about to end tells everybody, and grants no session."""
        provider, visitor = self.client("p", tcp("ssh"), identity=ANN), self.client("v")
        session, _ = self.granted(visitor, provider)
        Channel(session)
        self.assertEqual(self.broker.sessions.raw_channels, 1)
        self.broker.go_away(30.0)
        self.assertEqual(provider.take(messages.GoingAway).seconds, 30.0)
        visitor.take(messages.GoingAway)
        visitor.says(messages.ConnectRequest(to_client_id="p", service_id="ssh"))
        self.assertEqual(visitor.error(), "internal")
