"""Tests of L{relaytun.server.https.front} and L{relaytun.server.https.ending}."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.plane.accept import prepare
from relaytun.server.admission import Admission
from relaytun.server.https import front as module
from relaytun.server.https.certificates import Certificates
from relaytun.server.https.credential import context
from relaytun.server.https.ending import twisted_address
from relaytun.server.https.front import DECODE_ERROR, NO_TLS, UNRECOGNIZED_NAME, HttpsFront

from ...link.sockets import Loop
from ...polling import select
from ...wire.test_clienthello import from_openssl
from .issuer import Authority

AUTHORITY = Authority()
PEER = ("192.0.2.1", 1234)


class FrontTestCase(SynchronousTestCase):
    """A front whose reactor is played by the test."""

    other: Any = None

    def setUp(self) -> None:
        self.loop = Loop()
        self.taken: list[tuple[str, socket.socket, Any]] = []
        self.front = HttpsFront(
            self.loop,  # type: ignore[arg-type]
            passthrough=lambda name: self.take(name) if name.startswith("pass.") else None,
            certificates=Certificates(None, Clock()),
            http=Factory(),
            other=self.other and self.take("other"),
            is_public=lambda name: name != "pass.own",
            admission=Admission(per_address=2),
        )

    def take(self, who: str) -> Any:
        def serve(sock: socket.socket, address: Any) -> None:
            self.addCleanup(sock.close)
            self.taken.append((who, sock, address))

        return serve

    def connect(self, *beginning: bytes) -> socket.socket:
        """A connection with these first bytes; returns the visitor's end."""
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        near.settimeout(5)
        far.setblocking(False)
        far.setblocking(False)
        for data in beginning:
            near.sendall(data)
        self.front.accepted(far, PEER)
        return near

    def assert_idle(self) -> None:
        """Nothing waits for anything any more."""
        self.assertEqual(self.loop.readers, [])
        self.assertEqual(self.loop.getDelayedCalls(), [])
        self.assertEqual(len(self.front.admission), 0)

    def assert_ended(self, near: socket.socket, *last: bytes) -> None:
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := near.recv(65536):
                received += data
        self.assertEqual(received, b"".join(last))
        self.assert_idle()


class LookTests(FrontTestCase):
    """What is looked at is left where it is."""

    def test_untouched(self) -> None:
        """Whoever takes a host name gets its connection with its first byte, and at once."""
        hello = from_openssl("PASS.example", [])
        self.connect(hello + b"more")
        ((who, sock, address),) = self.taken
        self.assertEqual((who, address), ("pass.example", PEER))
        self.assertEqual(sock.recv(65536), hello + b"more")
        self.assert_idle()

    def test_silent(self) -> None:
        """Who has said nothing yet has a place and is waited for; what then comes is looked at."""
        near = self.connect()
        self.assertEqual((len(self.front.admission), len(self.loop.readers)), (1, 1))
        self.loop.turn()
        self.assertEqual(self.taken, [])
        near.sendall(from_openssl("pass.example", []))
        self.loop.turn()
        self.assertEqual(len(self.taken), 1)
        self.assert_idle()

    def test_no_spin(self) -> None:
        """A hello that comes byte by byte is looked at a few dozen times at most in ten seconds."""
        looks = []
        peek = module.clienthello.peek
        self.patch(module.clienthello, "peek", lambda data: looks.append(data) or peek(data))
        hello = from_openssl("pass.example", [])
        near = self.connect(hello[:5])
        for at in range(5, 35):
            near.sendall(hello[at : at + 1])
            self.assertEqual(self.loop.readers, [])
            self.loop.advance(0.3)
        self.assertLess(len(looks), 45)
        near.sendall(hello[35:])
        self.loop.advance(module.LONGEST_PAUSE)
        self.assertEqual(len(self.taken), 1)
        self.assert_idle()

    def test_prompt(self) -> None:
        """A hello in two packets is read within milliseconds."""
        hello = from_openssl("pass.example", [])
        self.connect(hello[:100]).sendall(hello[100:])
        self.loop.advance(module.SHORTEST_PAUSE)
        self.assertEqual(len(self.taken), 1)

    def test_deadline(self) -> None:
        """Ten seconds after it came a connection without a whole hello is closed."""
        for beginning in ((), (from_openssl("pass.example", [])[:50],)):
            near = self.connect(*beginning)
            self.loop.advance(9.9)
            self.assertEqual(len(self.front.admission), 1)
            self.loop.advance(0.2)
            self.assert_ended(near)

    def test_gone(self) -> None:
        """One that ends before it has said anything is closed."""
        near = self.connect()
        near.shutdown(socket.SHUT_WR)
        self.loop.turn()
        self.assert_ended(near)

    def test_reset(self) -> None:
        """So is one that the reactor finds dead, or that cannot be read."""
        self.connect()
        (arrival,) = self.loop.readers
        arrival.connectionLost(None)  # type: ignore[arg-type]
        self.assert_idle()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            near = socket.create_connection(listening.getsockname())
            far, _ = listening.accept()
        far.setblocking(False)
        self.front.accepted(far, PEER)
        prepare(near)
        near.close()
        select([far], timeout=5)
        self.loop.turn()
        self.assertEqual(far.fileno(), -1)
        self.assert_idle()

    def test_displaced(self) -> None:
        """Of too many that say nothing the oldest goes."""
        oldest, _, _ = (self.connect() for _ in range(3))
        self.assertEqual(len(self.front.admission), 2)
        self.assertEqual(oldest.recv(1), b"")
        self.front.stop()
        self.assert_idle()

    def test_failing(self) -> None:
        """A connection that cannot be taken over is dropped, with a word in the log."""
        self.front._passthrough = lambda name: {}[name]  # type: ignore[index]
        self.assert_ended(self.connect(from_openssl("pass.example", [])))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class StrangeTests(FrontTestCase):
    """What is for nobody is told so."""

    def test_unknown_name(self) -> None:
        """A name that nobody has, and no name at all, are answered with a TLS alert."""
        for name in ("other.example", None):
            near = self.connect(from_openssl(name, []))
            self.assert_ended(near, UNRECOGNIZED_NAME)

    def test_understood(self) -> None:
        """OpenSSL understands that alert."""
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        visitor = ssl.create_default_context().wrap_bio(
            received, sent, server_hostname="other.example"
        )
        self.assertRaises(ssl.SSLWantReadError, visitor.do_handshake)
        received.write(self.connect(sent.read()).recv(65536))
        error = self.assertRaises(ssl.SSLError, visitor.do_handshake)
        self.assertIn("UNRECOGNIZED_NAME", str(error).upper().replace(" ", "_"))

    def test_no_tls(self) -> None:
        """A browser with http:// is told what to do; a broken hello is a decode_error."""
        self.assert_ended(self.connect(b"GET / HTTP/1.1\r\n"), NO_TLS)
        self.assert_ended(self.connect(b"\x16\x03\x01\0\0"), DECODE_ERROR)

    def test_answer_to_the_dead(self) -> None:
        """One that does not wait for the answer is closed all the same."""
        near, far = socket.socketpair()
        near.sendall(b"GET")
        near.close()
        far.setblocking(False)
        self.front.accepted(far, PEER)
        self.assertEqual(far.fileno(), -1)


class SharedTests(FrontTestCase):
    """A port that is the control port as well."""

    other = True

    def test_other(self) -> None:
        """What is for no host name of ours goes there untouched: by name, without one, plain."""
        for data in (
            from_openssl("relay.example", []),
            from_openssl("pass.own", []),
            from_openssl(None, []),
            b"GET /relaytun HTTP/1.1\r\n",
        ):
            self.connect(data)
            who, sock, address = self.taken.pop()
            self.assertEqual((who, address), ("other", PEER))
            self.assertEqual(sock.recv(65536), data)
            self.assert_idle()


class _Echo(Protocol):
    address: Any = None

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data + repr(self.address).encode())
        self.transport.loseConnection()


class EndingTests(TestCase):
    """TLS that ends here, over TCP and with the real reactor."""

    timeout = 30

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "www.pem").write_bytes(b"".join(AUTHORITY.issue("www.example")))
        self.certificates = Certificates(folder, Clock())
        self.front = HttpsFront(
            reactor,  # type: ignore[arg-type]
            passthrough=lambda name: None,
            certificates=self.certificates,
            http=Factory.forProtocol(_Echo),
            other=None,
            admission=Admission(),
        )
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)

    async def visit(self, name: str, *offered: str, verified: bool = True) -> ssl.SSLSocket:
        """@return: a connection after its handshake."""
        trust = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
        trust.verify_flags |= ssl.VERIFY_X509_STRICT
        if offered:
            trust.set_alpn_protocols(offered)
        if not verified:
            trust.check_hostname = False
            trust.verify_mode = ssl.CERT_NONE
        near = socket.create_connection(self.listening.getsockname(), timeout=10)
        self.addCleanup(near.close)
        far, _ = self.listening.accept()
        prepare(far)
        self.front.accepted(far, PEER)
        visitor = await deferToThread(trust.wrap_socket, near, server_hostname=name)
        self.addCleanup(visitor.close)
        return visitor

    async def ended(self, visitor: ssl.SSLSocket) -> bytes:
        """Everything up to the end, which has to be a clean one."""
        received = b""
        while data := await deferToThread(visitor.recv, 65536):
            received += data
        return received

    async def test_ended(self) -> None:
        """The factory's protocol gets what was decrypted, and the address that was accepted."""
        visitor = await self.visit("www.example", "h2", "http/1.1")
        self.assertEqual(visitor.selected_alpn_protocol(), "http/1.1")
        visitor.sendall(b"hello")
        self.assertEqual(await self.ended(visitor), b"hello" + repr(PEER).encode())

    async def test_without_alpn(self) -> None:
        """Old clients, and those that offer nothing that we know, are served as well."""
        for offered in ((), ("spdy/1",)):
            visitor = await self.visit("www.example", *offered)
            self.assertIsNone(visitor.selected_alpn_protocol())
            visitor.sendall(b"hello")
            self.assertIn(b"hello", await self.ended(visitor))

    async def test_challenge(self) -> None:
        """An authority gets the certificate of the challenge; others go on with the usual one."""
        proof, key = Authority().issue("www.example")
        challenge = Certificates(None, Clock()).add("www.example", proof + key)
        self.certificates.challenges["www.example"] = context(
            challenge.chain, challenge.key, b"acme-tls/1"
        )
        authority = await self.visit("www.example", "acme-tls/1", verified=False)
        self.assertEqual(authority.selected_alpn_protocol(), "acme-tls/1")
        shown = authority.getpeercert(binary_form=True)
        assert shown is not None
        self.assertEqual(ssl.DER_cert_to_PEM_cert(shown).encode(), proof)
        authority.close()
        visitor = await self.visit("www.example", "http/1.1")
        visitor.sendall(b"hello")
        self.assertIn(b"hello", await self.ended(visitor))

    async def test_challenge_without_end(self) -> None:
        """Who stays after the proof is sent away."""
        self.patch(module.Ending.prove.__globals__["_Mute"], "connectionMade", _leave_at_once)
        self.certificates.challenges["www.example"] = self.certificates.find("www.example")  # type: ignore[assignment]
        with contextlib.suppress(OSError):
            visitor = await self.visit("www.example", "acme-tls/1", verified=False)
            await self.ended(visitor)

    def test_old_versions(self) -> None:
        """TLS before 1.2 is not spoken."""
        credential = self.certificates.credential("www.example")
        assert credential is not None
        server = SSL.Connection(credential.context, None)
        server.set_accept_state()
        old = SSL.Context(SSL.TLS_CLIENT_METHOD)
        old.set_cipher_list(b"ALL:@SECLEVEL=0")
        old.set_min_proto_version(SSL.TLS1_1_VERSION)
        old.set_max_proto_version(SSL.TLS1_1_VERSION)
        client = SSL.Connection(old, None)
        client.set_connect_state()
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        server.bio_write(client.bio_read(65536))
        self.assertRaises(SSL.Error, server.do_handshake)


def _leave_at_once(mute: Any) -> None:
    mute._deadline = mute._reactor.callLater(0, mute.transport.abortConnection)


class AddressTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """An address as accept(2) has it becomes one of Twisted's."""
        self.assertEqual(twisted_address(PEER), IPv4Address("TCP", *PEER))
        self.assertEqual(twisted_address(("::1", 5, 0, 0)), IPv6Address("TCP", "::1", 5, 0, 0))
        self.assertEqual(twisted_address(""), UNIXAddress(None))
