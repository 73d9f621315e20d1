"""Every limit that the server promises, from outside."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator

from websockets.exceptions import ConnectionClosed, InvalidStatus

from .. import foreign_client
from ..foreign_client import PATIENCE, Client, tcp_service
from .processes import dialled, receive_exactly, side_by_side
from .shared import SharedServerTestCase

#: Seconds that a stranger has, by the design, and what a busy machine may add.
LOGIN = 10.0
SLACK = 2.0


def upgrade(token: str, *lines: str) -> bytes:
    """A WebSocket request."""
    key = base64.b64encode(os.urandom(16)).decode()
    return "\r\n".join(
        [
            "GET / HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            f"Authorization: Bearer {token}",
            *lines,
            "",
            "",
        ]
    ).encode()


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """A WebSocket frame of a client, masked with zeros."""
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    else:
        length = b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + payload


def response(connection: socket.socket) -> bytes:
    """The head of an HTTP response, or what there was of it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        try:
            byte = connection.recv(1)
        except ConnectionError:
            break
        if not byte:
            break
        head += byte
    return head


def until_closed(connection: socket.socket, patience: float) -> bool:
    """Whether the other side ends the connection in time."""
    deadline = time.monotonic() + patience
    try:
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(4096):
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def drip(connection: socket.socket, data: Iterator[bytes], pause: float) -> bool:
    """Send byte by byte; whether the other side ended the connection meanwhile."""
    for byte in data:
        if select.select([connection], [], [], pause)[0]:
            return True
        try:
            connection.send(byte)
        except OSError:
            return True
    return False


class Strangers(SharedServerTestCase):
    """What holds before the login, and for those who are not answered."""

    def raw(self, port: int = 0) -> socket.socket:
        """A connection that has said nothing."""
        connection = socket.create_connection(("127.0.0.1", port or self.control_port), PATIENCE)
        self.addCleanup(connection.close)
        return connection

    def relay_port(self) -> int:
        """Where the relay listens."""
        client = foreign_client.Client(foreign_client.open_websocket(self.control_port, self.token))
        self.addCleanup(client.abort)
        return int(client.register("asks")["relay"]["port"])

    def silence(self) -> None:
        """A provider that never answers, and a leg without a partner, cost 10 s each."""
        mute = self.client("mute", tcp_service("echo"))
        visitor = self.client("patient")
        visitor.say("connect_request", toClientId="mute", serviceId="echo")
        offer = mute.wait_for("connect_request")
        _, _, session, _ = self.pair("-lonely")
        lonely = self.leg(session, 0, b"hello?")
        code = self.assert_refused(lonely)
        self.assertNotEqual(code, 0)
        self.assert_error(visitor, "timeout", sessionId=offer["sessionId"])
        mute.wait_for("session_closed", sessionId=offer["sessionId"])
        mute.say("accept_session", sessionId=offer["sessionId"])  # Too late, and harmless.
        self.assert_alive(mute)
        self.assertFalse([each for each in visitor.heard if each["type"] == "create_session"])

    def test_ten_seconds(self) -> None:
        """That is the time that the server has for strangers, and for who keeps others waiting."""
        side_by_side(*map(Strangers, ("strangers", "silence")))

    def strangers(self) -> None:
        """Whoever is not registered 10 s after the accept is gone, whatever was said by then."""
        relay = self.relay_port()
        token = self.token
        took: dict[str, float | None] = {}

        def silent(connection: socket.socket) -> None:
            pass

        def says(data: bytes) -> Callable[[socket.socket], None]:
            return lambda connection: connection.sendall(data)

        def tls(then: bytes) -> Callable[[socket.socket], None]:
            def act(connection: socket.socket) -> None:
                context = foreign_client.insecure_context()
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                secured = context.wrap_bio(incoming, outgoing)
                while True:
                    try:
                        secured.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        connection.sendall(outgoing.read())
                        incoming.write(connection.recv(16384))
                if then:
                    secured.write(then)
                connection.sendall(outgoing.read())

            return act

        def late(data: bytes) -> Callable[[socket.socket], None]:
            def act(connection: socket.socket) -> None:
                select.select([connection], [], [], LOGIN * 0.6)
                connection.sendall(data)

            return act

        def dripping(data: bytes) -> Callable[[socket.socket], None]:
            def act(connection: socket.socket) -> None:
                endless = itertools.cycle(bytes([byte]) for byte in data)
                drip(connection, endless, 0.5)

            return act

        cases: dict[str, tuple[int, Callable[[socket.socket], None]]] = {
            "silent": (self.control_port, silent),
            "half a request": (self.control_port, says(b"GET / HTTP/1.1\r\nHost: a\r\n")),
            "bare line feeds": (self.control_port, says(upgrade(token).replace(b"\r", b""))),
            "a request byte by byte": (self.control_port, dripping(b"GET / HTTP/1.1 ")),
            "one byte of TLS": (self.control_port, says(b"\x16")),
            "half a ClientHello": (self.control_port, says(b"\x16\x03\x01\x02\x00\x01\x00")),
            "TLS and silence": (self.control_port, tls(b"")),
            "TLS and half a request": (self.control_port, tls(b"GET / HT")),
            "a WebSocket": (self.control_port, says(upgrade(token))),
            "a WebSocket in TLS": (self.control_port, tls(upgrade(token))),
            "a WebSocket without the token": (
                self.control_port,
                says(upgrade(token).replace(b"Authorization", b"X-Other")),
            ),
            "half a frame": (self.control_port, says(upgrade(token) + frame(b"x" * 100)[:50])),
            "a late first byte": (self.control_port, late(b"GET / HTTP/1.1\r\n")),
            "a late WebSocket": (self.control_port, late(upgrade(token))),
            "late TLS": (self.control_port, late(b"\x16")),
            "silent leg": (relay, silent),
            "half a preamble": (relay, says(b"RTN1" + bytes(30))),
            "a preamble byte by byte": (relay, dripping(b"RTN1" + bytes(40))),
        }

        def run(name: str, port: int, act: Callable[[socket.socket], None]) -> None:
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                act(connection)
                closed = until_closed(connection, LOGIN + SLACK - (time.monotonic() - began))
                took[name] = time.monotonic() - began if closed else None

        threads = [
            threading.Thread(target=run, args=(name, *case), daemon=True)
            for name, case in cases.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual(took.keys(), cases.keys())
        self.assertEqual([name for name, time_taken in took.items() if time_taken is None], [])
        early = {name: taken for name, taken in took.items() if taken and taken < LOGIN - 1}
        self.assertEqual(early, {})

    def test_handshake_size(self) -> None:
        """A request of 15 KiB is taken; past 16 KiB there is HTTP 431 or just the end."""
        fits = self.raw()
        fits.sendall(upgrade(self.token, "X-Padding: " + "x" * 15000))
        self.assertIn(b" 101 ", response(fits))
        for padding in (b"X-Padding: " + b"x" * 17000, b"A: b\r\n" * 4000):
            request = upgrade(self.token)[:-2] + padding + b"\r\n\r\n"
            connection = self.raw()
            connection.sendall(request)
            head = response(connection)
            self.assertNotIn(b" 101 ", head)
            self.assertIn(b" 431 ", head[:20])
            self.assertTrue(until_closed(connection, PATIENCE))

    def test_endless_handshakes(self) -> None:
        """A hundred endless requests do not make the server grow."""
        before = self.server.memory()
        for _ in range(100):
            connection = self.raw()
            try:
                for _ in range(100):
                    connection.sendall(b"x" * 50_000)
            except OSError:
                continue
            self.fail("the server took 5 MB of a request")
        self.assertLess(self.server.memory() - before, 32 * 1024 * 1024)

    def test_origin(self) -> None:
        """A web page, which its browser gives away by an Origin, is turned away with 403."""
        for origin in ("https://evil.example", "null", "http://127.0.0.1"):
            error = self.assertRaises(
                InvalidStatus,
                foreign_client.open_websocket,
                self.control_port,
                self.token,
                headers={"Origin": origin},
            )
            # Autobahn itself answers 400 to one that is no URL.
            self.assertIn(error.response.status_code, (400, 403))
            if "://" in origin:
                self.assertEqual(error.response.status_code, 403)

    def test_no_compression(self) -> None:
        """Compression is not negotiated, and a compressed bomb ends the connection."""
        connection = self.raw()
        connection.sendall(
            upgrade(self.token, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window")
        )
        head = response(connection)
        self.assertNotIn(b"sec-websocket-extensions", head.lower())
        connection = self.raw()
        connection.sendall(
            upgrade(
                self.token,
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            )
        )
        head = response(connection).lower()
        self.assertIn(b" 101 ", head)
        self.assertNotIn(b"sec-websocket-extensions", head)
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = squeeze.compress(b" " * 10_000_000) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        before = self.server.memory()
        connection.sendall(frame(bomb[:60000], first=0xC1))
        self.assertTrue(until_closed(connection, PATIENCE))
        self.assertLess(self.server.memory() - before, 8 * 1024 * 1024)

    def test_application_protocols(self) -> None:
        """A TLS client may offer protocols, as browsers do: HTTP/1.1 is agreed on, if anything."""
        for offered, agreed in ((["h2", "http/1.1"], "http/1.1"), ([], None)):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if offered:
                context.set_alpn_protocols(offered)
            with dialled(self.control_port) as sock, context.wrap_socket(sock) as tls:
                self.assertEqual(tls.selected_alpn_protocol(), agreed)
                tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertIn(b"426", tls.recv(100))

    def test_no_other_version(self) -> None:
        """An old WebSocket version, or a plain HTTP request, is answered and turned away."""
        for request in (
            upgrade(self.token).replace(b"Version: 13", b"Version: 8"),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        ):
            connection = self.raw()
            connection.sendall(request)
            self.assertNotIn(b" 101 ", response(connection))
            self.assertTrue(until_closed(connection, LOGIN + SLACK))


class Messages(SharedServerTestCase):
    """What holds after it."""

    def beat(self, timestamp: int) -> str:
        return json.dumps({"type": "heartbeat", "payload": {"timestamp": timestamp}})

    def test_fragments(self) -> None:
        """A message may come in a hundred pieces."""
        client = self.client()
        text = self.beat(5) + " " * 100
        client.websocket.send(text[at : at + 2] for at in range(0, 160, 2))
        client.wait_for("heartbeat", timestamp=5)

    def test_continuation_flood(self) -> None:
        """Endless empty continuation frames end the connection."""
        client = self.client()

        def flood() -> None:
            client.websocket.send("" for _ in range(200_000))

        self.assertRaises(ConnectionClosed, flood)
        client.wait_until_over()

    def test_fragments_that_are_too_large_together(self) -> None:
        """The 64 KiB are those of the message, however many pieces it comes in."""
        client = self.client()
        with contextlib.suppress(ConnectionClosed):
            client.websocket.send(" " * 1000 for _ in range(70))
        self.assert_error(client, "too_large")
        client.wait_until_over()

    def test_length_that_is_a_lie(self) -> None:
        """A frame that announces gigabytes is refused by its head."""
        connection = socket.create_connection(("127.0.0.1", self.control_port), PATIENCE)
        self.addCleanup(connection.close)
        connection.sendall(upgrade(self.token))
        self.assertIn(b" 101 ", response(connection))
        connection.sendall(b"\x81\xff" + (2**40).to_bytes(8, "big") + bytes(4))
        self.assertTrue(until_closed(connection, PATIENCE))

    def test_rate(self) -> None:
        """Past 100 messages at once there is error rate_limited, and the connection lives."""
        client = self.client()
        began = time.monotonic()
        for number in range(400):
            client.say("heartbeat", timestamp=number)
        self.assert_error(client, "rate_limited")
        self.assert_served(client)
        elapsed = time.monotonic() - began
        echoes = [each for each in client.heard if each["type"] == "heartbeat"]
        self.assertGreaterEqual(len(echoes), 95)
        self.assertLessEqual(len(echoes), 100 + 100 * elapsed)

    def test_rate_of_pings(self) -> None:
        """A flood of pings is not answered ping for ping, and ends in the end."""
        client = self.client()

        def flood() -> None:
            for _ in range(100_000):
                client.websocket.ping()

        self.assertRaises(ConnectionClosed, flood)
        client.wait_until_over()

    def test_flood(self) -> None:
        """Who goes on and on in spite of the errors is disconnected; others do not notice."""
        bystander = self.client("bystander")
        client = self.client()

        def flood() -> None:
            for _ in range(100_000):
                client.say("get_client_list")

        self.assertRaises(ConnectionClosed, flood)
        client.wait_until_over()
        self.assert_alive(bystander)

    def test_client_that_does_not_read(self) -> None:
        """A client that asks and never reads is dropped before its answers fill the memory."""
        services = [
            {**tcp_service(f"service-{number}"), "description": "x" * 200} for number in range(200)
        ]
        self.client("wordy", *services)
        connection = socket.create_connection(("127.0.0.1", self.control_port), PATIENCE)
        self.addCleanup(connection.close)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = self.server.memory()
        connection.sendall(upgrade(self.token))
        registration = {"type": "register", "payload": {"clientId": "deaf", "services": []}}
        question = frame(json.dumps({"type": "get_client_list", "payload": {}}).encode())
        connection.sendall(frame(json.dumps(registration).encode()))
        connection.settimeout(1)
        gone = False
        deadline = time.monotonic() + PATIENCE
        while not gone and time.monotonic() < deadline:
            try:
                connection.sendall(question)
            except TimeoutError:
                break  # It reads no more from who does not read: as good.
            except OSError:
                gone = True
        self.assertLess(self.server.memory() - before, 64 * 1024 * 1024)

    def assert_served(self, client: Client) -> None:
        """After the bucket has filled again, questions are answered."""
        for number in range(1000, 2000):
            client.say("heartbeat", timestamp=number)
            with contextlib.suppress(AssertionError):
                client.wait_for("heartbeat", 0.2, timestamp=number)
                return
        self.fail("never served again")


class Counts(SharedServerTestCase):
    """The limits of the configuration that count."""

    settings = "max_clients = 3\nmax_sessions = 2\nmax_bytes_per_session = 100KB"
    limit = 100 * 1024

    def tearDown(self) -> None:
        """Leave room for the next test."""
        for client in self.clients:
            client.close()

    def setUp(self) -> None:
        super().setUp()
        self.clients: list[Client] = []

    def client(self, name: str = "", *services: object, **options: object) -> Client:
        client = super().client(name, *services, **options)  # type: ignore[arg-type]
        self.clients.append(client)
        return client

    def test_clients(self) -> None:
        """Past max_clients a registration is refused, until one of them leaves."""
        first = self.client("a")
        self.client("b")
        self.client("c")
        fourth = self.unregistered(self.token)
        answer = fourth.register("d")
        self.assertEqual((answer["success"], answer["error"]), (False, "session_limit"))
        first.say("unregister")
        first.wait_until_over()
        self.assertIs(fourth.register("d")["success"], True)
        fourth.close()

    def test_sessions(self) -> None:
        """Past max_sessions there is error session_limit, until one of them ends."""
        visitor, provider, _, partner = self.pair()
        self.meet(visitor, provider, "provider")
        visitor.say("connect_request", toClientId="provider", serviceId="echo")
        self.assert_error(visitor, "session_limit")
        provider.say("reject_session", sessionId=partner.id)
        visitor.wait_for("session_closed", sessionId=partner.id)
        self.meet(visitor, provider, "provider")

    def test_bytes(self) -> None:
        """A session moves no byte more than its limit, and the end of it says so."""
        visitor, provider, session, partner = self.pair()
        one, other = self.channel(session, partner)
        sender = threading.Thread(target=self.pour, args=(one,), daemon=True)
        sender.start()
        received = len(other.ended())
        sender.join(PATIENCE)
        self.assertLessEqual(received, self.limit)
        for client in (visitor, provider):
            closed = client.wait_for("session_closed", sessionId=session.id)
            self.assertEqual(closed["reason"], "byte_limit")
            self.assertEqual(closed["bytesTransferred"], self.limit)
        self.assert_refused(self.leg(session, 1))

    def test_bytes_of_all_channels_and_directions(self) -> None:
        """The limit is the session's, not a channel's or a direction's."""
        visitor, _, session, partner = self.pair()
        legs = [self.channel(session, partner, number) for number in range(2)]
        quarter = b"x" * (self.limit // 4)
        for one, other in legs:
            for sender, receiver in ((one, other), (other, one)):
                sender.send(quarter)
                self.assertEqual(receiver.receive(len(quarter)), quarter)
        legs[0][0].send(b"!")
        self.assertEqual(legs[0][1].ended(), b"")
        closed = visitor.wait_for("session_closed", sessionId=session.id)
        self.assertEqual((closed["reason"], closed["bytesTransferred"]), ("byte_limit", self.limit))

    def test_exactly_the_limit(self) -> None:
        """A stream of exactly the limit arrives whole, and ends as a stream does."""
        _, _, session, partner = self.pair()
        one, other = self.channel(session, partner)
        one.send(b"x" * self.limit)
        one.finish()
        self.assertEqual(len(receive_exactly(other.socket, self.limit + 1)), self.limit)
        other.finish()
        self.assertEqual(one.ended(), b"")

    def pour(self, leg: foreign_client.Leg) -> None:
        """Send until it is cut off."""
        with contextlib.suppress(OSError):
            while True:
                leg.send(b"x" * 10_000)


class Times(SharedServerTestCase):
    """The limits of the configuration that are times."""

    settings = "session_timeout = 1s\nheartbeat_interval = 500ms\nheartbeat_timeout = 2s"

    def test_idle_session(self) -> None:
        """A session in which nothing moves is closed; one that moves is not."""
        visitor, provider, idle, idle_partner = self.pair()
        busy, busy_partner = self.meet(visitor, provider, "provider")
        self.channel(idle, idle_partner)
        one, other = self.channel(busy, busy_partner)
        closed: list[str] = []

        def watch() -> None:
            payload = provider.wait_for("session_closed", sessionId=idle.id)
            closed.append(payload["reason"])

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        while watcher.is_alive():
            self.assert_flows(one, other)
            for client in (visitor, provider):
                self.assert_alive(client)
            watcher.join(0.2)
        self.assertEqual(closed, ["timeout"])
        self.assertEqual(visitor.wait_for("session_closed", sessionId=idle.id)["reason"], "timeout")
        self.assert_flows(one, other)

    def test_silent_client(self) -> None:
        """Who sends no heartbeat is told so and dropped; who does, stays."""
        silent = self.client("silent")
        lively = self.client("lively")
        while not silent.over:
            self.assert_alive(lively)
            try:
                silent.wait_until_over(0.2)
            except AssertionError:
                continue
        self.assert_error(silent, "timeout")
        self.assert_alive(lively)
        lively.say("get_client_list")
        names = [entry["id"] for entry in lively.wait_for("client_list")["clients"]]
        self.assertNotIn("silent", names)
