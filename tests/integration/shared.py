"""
Tests that share a server, and what they ask of it through a foreign client.

The server's log must stay free of tracebacks, whatever is done to it.
"""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

from .. import foreign_client
from ..foreign_client import Client, Leg, Message, Session, sign_in, tcp_service
from .processes import Process, ProcessTestCase

#: Every message of section 6 that a server sends, and the fields that it must have.
DOCUMENTED = {
    "register_response": {"success"},
    "client_list": {"clients"},
    "connect_request": {"fromClientId", "toClientId", "serviceId", "sessionId", "channelKey"},
    "create_session": {"sessionId", "peerClientId", "service", "relayAddr", "channelKey"},
    "open_channel": {"sessionId", "channel"},
    "session_closed": {"sessionId", "reason", "bytesTransferred"},
    "heartbeat": {"timestamp"},
    "error": {"code", "message"},
}
CODES = {
    "bad_message",
    "not_registered",
    "unauthorized",
    "id_in_use",
    "unknown_client",
    "client_offline",
    "unknown_service",
    "forbidden",
    "rejected",
    "session_limit",
    "byte_limit",
    "rate_limited",
    "too_large",
    "timeout",
    "internal",
}


class Keeper(ProcessTestCase):
    """Starts processes that outlive the test that needed them first."""

    def __init__(self) -> None:
        super().__init__("setUp")
        self.kept = contextlib.ExitStack()
        self.setUp()

    def addCleanup(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.kept.callback(act, *args, **kwargs)


class SharedServerTestCase(ProcessTestCase):
    """
    Tests with one server between them: trial has no class fixtures.

    @cvar settings: lines for its [server] section.
    @ivar keeper: starts what outlives the test.
    """

    settings = ""
    _running: ClassVar[tuple[type, Keeper, Process] | None] = None

    def setUp(self) -> None:
        super().setUp()
        running = SharedServerTestCase._running
        if running is None or running[0] is not type(self):
            if running is not None:
                running[1].kept.close()
            keeper = Keeper()
            atexit.register(keeper.kept.close)
            running = type(self), keeper, self.begin(keeper)
            SharedServerTestCase._running = running
        _, keeper, self.server = running
        self.keeper = keeper
        (self.folder / "server").symlink_to(keeper.folder / "server")
        self.said_before = len(self.server.lines)
        self.token = (self.folder / "server" / "token").read_text().strip()
        self.addCleanup(self.check_log)

    def begin(self, keeper: Keeper) -> Process:
        """Start the server, and what else these tests share; returns it."""
        return keeper.start_server(config=self.settings)

    def check_log(self) -> None:
        """The server is there, and nothing surprised it."""
        self.assertIsNone(self.server.popen.poll(), self.server.output)
        said = "\n".join(self.server.lines[self.said_before :])
        self.assertNotIn("Traceback", said)
        self.assertNotIn("Unhandled", said)

    def client(self, name: str = "", *services: Message, **options: Any) -> Client:
        """A registered foreign client."""
        name = name or f"client-{self.id().rpartition('.')[2]}"[:64]
        client = sign_in(self.control_port, self.token, name, services, **options)
        self.addCleanup(client.abort)
        return client

    def unregistered(self, token: str | None = None) -> Client:
        """A connection that has said nothing yet."""
        client = Client(foreign_client.open_websocket(self.control_port, token))
        self.addCleanup(client.abort)
        return client

    def pair(self, suffix: str = "") -> tuple[Client, Client, Session, Session]:
        """Visitor and provider, and their session as each of them sees it."""
        provider = self.client(f"provider{suffix}", tcp_service("echo"))
        visitor = self.client(f"visitor{suffix}")
        session, partner = self.meet(visitor, provider, f"provider{suffix}")
        return visitor, provider, session, partner

    def meet(self, visitor: Client, provider: Client, target: str) -> tuple[Session, Session]:
        """A session between two clients, as each of them sees it."""
        visitor.say("connect_request", toClientId=target, serviceId="echo")
        partner = provider.accept()
        session = Session(foreign_client.VISITOR, visitor.wait_for("create_session"))
        return session, partner

    def leg(self, session: Session, channel: int = 0, data: bytes = b"", **parts: Any) -> Leg:
        """A leg that is closed after the test."""
        leg = session.dial(channel, data, **parts)
        self.addCleanup(leg.close)
        return leg

    def channel(self, visitor: Session, provider: Session, number: int = 0) -> tuple[Leg, Leg]:
        """Two legs that are spliced."""
        one, other = self.leg(visitor, number), self.leg(provider, number)
        return one.granted(), other.granted()

    def assert_flows(self, one: Leg, other: Leg) -> None:
        """Bytes still go both ways."""
        one.send(b"there")
        self.assertEqual(other.receive(5), b"there")
        other.send(b"back!")
        self.assertEqual(one.receive(5), b"back!")

    def assert_refused(self, leg: Leg) -> int:
        """C{-}, one code byte, and the end; returns the code."""
        verdict = leg.verdict()
        self.assertEqual((verdict[:1], len(verdict)), (b"-", 2))
        self.assertEqual(leg.ended(), b"")
        return verdict[1]

    def assert_error(self, client: Client, code: str, **fields: Any) -> Message:
        """The client is told of an error, in the documented shape."""
        error = client.wait_for("error", code=code, **fields)
        self.assertLessEqual(DOCUMENTED["error"], error.keys())
        self.assertIn(code, CODES)
        self.assertIsInstance(error["message"], str)
        return error

    def assert_alive(self, client: Client) -> None:
        """The connection still serves."""
        client.say("heartbeat", timestamp=77)
        client.wait_for("heartbeat", timestamp=77)
