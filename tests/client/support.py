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
from relaytun.plane.carriers import CarrierPool
from relaytun.plane.dial import Dialer
from relaytun.wire import messages, preamble
from relaytun.wire.preamble import Role

from .test_connection import FakeControl

KEY = bytes(range(32))


def turn() -> Deferred[None]:
    """Let the reactor go round once."""
    return deferLater(reactor, 0)  # type: ignore[arg-type]


async def until(condition: Callable[[], Any]) -> None:
    """Let the reactor go round until C{condition} holds; trial's timeout is the deadline."""
    while not condition():
        await turn()


class HandMadeServer(TestCase):
    """
    @ivar control: what the client under test says to the server.
    @ivar relay: a listening socket, the relay port.
    """

    timeout = 10

    def setUp(self) -> None:
        self.relay = self.listen()
        self.control = FakeControl()
        login: Callable[[], Deferred[Any]] = lambda: succeed(self.control)  # noqa: E731
        self.connection = ServerConnection(reactor, login, heartbeat_interval=100)  # type: ignore[arg-type]
        self.dialer = Dialer(reactor)  # type: ignore[arg-type]
        self.pool = CarrierPool()
        self.connection.startService()
        self.addCleanup(self.pool.close)
        self.addCleanup(self.connection.stopService)

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
