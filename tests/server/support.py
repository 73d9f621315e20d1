"""What the server's tests share: control connections without transports."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import count
from typing import Any, TypeVar

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link.identity import Identity
from relaytun.server.broker import Broker
from relaytun.server.conversation import Conversation
from relaytun.server.granted import Session
from relaytun.server.peer import Peer
from relaytun.server.registry import Owners
from relaytun.server.users import User
from relaytun.wire import messages
from relaytun.wire.messages import Message, Service
from relaytun.wire.moods import Mood
from relaytun.wire.preamble import Refusal
from relaytun.wire.proof import login_statement

TOKEN = "s3cret"
RELAY_PORT = 9001

#: Making a key takes a while; tests that need somebody take one of these.
ANN = Identity.make("ann")
BOB = Identity.make("bob")

M = TypeVar("M", bound=Message)


def tcp(name: str, **more: Any) -> Service:
    """A service."""
    return Service(id=name, protocol="tcp", local_port=22, **more)


def udp(name: str, **more: Any) -> Service:
    """A service of datagrams."""
    return Service(id=name, protocol="udp", local_port=53, **more)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may, as the configuration has it."""

    name: str = "alice"
    token: str = "alice's"
    client_ids: tuple[str, ...] | None = None
    ports: tuple[tuple[int, int], ...] | None = None
    domains: tuple[str, ...] | None = None
    visit: tuple[str, ...] | None = None
    bandwidth_up: int = 0
    bandwidth_down: int = 0
    quota: int = 0


class Connection:
    """
    A control connection: the peer in the middle, and what its client sees.

    @ivar inbox: what the client was sent and has not looked at yet.
    @ivar closed: whether the server has closed it.
    """

    _epochs = count(1)

    def __init__(
        self,
        broker: Broker,
        *,
        expects_token: bool = False,
        dialled_host: str = "relay.example",
        epoch: int | None = None,
        user: User | None = None,
    ) -> None:
        self.inbox: list[Message] = []
        self.closed = False
        self.registered = 0
        number = next(self._epochs) if epoch is None else epoch
        self.broker = broker
        self.peer = Peer(
            self.inbox.append,
            self._close,
            epoch=number,
            challenge=number.to_bytes(32, "big"),
            address="192.0.2.1",
            dialled_host=dialled_host,
            expects_token=expects_token,
            user=user or broker.users.main,
        )
        self.conversation = Conversation(broker, self.peer, self._registered)

    def says(self, message: Message) -> None:
        """The client sends something; it takes the way over the wire."""
        data = messages.encode(message)
        self.conversation.received(messages.decode(data, messages.FROM_CLIENT))

    def take(self, kind: type[M]) -> M:
        """The one message that came."""
        (message,) = self.inbox
        assert isinstance(message, kind), message
        self.inbox.clear()
        data = messages.encode(message)
        read = messages.decode(data, messages.FROM_SERVER)
        assert isinstance(read, kind)
        return read

    def error(self) -> str:
        """The code of the one error that came."""
        return self.take(messages.Error).code

    def register(
        self,
        name: str = "",
        services: Sequence[Service] = (),
        identity: Identity | None = None,
        *,
        proof_for: str | None = None,
        proof_token: str = TOKEN,
        proof_challenge: bytes | None = None,
        **more: Any,
    ) -> messages.RegisterResponse:
        """
        Register, with a proof if there is an identity.

        @param proof_for, proof_token, proof_challenge: what the proof is made of, if not of
            what is true.
        """
        if identity is not None:
            statement = login_statement(
                self.peer.challenge if proof_challenge is None else proof_challenge,
                proof_token,
                name if proof_for is None else proof_for,
            )
            more.setdefault("certificate", base64.b64encode(identity.der).decode())
            more.setdefault("proof", base64.b64encode(identity.sign(statement)).decode())
        self.says(messages.Register(client_id=name, services=tuple(services), **more))
        return self.take(messages.RegisterResponse)

    def _close(self) -> None:
        """The server closes; the transport tells the broker, as the adapter does."""
        self.closed = True
        self.lost()

    def lost(self) -> None:
        """The transport is gone."""
        self.broker.leave(self.peer)

    def _registered(self) -> None:
        self.registered += 1


class Channel:
    """Two spliced legs, as a session sees them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.moods: list[Mood] = []
        session.channel_opened(self)

    def cut(self, mood: Mood) -> None:
        """The session ends it; it reports that it has ended, as a splice does."""
        self.moods.append(mood)
        self.session.channel_ended(self, mood)

    def over(self) -> None:
        """Both its ends were done."""
        self.session.channel_ended(self, Mood.HAPPY)


class Leg:
    """A leg without a partner, as a session sees it."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []

    def refuse(self, refusal: Refusal) -> None:
        """The session turns it away."""
        self.refusals.append(refusal)


class BrokerCase(SynchronousTestCase):
    """A test case with a broker."""

    limits: dict[str, Any] = {}  # noqa: RUF012

    def setUp(self) -> None:
        self.clock = Clock()
        self.owners = Owners(":memory:")
        self.addCleanup(self.owners.close)
        self.broker = self.make_broker()

    def make_broker(self, token: str | None = TOKEN, **more: Any) -> Broker:
        """A broker whose relay listens."""
        broker = Broker(self.clock, self.owners, token=token, **(self.limits | more))
        broker.relay_port = RELAY_PORT
        return broker

    def connect(self, **more: Any) -> Connection:
        """A control connection that came with the right token."""
        return Connection(self.broker, **more)

    def client(self, name: str, *services: Service, **more: Any) -> Connection:
        """A client that is registered."""
        connection = self.connect()
        response = connection.register(name, services, **more)
        self.assertEqual((response.success, response.assigned_id), (True, name))
        return connection

    def offered(
        self, visitor: Connection, provider: Connection, service: str = "ssh", **more: Any
    ) -> tuple[Session, messages.ConnectOffer]:
        """A session that its provider was asked for."""
        visitor.says(
            messages.ConnectRequest(
                to_client_id=provider.peer.name, service_id=service, request_id="r1", **more
            )
        )
        offer = provider.take(messages.ConnectOffer)
        session = self.broker.sessions.find(bytes.fromhex(offer.session_id))
        assert session is not None
        return session, offer

    def granted(
        self, visitor: Connection, provider: Connection, service: str = "ssh", **more: Any
    ) -> tuple[Session, messages.CreateSession]:
        """A session that is live."""
        session, offer = self.offered(visitor, provider, service, **more)
        provider.says(messages.AcceptSession(session_id=offer.session_id))
        return session, visitor.take(messages.CreateSession)
