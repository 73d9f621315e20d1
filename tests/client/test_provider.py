"""Tests for L{relaytun.client.provider}."""

from __future__ import annotations

import socket
from typing import Any

from msgspec import structs
from twisted.internet import reactor

from relaytun.client import provider as module
from relaytun.client.provider import FEWEST_SPARES, LINK_SPARES, MOST_SPARES, Provider, goes_on
from relaytun.client.providerlink import Links
from relaytun.client.servicedialer import ServiceDialer
from relaytun.config import AllowedVisitor, ServiceConfig
from relaytun.link.channel import Channel
from relaytun.link.handshake import LinkTLS, Peer
from relaytun.wire import frames, messages, preamble
from relaytun.wire.preamble import Refusal, Role

from .support import IDENTITY, HandMadeServer, until, warnings_to

SESSION = "5" * 32
FINGERPRINT = "sha256:" + "0" * 64


class ProviderTestCase(HandMadeServer):
    """
    @ivar provider: the one under test, of the service C{web}.
    @ivar mode: the service's.
    """

    mode = "raw"

    def setUp(self) -> None:
        super().setUp()
        self.service = self.listen()
        self.links = Links(self.machinery)
        self.addCleanup(self.links.close)
        services = [self.web(mode=self.mode)]
        self.provider = Provider(self.machinery, self.connection, services, self.links)
        self.addCleanup(lambda: [held.cut() for held in list(self.provider.sessions.values())])

    def web(self, *allow: AllowedVisitor, mode: str = "raw") -> ServiceConfig:
        """The service as it is offered."""
        return ServiceConfig(
            id="web",
            protocol="tcp",
            local_host="127.0.0.1",
            local_port=self.service.getsockname()[1],
            allow=allow,
            mode=mode,
        )

    def change(self, service: ServiceConfig) -> None:
        """Offer it in this way from now on."""
        self.provider._services = {service.id: service}

    def offer(self, **fields: Any) -> None:
        usual = {
            "from_client_id": "b",
            "to_client_id": "me",
            "service_id": "web",
            "session_id": SESSION,
            "channel_key": self.key,
            "relay_addr": self.relay_address,
        }
        self.control.receive(messages.ConnectOffer(**usual | fields))

    async def spares(self, count: int) -> list[tuple[socket.socket, preamble.Preamble]]:
        legs = [await self.leg(Role.PROVIDER) for _ in range(count)]
        self.assertTrue(all(opening.spare for _, opening in legs))
        return legs


class ProviderTests(ProviderTestCase):
    async def test_spare_legs(self) -> None:
        """An accepted session gets its spare legs at once, each with a number of its own."""
        self.offer()
        self.assertEqual(
            self.sent(messages.AcceptSession), [messages.AcceptSession(session_id=SESSION)]
        )
        legs = await self.spares(FEWEST_SPARES)
        self.assertEqual(len({opening.channel for _, opening in legs}), FEWEST_SPARES)

    async def test_stream(self) -> None:
        """A spare leg that is taken leads to the service, and is replaced."""
        self.offer()
        (leg, _), *_ = await self.spares(FEWEST_SPARES)
        leg.send(b"+GET /")
        served = await self.accept(self.service)
        self.assertEqual(await self.receive(served, 5), b"GET /")
        served.send(b"200")
        self.assertEqual(await self.receive(leg, 3), b"200")
        await self.spares(1)
        (held,) = self.provider.sessions.values()
        report = held.session.report(None)
        self.assertEqual(
            (report["role"], report["bytesIn"], report["bytesOut"]), ("provider", 5, 3)
        )

    async def test_asked_for_a_channel(self) -> None:
        """A leg that is asked for has the channel's number; more spares follow."""
        self.offer()
        await self.spares(FEWEST_SPARES)
        self.control.receive(messages.OpenChannel(session_id=SESSION, channel=7))
        legs = [await self.leg(Role.PROVIDER) for _ in range(1 + FEWEST_SPARES)]
        asked = [(leg, opening) for leg, opening in legs if not opening.spare]
        self.assertEqual([opening.channel for _, opening in asked], [7])
        asked[0][0].send(b"+x")
        self.assertEqual(await self.receive(await self.accept(self.service), 1), b"x")

    async def stream(self) -> tuple[socket.socket, socket.socket]:
        """A stream under way: the relay's end of its leg, and the service's."""
        self.offer()
        (leg, _), *_ = await self.spares(FEWEST_SPARES)
        leg.send(b"+x")
        served = await self.accept(self.service)
        self.assertEqual(await self.receive(served, 1), b"x")
        return leg, served

    async def test_reoffered(self) -> None:
        """Sessions of a service that stays as it was, for its visitor, go on."""
        leg, served = await self.stream()
        web = self.web()
        everyone = structs.replace(web, description="new", allow=(AllowedVisitor("b"),))
        for services in ([web], [web, structs.replace(web, id="other")]):
            self.provider.offer(services)
        self.assertFalse(goes_on(web, everyone, "c"))
        self.assertTrue(goes_on(web, everyone, "b"))
        self.provider.offer([everyone])
        served.send(b"still")
        self.assertEqual(await self.receive(leg, 5), b"still")
        self.assertEqual(self.sent(messages.RejectSession), [])
        self.assertEqual(self.provider.raw_streams, 1)

    async def test_withdrawn(self) -> None:
        """Sessions of a service that is gone, changed or not for its visitor any more end."""
        web = self.web()
        changed = structs.replace(web, local_host="elsewhere")
        for new in (changed, self.web(AllowedVisitor("c")), None):
            self.assertFalse(goes_on(web, new, "b"))
        leg, _ = await self.stream()
        self.provider.offer([changed])
        await self.is_reset(leg)
        self.assertEqual(len(self.sent(messages.RejectSession)), 1)
        self.assertEqual(self.provider.sessions, {})

    async def test_offers_nothing(self) -> None:
        """When it is about to end there are no new streams; those that run go on to their end."""
        leg, served = await self.stream()
        self.provider.offer_nothing()
        served.send(b"still")
        self.assertEqual(await self.receive(leg, 5), b"still")
        self.offer(session_id="6" * 32)
        self.assertEqual(len(self.sent(messages.RejectSession)), 1)
        leg.close()
        served.close()
        await until(lambda: not self.provider.sessions)
        self.assertEqual(self.provider.raw_streams, 0)

    async def test_spares_are_bounded(self) -> None:
        """However many channels are asked for, there are no more than so many spares."""
        self.offer()
        for channel in range(20):
            self.control.receive(messages.OpenChannel(session_id=SESSION, channel=channel))
        (held,) = self.provider.sessions.values()
        self.assertEqual(held._target, MOST_SPARES)

    async def test_calm(self) -> None:
        """When no stream has wanted more for a while, fewer are kept, down to the usual few."""
        self.patch(module, "CALM", 0.01)
        self.offer()
        for channel in range(3):
            self.control.receive(messages.OpenChannel(session_id=SESSION, channel=channel))
        (held,) = self.provider.sessions.values()
        self.assertEqual(held._target, MOST_SPARES)
        await until(lambda: held._spares == FEWEST_SPARES)
        self.assertEqual(len(held._idle), FEWEST_SPARES)

    async def test_lost_spare(self) -> None:
        """A spare leg that the relay turns away is replaced, but not in a spin."""
        self.patch(module, "SPARE_PAUSE", 0.01)
        self.offer()
        legs = await self.spares(FEWEST_SPARES)
        legs[0][0].send(b"-" + bytes([Refusal.LIMIT]))
        legs[0][0].close()
        await self.spares(1)

    async def test_unknown_session(self) -> None:
        """A session that it does not know is given back: the server forgets it, too."""
        self.control.receive(messages.OpenChannel(session_id=SESSION, channel=1))
        (rejected,) = self.sent(messages.RejectSession)
        self.assertEqual(rejected.session_id, SESSION)

    async def test_rejects(self) -> None:
        """An unknown service, a client that may not, a key that is none: no, with the reason."""
        self.offer(service_id="other")
        self.offer(channel_key="c2hvcnQ=")
        self.offer(channel_key="not base64")
        self.assertEqual(len(self.sent(messages.RejectSession)), 3)
        self.assertEqual(self.provider.sessions, {})

    async def test_allow(self) -> None:
        """Only those named in allow may visit."""
        self.change(self.web(AllowedVisitor("c")))
        self.offer(from_client_id="b")
        (rejected,) = self.sent(messages.RejectSession)
        self.assertIn("b may not visit web", rejected.reason)

    async def test_service_is_down(self) -> None:
        """When the service does not answer the visitor gets a reset, and it is said once."""
        self.service.close()
        self.offer()
        lines: list[Any] = []
        self.patch(ServiceDialer, "_log", warnings_to(lines))
        for leg, _ in await self.spares(FEWEST_SPARES):
            leg.send(b"+")
            await self.is_reset(leg)
        self.assertEqual([line["service"] for line in lines], ["web"])

    async def test_control_lost(self) -> None:
        """Spare legs go with the control connection, running streams stay."""
        self.offer()
        (busy, _), (idle, _) = await self.spares(FEWEST_SPARES)
        busy.send(b"+x")
        served = await self.accept(self.service)
        await self.receive(served, 1)
        old, self.control = self.control, type(self.control)()
        old.lose()
        await self.is_reset(idle)
        served.send(b"still")
        self.assertEqual(await self.receive(busy, 5), b"still")
        busy.close()
        served.close()
        await until(lambda: not self.provider.sessions)

    async def test_asked_after_the_end(self) -> None:
        """A session that only has its streams left gets no new legs."""
        self.offer()
        (busy, _), _ = await self.spares(FEWEST_SPARES)
        busy.send(b"+x")
        await self.accept(self.service)
        await self.spares(1)
        self.control.receive(
            messages.SessionClosed(session_id=SESSION, reason="happy", bytes_transferred=0)
        )
        self.control.receive(messages.OpenChannel(session_id=SESSION, channel=7))
        self.assertEqual(len(self.sent(messages.RejectSession)), 1)
        self.assertRaises(BlockingIOError, self.relay.accept)

    async def test_session_closed(self) -> None:
        """When the server ends the session its spare legs are given up."""
        self.offer()
        legs = await self.spares(FEWEST_SPARES)
        self.control.receive(
            messages.SessionClosed(session_id=SESSION, reason="happy", bytes_transferred=0)
        )
        for leg, _ in legs:
            await self.is_reset(leg)
        self.assertEqual(self.provider.sessions, {})

    async def test_twice_the_same(self) -> None:
        """A session that is there already is not replaced by another one of its name."""
        self.offer()
        (held,) = self.provider.sessions.values()
        self.offer(from_client_id="c")
        self.assertEqual(len(self.sent(messages.RejectSession)), 1)
        self.assertEqual(list(self.provider.sessions.values()), [held])

    async def test_modes_differ(self) -> None:
        """A session of another mode than the service's is none: nobody makes a link raw."""
        self.offer(mode="link", peer_fingerprint=IDENTITY.fingerprint)
        self.assertEqual(len(self.sent(messages.RejectSession)), 1)
        self.change(self.web(mode="link"))
        self.offer(peer_fingerprint=IDENTITY.fingerprint)
        self.assertEqual(len(self.sent(messages.RejectSession)), 2)
        self.assertEqual(self.provider.sessions, {})


class LinkOfferTests(ProviderTestCase):
    """A service that is visited over links."""

    mode = "link"

    def offer_link(self, **fields: Any) -> None:
        """To a visitor who is what it says."""
        usual = {"mode": "link", "peer_fingerprint": IDENTITY.fingerprint}
        self.offer(**usual | fields)

    def test_no_identity(self) -> None:
        """A visitor without an identity cannot prove any."""
        self.offer(mode="link")
        self.assertEqual(len(self.sent(messages.RejectSession)), 1)

    def test_identity_changed(self) -> None:
        """A visitor that is not the one that is known stays outside, and does not hear why."""
        self.known.refused["b"] = "it has changed"
        self.offer_link()
        (rejected,) = self.sent(messages.RejectSession)
        self.assertEqual(rejected.reason, "b may not visit web")
        self.assertEqual(self.provider.sessions, {})

    def test_pin(self) -> None:
        """A fingerprint in allow is what the visitor's is compared with."""
        self.change(self.web(AllowedVisitor("b", FINGERPRINT), mode="link"))
        self.offer_link()
        self.assertEqual(self.known.checked, [("b", IDENTITY.fingerprint, FINGERPRINT)])

    async def test_channel(self) -> None:
        """Its spare leg is a channel of a link, which stays when the session goes."""
        self.offer_link()
        ((leg, _),) = await self.spares(LINK_SPARES)
        leg.send(b"+")
        channel = Channel(
            reactor,  # type: ignore[arg-type]
            socket.socket(fileno=leg.detach()),
            LinkTLS(IDENTITY).connection(True, Peer(IDENTITY.fingerprint)),
        )
        self.addCleanup(channel.close)
        channel.start()
        await channel.secured
        await self.spares(LINK_SPARES)
        channel.send(frames.hello(0, 1, bytes(16), "web", fresh=True))
        await until(lambda: list(self.links))
        self.control.receive(
            messages.SessionClosed(session_id=SESSION, reason="happy", bytes_transferred=0)
        )
        self.assertEqual(self.provider.sessions, {})
        (known,) = self.links
        self.assertEqual((known.session.id, known.link.over), (SESSION, None))

    async def test_spares_do_not_grow(self) -> None:
        """However many channels are asked for, one spare leg is enough."""
        self.offer_link()
        for channel in range(5):
            self.control.receive(messages.OpenChannel(session_id=SESSION, channel=channel))
        legs = [await self.leg(Role.PROVIDER) for _ in range(5 + LINK_SPARES)]
        self.assertEqual(sum(opening.spare for _, opening in legs), LINK_SPARES)
