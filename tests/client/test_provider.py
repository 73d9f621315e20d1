"""Tests for L{relaytun.client.provider}."""

from __future__ import annotations

import socket
from typing import Any

from relaytun.client import provider as module
from relaytun.client.provider import FEWEST_SPARES, MOST_SPARES, Provider
from relaytun.client.providerlink import Links
from relaytun.client.servicedialer import ServiceDialer
from relaytun.config import AllowedVisitor, ServiceConfig
from relaytun.wire import messages, preamble
from relaytun.wire.preamble import Refusal, Role

from .support import HandMadeServer, until, warnings_to

SESSION = "5" * 32


class ProviderTests(HandMadeServer):
    def setUp(self) -> None:
        super().setUp()
        self.service = self.listen()
        self.provider = self.offering()

    def offering(self, *allow: str) -> Provider:
        provider = Provider(
            self.machinery,
            self.connection,
            [
                ServiceConfig(
                    id="web",
                    protocol="tcp",
                    local_host="127.0.0.1",
                    local_port=self.service.getsockname()[1],
                    allow=tuple(map(AllowedVisitor, allow)),
                    mode="raw",
                )
            ],
            Links(self.machinery),
        )
        self.addCleanup(lambda: [held.cut() for held in list(provider.sessions.values())])
        return provider

    def offer(self, service: str = "web", visitor: str = "b", key: str | None = None) -> None:
        self.control.receive(
            messages.ConnectOffer(
                from_client_id=visitor,
                to_client_id="me",
                service_id=service,
                session_id=SESSION,
                channel_key=self.key if key is None else key,
                relay_addr=self.relay_address,
            )
        )

    async def spares(self, count: int) -> list[tuple[socket.socket, preamble.Preamble]]:
        legs = [await self.leg(Role.PROVIDER) for _ in range(count)]
        self.assertTrue(all(opening.spare for _, opening in legs))
        return legs

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

    async def test_spares_are_bounded(self) -> None:
        """However many channels are asked for, there are no more than so many spares."""
        self.offer()
        for channel in range(20):
            self.control.receive(messages.OpenChannel(session_id=SESSION, channel=channel))
        (held,) = self.provider.sessions.values()
        self.assertEqual(held._target, MOST_SPARES)

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
        self.offer(service="other")
        self.offer(key="c2hvcnQ=")
        self.offer(key="not base64")
        self.assertEqual(len(self.sent(messages.RejectSession)), 3)
        self.assertEqual(self.provider.sessions, {})

    async def test_allow(self) -> None:
        """Only those named in allow may visit."""
        self.provider._services = self.offering("c").__dict__["_services"]
        self.control.sent.clear()
        self.offer(visitor="b")
        (rejected,) = [
            message for message in self.sent(messages.RejectSession) if message.reason is not None
        ][:1]
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
