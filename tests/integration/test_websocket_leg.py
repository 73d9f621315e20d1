"""
Legs over WebSockets, as C{docs/protocol.rst} has them: a client that shares no code with relaytun,
with a WebSocket library, and the server.
"""

from __future__ import annotations

import socket
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ..foreign_client import Session, insecure_context
from .processes import PATIENCE
from .shared import SharedServerTestCase


class WebSocketLeg(SharedServerTestCase):
    settings = "ws_path = /secret"

    def open(self, path: str = "/secret/leg", tls: bool = True, **options: Any) -> ClientConnection:
        """A WebSocket to the control port, closed after the test."""
        options = {"compression": None, "subprotocols": ["relaytun.leg"], **options}
        leg = connect(
            f"{'wss' if tls else 'ws'}://127.0.0.1:{self.control_port}{path}",
            ssl=insecure_context() if tls else None,
            open_timeout=PATIENCE,
            close_timeout=2,
            proxy=None,
            **options,
        )
        self.addCleanup(leg.close)
        return leg

    def legs(self, suffix: str = "") -> tuple[ClientConnection, ClientConnection]:
        """Two that are a channel: a visitor's over TLS, a provider's without."""
        _, _, visitor, provider = self.pair(suffix)
        one, other = self.open(), self.open(tls=False)
        self.introduce(one, visitor)
        self.introduce(other, provider)
        for leg in (one, other):
            self.assertEqual(leg.recv(PATIENCE), b"+")
        return one, other

    def introduce(self, leg: ClientConnection, session: Session) -> None:
        """The preamble, in several messages, one of them in parts."""
        preamble = session.preamble(0)
        leg.send(preamble[:7])
        leg.send(iter([preamble[7:9], preamble[9:40], preamble[40:]]))

    def receive(self, leg: ClientConnection, count: int) -> bytes:
        """C{count} bytes, however they are cut."""
        data = b""
        while len(data) < count:
            data += leg.recv(PATIENCE)  # type: ignore[operator]
        return data

    def assert_closed(self, leg: ClientConnection, code: int) -> None:
        with self.assertRaises(ConnectionClosed) as caught:
            leg.recv(PATIENCE)
        received = caught.exception.rcvd
        self.assertEqual(received and received.code, code)

    def test_channel(self) -> None:
        """Bytes go both ways; each side ends by itself, then both are closed in order."""
        one, other = self.legs()
        self.assertEqual(one.subprotocol, "relaytun.leg")
        for here, there in ((one, other), (other, one)):
            here.send(b"x" * 200_000)
            here.send(b"y")
            self.assertEqual(self.receive(there, 200_001), b"x" * 200_000 + b"y")
        one.ping().wait(PATIENCE)
        for here, there in ((one, other), (other, one)):
            here.send(b"last")
            here.send(b"")
            self.assertEqual(self.receive(there, 4), b"last")
            self.assertEqual(there.recv(PATIENCE), b"")
        for leg in (one, other):
            self.assert_closed(leg, 1000)

    def test_with_tcp(self) -> None:
        """A WebSocket and a leg at the relay port are a channel like any other."""
        _, _, visitor, provider = self.pair()
        one = self.open()
        self.introduce(one, visitor)
        other = self.leg(provider).granted()
        self.assertEqual(one.recv(PATIENCE), b"+")
        one.send(b"there")
        self.assertEqual(other.receive(5), b"there")
        other.send(b"back")
        other.finish()
        self.assertEqual(self.receive(one, 4), b"back")
        self.assertEqual(one.recv(PATIENCE), b"")
        one.close()
        with self.assertRaises(ConnectionError):  # It had not said its last word.
            other.receive(1)

    def test_broken(self) -> None:
        """A leg that breaks, or is closed too early, is a broken one at the other end."""
        breaks = (
            lambda leg: leg.socket.shutdown(socket.SHUT_RDWR),
            lambda leg: leg.close(1000),
            lambda leg: leg.send("text"),
        )
        for number, close in enumerate(breaks):
            one, other = self.legs(str(number))
            close(one)
            self.assert_closed(other, 1011)

    def test_refused(self) -> None:
        """A preamble that proves nothing is refused as at the relay port."""
        leg = self.open()
        leg.send(bytes(64))
        self.assertEqual(self.receive(leg, 2), b"-\1")
        self.assertEqual(leg.recv(PATIENCE), b"")
        leg.send(b"")
        self.assert_closed(leg, 1000)

    def test_elsewhere(self) -> None:
        """Elsewhere there are no legs, and no web page gets one."""
        self.assertIsNone(self.open("/relaytun/leg").subprotocol)
        with self.assertRaises(InvalidStatus) as caught:
            self.open(origin="https://evil.example")
        self.assertEqual(caught.exception.response.status_code, 403)

    def test_told(self) -> None:
        """Clients are told where the legs are."""
        answer = self.unregistered(self.token).register("asks")
        self.assertEqual(answer["wsPath"], "/secret")
