"""A client whose server is the test: a control connection in memory, a relay by hand."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from relaytun.client.connection import ServerConnection
from relaytun.client.machinery import ClientMachinery
from relaytun.client.visitor import Visitor
from relaytun.config import ConnectConfig
from relaytun.errors import UserError
from relaytun.link.handshake import LinkTLS
from relaytun.link.identity import Identity
from relaytun.plane.carriers import CarrierPool
from relaytun.plane.dial import Dialer
from relaytun.wire import messages, preamble
from relaytun.wire.preamble import Role

from .test_connection import FakeControl

KEY = bytes(range(32))
#: Made once: it is the client's name that matters, not its key.
IDENTITY = Identity.make("me")


class FakeKnown:
    """
    Known peers that are a test's own.

    @ivar refused: what L{check} says of a client, if not yes.
    @ivar checked: what it was asked.
    @ivar remembered: what it was told to remember.
    @ivar linked: the services that were visited over links.
    """

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.checked: list[tuple[str, str, str | None]] = []
        self.remembered: list[tuple[str, str, str | None]] = []
        self.linked: set[tuple[str, str]] = set()

    def check(self, client_id: str, fingerprint: str, pinned: str | None) -> None:
        self.checked.append((client_id, fingerprint, pinned))
        if client_id in self.refused:
            raise UserError(self.refused[client_id])

    def remember(self, client_id: str, fingerprint: str, service: str | None = None) -> None:
        self.remembered.append((client_id, fingerprint, service))

    def was_linked(self, client_id: str, service: str) -> bool:
        return (client_id, service) in self.linked

    def downgraded(self, client_id: str, service: str) -> str:
        return f"{client_id}/{service} was encrypted before"


def turn() -> Deferred[None]:
    """Let the reactor go round once."""
    return deferLater(reactor, 0)  # type: ignore[arg-type]


async def until(condition: Callable[[], Any]) -> None:
    """Let the reactor go round until C{condition} holds; trial's timeout is the deadline."""
    while not condition():
        await turn()


def warnings_to(lines: list[Any]) -> Any:
    """A logger whose warnings are appended to C{lines}, as their fields."""

    def warn(self: Any, template: str, **fields: Any) -> None:
        lines.append(fields | {"text": template.format(**fields)})

    def nothing(self: Any, *args: Any, **fields: Any) -> None:
        pass

    return type("Log", (), {"warn": warn, "info": nothing, "debug": nothing})()


class HandMadeServer(TestCase):
    """
    @ivar control: what the client under test says to the server.
    @ivar relay: a listening socket, the relay port.
    @ivar known: what the client under test knows of others.
    """

    timeout = 10

    def setUp(self) -> None:
        self.relay = self.listen()
        self.control = FakeControl()
        login: Callable[[], Deferred[Any]] = lambda: succeed(self.control)  # noqa: E731
        self.connection = ServerConnection(reactor, login, heartbeat_interval=100)  # type: ignore[arg-type]
        self.known = FakeKnown()
        self.machinery = self.machinery_of(IDENTITY, self.known)
        self.connection.startService()
        self.addCleanup(self.connection.stopService)

    def machinery_of(self, identity: Identity, known: FakeKnown) -> ClientMachinery:
        machinery = ClientMachinery(
            reactor=reactor,  # type: ignore[arg-type]
            dialer=Dialer(reactor),  # type: ignore[arg-type]
            pool=CarrierPool(),
            tls=LinkTLS(identity),
            known=known,  # type: ignore[arg-type]
        )
        self.addCleanup(machinery.close)
        return machinery

    def listen(self) -> socket.socket:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self.addCleanup(listening.close)
        return listening

    @property
    def relay_address(self) -> messages.RelayAddress:
        return messages.RelayAddress(host="127.0.0.1", port=self.relay.getsockname()[1])

    @property
    def key(self) -> str:
        return base64.b64encode(KEY).decode()

    async def accept(self, listening: socket.socket) -> socket.socket:
        while True:
            try:
                sock, _ = listening.accept()
            except BlockingIOError:
                await turn()
            else:
                sock.setblocking(False)
                self.addCleanup(sock.close)
                return sock

    async def receive(self, sock: socket.socket, count: int) -> bytes:
        """Exactly C{count} bytes, fewer at the end."""
        data = b""
        while len(data) < count:
            try:
                more = sock.recv(count - len(data))
            except BlockingIOError:
                await turn()
                continue
            if not more:
                break
            data += more
        return data

    async def leg(self, role: Role) -> tuple[socket.socket, preamble.Preamble]:
        """The next leg that the client dials; its preamble is right."""
        sock = await self.accept(self.relay)
        opening = preamble.decode(await self.receive(sock, preamble.SIZE))
        self.assertTrue(opening.is_authentic(KEY))
        self.assertIs(opening.role, role)
        return sock, opening

    async def is_reset(self, sock: socket.socket) -> None:
        """Wait for the other end to reset the connection."""
        while True:
            try:
                if sock.recv(100) == b"":
                    self.fail("a clean end instead of a reset")
            except BlockingIOError:
                await turn()
            except ConnectionResetError:
                return

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A program's connection, and the end of it that the client has accepted."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            program = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        for sock in (program, accepted):
            sock.setblocking(False)
        self.addCleanup(program.close)
        return program, accepted

    def sent(self, kind: type[messages.Message]) -> list[Any]:
        """What the client said, of one kind."""
        return [message for message in self.control.sent if isinstance(message, kind)]


class VisitorTestCase(HandMadeServer):
    """
    @ivar visitor: the one under test, of C{provider}'s service C{web}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.visitor = self.visiting()

    def visiting(self, **wishes: Any) -> Visitor:
        usual = {"name": "web", "target": "provider", "service": "web", "local_port": 0}
        connect = ConnectConfig(**usual | wishes)
        visitor = Visitor(self.machinery, [self.connection], connect)
        self.addCleanup(visitor.close)
        return visitor

    def granted(self, number: int, **fields: Any) -> messages.CreateSession:
        """The answer to the C{number}-th request for a session."""
        usual = {
            "session_id": f"{number:032x}",
            "peer_client_id": "provider",
            "service": messages.Service(id="web", protocol="tcp", local_port=80),
            "relay_addr": self.relay_address,
            "channel_key": self.key,
            "request_id": self.sent(messages.ConnectRequest)[number - 1].request_id,
        }
        return messages.CreateSession(**usual | fields)

    async def asked(self, number: int) -> None:
        """Wait for the C{number}-th request for a session."""
        await until(lambda: len(self.sent(messages.ConnectRequest)) >= number)

    async def grant(self, number: int = 1, **fields: Any) -> str:
        """Answer the C{number}-th request for a session."""
        await self.asked(number)
        request = self.sent(messages.ConnectRequest)[number - 1]
        self.assertEqual((request.to_client_id, request.service_id), ("provider", "web"))
        granted = self.granted(number, **fields)
        self.control.receive(granted)
        return granted.session_id

    def refuse(self, code: str = "client_offline") -> None:
        request = self.sent(messages.ConnectRequest)[-1]
        self.control.receive(
            messages.Error(code=code, message="it is not there", request_id=request.request_id)
        )
