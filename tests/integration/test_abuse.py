"""What strangers, and clients that are none too honest, may try without any effect on others."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import random
import re
import resource
import select
import socket
import ssl
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.server import ServerConnection, serve

import relaytun

from .. import foreign_client
from ..foreign_client import PATIENCE, Leg, Message, Session, tcp_service
from .processes import TWISTD, Echo, Process, dialled, receive_exactly
from .shared import SharedServerTestCase
from .test_limits import frame, response, upgrade

SILENT = 5000
#: Line ends, an escape sequence, a bidi override, a null: what forges a log.
FORGED = "x\r\n2026-01-01T00:00:00+0000 FORGED\x1b[31m\u202ereversed\u2028line\x00"


class Crowd:
    """Sockets that say nothing, from many addresses of this machine."""

    def __init__(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._limit = (soft, hard)
        self._sockets: list[socket.socket] = []

    def grow(self, port: int, count: int) -> None:
        """Open C{count} more, from 20 addresses in turn; waits until each is connected."""
        pending = []
        for number in range(count):
            each = socket.socket()
            each.setblocking(False)
            each.bind((f"127.0.0.{2 + number % 20}", 0))
            each.connect_ex(("127.0.0.1", port))
            pending.append(each)
            if len(pending) == 100:
                self._settle(pending)
                pending = []
        self._settle(pending)

    def close(self) -> None:
        for each in self._sockets:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limit)

    def _settle(self, pending: list[socket.socket]) -> None:
        self._sockets.extend(pending)
        poller = select.poll()
        waiting = {each.fileno() for each in pending}
        for descriptor in waiting:
            poller.register(descriptor, select.POLLOUT)
        deadline = time.monotonic() + PATIENCE
        while waiting and time.monotonic() < deadline:
            for descriptor, _ in poller.poll(1000):
                poller.unregister(descriptor)
                waiting.discard(descriptor)


class AbuseTestCase(SharedServerTestCase):
    """Abuse beside a stream that must not notice."""

    def setUp(self) -> None:
        super().setUp()
        name = self.id().rpartition(".")[2]
        self.provider = self.client(f"p-{name}", tcp_service("echo"))
        self.visitor = self.client(f"v-{name}")
        self.session, self.partner = self.meet(self.visitor, self.provider, f"p-{name}")
        self.one, self.other = self.channel(self.session, self.partner)
        self.channels = 0

    def assert_undisturbed(self) -> None:
        """The stream flows, a new one opens, and signalling answers."""
        self.assert_flows(self.one, self.other)
        self.channels += 1
        one, other = self.channel(self.session, self.partner, self.channels)
        self.assert_flows(one, other)
        self.assert_alive(self.visitor)
        self.assert_alive(self.provider)

    def crowd(self) -> Crowd:
        crowd = Crowd()
        self.addCleanup(crowd.close)
        return crowd


class Floods(AbuseTestCase):
    """Many of them."""

    def test_silent_sockets_on_the_control_port(self) -> None:
        """Beside 5,000 silent sockets, and while more come, a login takes less than 2 s."""
        crowd = self.crowd()
        crowd.grow(self.control_port, SILENT)
        more = threading.Thread(target=crowd.grow, args=(self.control_port, 1000), daemon=True)
        more.start()
        for number, tls in enumerate((True, False, True)):
            began = time.monotonic()
            self.client(f"honest-{number}", tls=tls)
            self.assertLess(time.monotonic() - began, 2)
        self.assert_undisturbed()
        more.join(PATIENCE)

    def test_silent_sockets_on_the_relay_port(self) -> None:
        """Beside 5,000 silent legs, and while more come, streams run and new ones open."""
        relay = self.session.address[1]
        crowd = self.crowd()
        crowd.grow(relay, SILENT)
        more = threading.Thread(target=crowd.grow, args=(relay, 1000), daemon=True)
        more.start()
        for _ in range(3):
            began = time.monotonic()
            self.assert_undisturbed()
            self.assertLess(time.monotonic() - began, 2)
        more.join(PATIENCE)

    def test_forged_legs(self) -> None:
        """2,000 forged legs for live and waiting channels get a no each, and nothing else."""
        waiting = self.leg(self.session, 10**6, b"mine")
        self.provider.wait_for("open_channel", sessionId=self.session.id)
        address = self.session.address

        def forge(number: int) -> bytes:
            side = (self.session, self.partner)[number % 2]
            return side.preamble((0, 10**6)[number % 3 == 0], key=os.urandom(32)) + b"not mine"

        for start in range(0, 2000, 100):
            legs = [Leg(address, forge(number)) for number in range(start, start + 100)]
            for leg in legs:
                self.assertEqual(leg.verdict()[:1], b"-")
                leg.close()
            self.assert_flows(self.one, self.other)
        other = self.leg(self.partner, 10**6).granted()
        waiting.granted()
        self.assertEqual(other.receive(4), b"mine")
        self.assert_undisturbed()

    def test_wrong_guesses_of_the_token(self) -> None:
        """300 wrong logins are 300 refusals, and cost nobody else anything."""
        for _ in range(300):
            with socket.create_connection(("127.0.0.1", self.control_port), PATIENCE) as guess:
                guess.sendall(upgrade("guess"))
                self.assertIn(b" 401 ", response(guess))
        self.assert_undisturbed()

    def test_connections_that_come_and_go(self) -> None:
        """2,000 connections that reset at once leave no descriptor behind."""
        before = self.server.descriptors()
        for port in (self.control_port, self.session.address[1]):
            for number in range(1000):
                connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
                if number % 2:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()
        self.assert_undisturbed()
        self.wait_for_descriptors(before + 10)

    def wait_for_descriptors(self, most: int) -> None:
        """Ask until the server has no more than that."""
        deadline = time.monotonic() + PATIENCE
        while self.server.descriptors() > most:
            self.assertLess(time.monotonic(), deadline, "descriptors leak")
            self.assert_alive(self.visitor)


class Garbage(AbuseTestCase):
    """What makes no sense."""

    def garbage(self) -> Iterator[bytes]:
        """Much that is not ours, and some that nearly is."""
        chance = random.Random(20)
        yield b""
        yield b"\0" * 64
        yield b"\xff" * 1000
        yield b"\n" * 1000
        yield b"SSH-2.0-OpenSSH_9.9\r\n"
        yield b"EHLO example.com\r\n"
        yield b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        yield b"GET / HTTP/1.1\nHost: x\n\n"
        yield b"GET http://x/ HTTP/9.9\r\n\r\n"
        yield b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n"
        yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64)
        yield b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"
        yield b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n"
        yield b"A" * 1_000_000
        yield b"GET / HTTP/1.1\r\n" + b"\xff\xfe: \x80\r\n\r\n"
        yield b"GET /\xff HTTP/1.1\r\nHost: \xff\r\nUpgrade: \xff\r\n\r\n"
        for header in (b"Host: a:b:c", b"Host: [::", b"Host: a:99999999", b"Content-Length: -1"):
            yield upgrade(self.token).replace(b"Host: 127.0.0.1", header)
        for key in (b"", b"short", b"\xff" * 24, b"=" * 24):
            yield re.sub(rb"Key: [^\r]*", b"Key: " + key, upgrade(self.token))
        yield b"\x16\x03\x01" + b"\xff" * 5000
        yield b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"
        yield b"\x16" + chance.randbytes(500)
        yield _client_hello()
        yield _client_hello()[:100]
        yield b"RTN1" + chance.randbytes(60)
        yield b"RTN1\1\0\0\0" + chance.randbytes(56) + b"data"
        yield b"RTN1\2\1\0\0" + chance.randbytes(56)
        yield b"RTN1\1\1\0\0" + bytes(56)
        for size in (1, 3, 4, 63, 64, 65, 1000, 100_000):
            yield chance.randbytes(size)
        for _ in range(30):
            yield upgrade(self.token) + chance.randbytes(chance.randrange(300))
        for opcode in range(16):
            yield upgrade(self.token) + frame(chance.randbytes(20), 0x80 | opcode)
            yield upgrade(self.token) + frame(chance.randbytes(20), 0xF0 | opcode)
        yield upgrade(self.token) + b"\x81\x05hello"  # Not masked.
        yield upgrade(self.token) + frame(b"\xff\xff")
        yield upgrade(self.token) + frame(b"x" * 200, 0x89)  # A ping that is too long.
        yield upgrade(self.token) + frame(b"\x03", 0x88)
        yield upgrade(self.token) + frame(b"\x00\x00\xff", 0x88)
        yield upgrade(self.token) + frame(b"a", 0x01) + frame(b"b", 0x81)
        yield upgrade(self.token) + frame(b"a", 0x80)
        yield upgrade(self.token) + frame(b"a", 0x81) * 300

    def test_garbage(self) -> None:
        """Nothing of it, on either port, shows in the log or is felt in a stream."""
        ports = (self.control_port, self.session.address[1])
        for number, data in enumerate(self.garbage()):
            for port in ports:
                for half_close in (True, False):
                    self.throw(port, data, half_close)
            if number % 10 == 0:
                self.assert_undisturbed()
        self.assert_undisturbed()

    def throw(self, port: int, data: bytes, half_close: bool) -> None:
        """Send it; with a half-close, wait for the server to end the connection."""
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
        except ConnectionError:
            pass
        except OSError as error:  # It was reset before the half-close.
            if error.errno != errno.ENOTCONN:
                raise

    def test_strangers_messages(self) -> None:
        """What a third client says of somebody else's session changes nothing."""
        stranger = self.client("stranger", tcp_service("echo"))
        self.visitor.say("connect_request", toClientId=self.provider_name(), serviceId="echo")
        pending = Session(foreign_client.PROVIDER, self.provider.wait_for("connect_request"))
        for client in (stranger, self.visitor):
            client.say("accept_session", sessionId=pending.id)
            client.say("reject_session", sessionId=pending.id)
        stranger.say("close_session", sessionId=pending.id)
        for kind in ("accept_session", "reject_session", "close_session"):
            stranger.say(kind, sessionId=self.session.id)
            stranger.say(kind, sessionId="0" * 32)
        for kind, payload in (
            ("error", {"code": "internal", "message": "x", "sessionId": self.session.id}),
            ("session_closed", {"sessionId": self.session.id, "reason": "x"}),
            ("open_channel", {"sessionId": self.session.id, "channel": 1}),
        ):
            stranger.say(kind, **payload)
        self.assert_alive(stranger)
        self.assert_alive(self.visitor)
        kinds = [message["type"] for message in self.visitor.heard]
        self.assertNotIn("create_session", kinds)
        self.assertNotIn("session_closed", kinds)
        self.assert_undisturbed()
        self.provider.say("accept_session", sessionId=pending.id)
        self.assertEqual(self.visitor.wait_for("create_session")["sessionId"], pending.id)

    def provider_name(self) -> str:
        return f"p-{self.id().rpartition('.')[2]}"


class Logs(AbuseTestCase):
    """What others say must not write our log."""

    def test_server_log_cannot_be_forged(self) -> None:
        """Control characters in names, texts and headers never reach the server's log."""
        service = {**tcp_service("forger"), "description": FORGED, "localHost": FORGED}
        forger = self.client("forger", service)
        for client_id in (FORGED, "a\nb", "a\x1b[0m", "\u202ea", "a" * 65, "a\n"):
            other = self.unregistered(self.token)
            other.say("register", clientId=client_id, services=[])
            self.assert_error(other, "bad_message")
        forger.say("connect_request", toClientId=FORGED, serviceId=FORGED)
        self.assert_error(forger, "bad_message")
        forger.say_text(json.dumps({"type": FORGED, "payload": {FORGED: FORGED}}))
        self.assert_error(forger, "bad_message")
        forger.say("error", code=FORGED, message=FORGED)
        visitor = self.client("visits-forger")
        visitor.say("connect_request", toClientId="forger", serviceId="forger")
        offer = forger.wait_for("connect_request")
        forger.say("reject_session", sessionId=offer["sessionId"], reason=FORGED)
        self.assert_error(visitor, "rejected")
        forged = FORGED.replace("\r\n", "\n").encode()
        for header in (b"User-Agent: ", b"Host: ", b"Authorization: Bearer ", b"Origin: http://"):
            request = re.sub(header.split()[0] + rb"[^\r]*\r\n", b"", upgrade(self.token, "X: y"))
            with socket.create_connection(("127.0.0.1", self.control_port), PATIENCE) as sock:
                sock.sendall(request[:-2] + header + forged + b"\r\n\r\n")
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass
        self.assert_clean(self.server)

    def test_client_log_cannot_be_forged(self) -> None:
        """Nor do those of a server that lies reach its client's."""
        relay = {"host": "127.0.0.1", "port": 1, "protocol": "tcp"}
        key = base64.b64encode(bytes(32)).decode()
        offer: Message = {
            "fromClientId": FORGED,
            "toClientId": "victim",
            "channelKey": key,
            "relayAddr": {**relay, "host": FORGED},
        }
        honest = {**offer, "fromClientId": "friend", "serviceId": "open"}
        lies: list[tuple[str, Message]] = [
            ("register_response", {"success": True, "assignedId": FORGED}),
            ("register_response", {"success": True, "assignedId": "victim"}),
            ("error", {"code": FORGED, "message": FORGED}),
            (FORGED, {FORGED: FORGED}),
            ("connect_request", {**offer, "serviceId": "open", "sessionId": "1" * 32}),
            ("connect_request", {**offer, "serviceId": "closed", "sessionId": "2" * 32}),
            ("connect_request", {**offer, "serviceId": FORGED, "sessionId": "3" * 32}),
            ("connect_request", {**honest, "sessionId": "4" * 32}),
            ("connect_request", {**honest, "sessionId": "5" * 32, "channelKey": FORGED}),
            ("open_channel", {"sessionId": "4" * 32, "channel": 7}),
            ("session_closed", {"sessionId": "1" * 32, "reason": FORGED, "bytesTransferred": 1}),
            ("heartbeat", {"timestamp": 0}),
        ]
        heard = threading.Event()

        def lie(connection: ServerConnection) -> None:
            for text in connection:
                message = json.loads(text)
                if message["type"] == "register":
                    for kind, payload in lies:
                        connection.send(json.dumps({"type": kind, "payload": payload}))
                elif message["type"] == "connect_request":
                    error = {
                        "code": "internal",
                        "message": FORGED,
                        "requestId": message["payload"]["requestId"],
                    }
                    connection.send(json.dumps({"type": "error", "payload": error}))
                    heard.set()

        server = serve(lie, "127.0.0.1", 0)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = self.folder / "victim.ini"
        path.write_text(
            f"[client]\nserver = ws://127.0.0.1:{server.socket.getsockname()[1]}\n"
            f"client_id = victim\nstate_dir = {self.folder}/victim\n"
            "[service:open]\nprotocol = tcp\nmode = raw\nlocal_port = 1\n"
            "[service:closed]\nprotocol = tcp\nmode = raw\nlocal_port = 1\nallow = friend\n"
            "[connect:it]\ntarget = a\nservice = b\nlocal_port = 0\n"
        )
        victim = self.start(
            "victim", *TWISTD, "-n", "--pidfile=", "relaytun-client", f"--config={path}"
        )
        victim.wait_for("signed in as")
        self.assertTrue(heard.wait(PATIENCE))
        victim.wait_for("waiting for a/b")
        victim.stop()
        self.assert_clean(victim)

    def test_secrets_stay_out_of_the_logs(self) -> None:
        """The token stands in the invite line and nowhere else, channel keys nowhere at all."""
        echo = Echo()
        self.addCleanup(echo.close)
        provider = self.start_client(
            "logs-p", f"[service:echo]\nprotocol = tcp\nmode = raw\nlocal_port = {echo.port}\n"
        )
        visitor = self.start_client(
            "logs-v", "[connect:it]\ntarget = logs-p\nservice = echo\nlocal_port = 0\n"
        )
        port = int(visitor.wait_for(r"127\.0\.0\.1:(\d+) leads to")[1])
        with dialled(port) as connection:
            connection.sendall(b"a secret of the user")
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_exactly(connection, 100), b"a secret of the user")
        wrong = self.unregistered()
        wrong.say("register", clientId="w", services=[], token="a wrong token")
        self.assert_error(wrong, "unauthorized")
        session = self.client("logs-f").visit("logs-p", "echo")
        self.leg(session, 0, b"a secret of the user").granted()
        visitor.stop()
        provider.stop()
        keys = [each.key for each in (session, self.session, self.partner)]
        secrets = ["a secret of the user", "a wrong token"]
        secrets += [key.hex() for key in keys]
        secrets += [base64.b64encode(key).decode() for key in keys]
        for process in (self.server, provider, visitor):
            for secret in secrets:
                self.assertNotIn(secret, process.output)
        told = [line for line in self.server.lines if self.token in line]
        self.assertEqual([line.partition("] ")[2] for line in told], [f"invite: {self.invite}"])
        for process in (provider, visitor):
            self.assertNotIn(self.token, process.output)

    def assert_clean(self, process: Process) -> None:
        """No character that a terminal obeys, and no line that somebody else wrote."""
        for line in process.lines:
            bad = [each for each in line if _is_control(each)]
            self.assertEqual(bad, [], process.output)
            self.assertNotRegex(line, r"^\s*2026-01-01T00:00:00\+0000 FORGED")
        self.assertNotIn("Traceback", process.output)


class Source(SharedServerTestCase):
    """What only a look at the source can show."""

    def test_secrets_are_compared_in_constant_time(self) -> None:
        """Tokens and tags go through compare_digest, and never through C{==}."""
        package = Path(relaytun.__file__).parent
        for name in ("server/users.py", "wire/preamble.py", "tls.py"):
            self.assertIn("compare_digest", (package / name).read_text())
        for path in package.rglob("*.py"):
            for line in path.read_text().splitlines():
                self.assertNotRegex(line, r"(_?token|\btag|_key)\b (==|!=) (?!None)", str(path))


def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("Cc", "Cf", "Zl", "Zp") and character != "\t"


def _client_hello() -> bytes:
    """The first flight of a real TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client: Any = foreign_client.insecure_context().wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
