"""What the tests of public services share: a broker, a relay that notes, providers that accept."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from relaytun.ends.machinery import Machinery
from relaytun.link.handshake import LinkTLS
from relaytun.link.identity import Identity
from relaytun.plane.carriers import CarrierPool
from relaytun.plane.pair import pair
from relaytun.server.granted import Session
from relaytun.server.public.visiting import Visiting
from relaytun.wire import messages
from relaytun.wire.messages import Exposure, Service
from relaytun.wire.preamble import Refusal

from ..support import BrokerCase, Connection

SERVER = Identity.make("server")
Refused = Callable[[socket.socket, Refusal], None]


class FakeRelay:
    """Notes what becomes a leg."""

    def __init__(self) -> None:
        self.adopted: list[tuple[Session, int, Any, Refused]] = []
        self.accepted_ones: list[Any] = []

    def adopt(self, session: Session, channel: int, sock: Any, refused: Refused) -> None:
        self.adopted.append((session, channel, sock, refused))

    def accepted(self, sock: Any, address: Any) -> None:
        self.accepted_ones.append(sock)


class FakeReactor(Clock):
    """Time, and nothing to be read or written."""

    def addReader(self, reader: object) -> None: ...

    def addWriter(self, writer: object) -> None: ...

    def removeReader(self, reader: object) -> None: ...

    def removeWriter(self, writer: object) -> None: ...


class PublicCase(BrokerCase):
    """A server that visits."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = FakeReactor()
        self.broker = self.make_broker()
        self.relay = FakeRelay()
        machinery = Machinery(
            reactor=self.clock,  # type: ignore[arg-type]
            dialer=None,  # type: ignore[arg-type]
            pool=CarrierPool(),
            tls=LinkTLS(SERVER),
        )
        self.addCleanup(machinery.close)
        self.visiting = Visiting(
            self.broker,
            self.relay,  # type: ignore[arg-type]
            machinery,
            SERVER.fingerprint,
            "127.0.0.1",
        )

    def socket(self) -> tuple[socket.socket, socket.socket]:
        """Somebody's connection, and what they hold of it."""
        ours, theirs = pair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        return ours, theirs

    def provider(
        self, name: str, *services: Service, exposures: tuple[Exposure, ...] = (), **more: Any
    ) -> Connection:
        """A client that is registered, with what it was told of its exposures left in its inbox."""
        connection = self.connect()
        self.again(connection, name, *services, exposures=exposures, **more)
        return connection

    def again(
        self,
        connection: Connection,
        name: str,
        *services: Service,
        exposures: tuple[Exposure, ...] = (),
        identity: Identity | None = None,
        **more: Any,
    ) -> None:
        """Register."""
        inbox: list[Any] = []
        take, connection.take = connection.take, lambda kind: None  # type: ignore[method-assign,assignment,return-value]
        connection.register(name, services, identity, exposures=exposures, **more)
        connection.take = take  # type: ignore[method-assign]
        inbox, connection.inbox[:] = list(connection.inbox), []
        response, *told = inbox
        self.assertTrue(response.success, response)
        connection.inbox.extend(told)

    def accept(self, connection: Connection) -> messages.ConnectOffer:
        """The provider says yes to the offer that it was sent."""
        offer = connection.take(messages.ConnectOffer)
        connection.says(messages.AcceptSession(session_id=offer.session_id))
        return offer

    def told(self, connection: Connection) -> list[messages.Exposed]:
        """What the client was told of its exposures."""
        told = list(connection.inbox)
        connection.inbox.clear()
        return told  # type: ignore[return-value]
