"""A visitor and a provider in one process; the test is server, relay and service."""

from __future__ import annotations

import socket
from typing import Any

from relaytun.client.providerlink import Links
from relaytun.config import ServiceConfig
from relaytun.ends.legs import ClientSession
from relaytun.link.identity import Identity
from relaytun.wire import messages
from relaytun.wire.preamble import Refusal, Role

from .support import IDENTITY, KEY, FakeKnown, VisitorTestCase, until

PROVIDER = Identity.make("provider")
STRANGER = Identity.make("stranger")


class LinkTestCase(VisitorTestCase):
    """
    @ivar links: the provider's.
    @ivar service: a listening socket, the service.
    """

    def setUp(self) -> None:
        super().setUp()
        self.service = self.listen()
        self.links = self.links_of(PROVIDER)

    def links_of(self, identity: Identity) -> Links:
        """A provider's process."""
        links = Links(self.machinery_of(identity, FakeKnown()))
        self.addCleanup(links.close)
        return links

    @property
    def web(self) -> ServiceConfig:
        return ServiceConfig(
            id="web",
            protocol="tcp",
            local_host="127.0.0.1",
            local_port=self.service.getsockname()[1],
            mode="link",
        )

    def session(self, fingerprint: str = IDENTITY.fingerprint, number: int = 1) -> ClientSession:
        """A session, as the provider sees it."""
        return ClientSession(
            id=f"{number:032x}",
            peer="me",
            service="web",
            role=Role.PROVIDER,
            channel_key=KEY,
            relay=self.relay_address,
            since=0,
            mode="link",
            peer_fingerprint=fingerprint,
        )

    async def grant(self, number: int = 1, **fields: Any) -> str:
        usual = {"mode": "link", "peer_fingerprint": PROVIDER.fingerprint}
        return await super().grant(number, **usual | fields)

    async def channel(self, links: Links | None = None) -> socket.socket:
        """The next leg of the visitor's finds the provider; @return: what to cut it at."""
        leg, _ = await self.leg(Role.VISITOR)
        leg.send(b"+")
        return self.hand_over(leg, links or self.links)

    def hand_over(self, leg: socket.socket, links: Links) -> socket.socket:
        """The provider is at the other end of C{leg}; @return: what to cut it at."""
        sock = socket.socket(fileno=leg.detach())
        links.newcomer(sock, self.session(), self.web)
        return sock

    async def turned_away(self, refusal: Refusal) -> None:
        """The relay does not take the visitor's next leg."""
        leg, _ = await self.leg(Role.VISITOR)
        leg.send(b"-" + bytes([refusal]))
        leg.close()

    def program(self) -> socket.socket:
        """A program connects to the visitor's port."""
        program, accepted = self.pair()
        self.visitor.serve(accepted)
        return program

    async def running(self) -> tuple[socket.socket, socket.socket, socket.socket]:
        """@return: a program, what it has reached, and what to cut their channel at."""
        program = self.program()
        program.send(b"x")
        await self.grant(len(self.sent(messages.ConnectRequest)))
        leg = await self.channel()
        return program, await self.served(b"x"), leg

    async def served(self, data: bytes) -> socket.socket:
        """The service's next connection, which has got C{data}."""
        served = await self.accept(self.service)
        self.assertEqual(await self.receive(served, len(data)), data)
        return served

    async def works(self, program: socket.socket, served: socket.socket) -> None:
        """Bytes arrive, both ways."""
        for one, other in ((program, served), (served, program)):
            one.send(b"hello")
            self.assertEqual(await self.receive(other, 5), b"hello")

    async def connected(self) -> None:
        """Wait until both ends know that the other does."""
        await until(
            lambda: (
                self.visitor.link is not None
                and self.visitor.link.link.connected
                and all(known.link.connected for known in self.links)
            )
        )
