"""Tests of L{relaytun.tls}: real TLS, in memory."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relaytun.errors import UserError
from relaytun.link.identity import Identity, fingerprint
from relaytun.tls import PinnedServer, options_of_files, options_of_identity, server_verification

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.timezone.utc)


def certificate(
    key: Any,
    *names: x509.GeneralName,
    issuer: tuple[Any, x509.Certificate] | None = None,
    authority: bool = False,
    start: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + DAY,
) -> x509.Certificate:
    """A certificate, self-signed or issued by an authority."""
    common = "an authority" if authority else "x"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer[1].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = key if issuer is None else issuer[0]
    edwards = isinstance(signer, ed25519.Ed25519PrivateKey)
    return builder.sign(signer, None if edwards else hashes.SHA256())


def pem(*things: Any) -> bytes:
    """Keys and certificates as PEM."""
    return b"".join(
        thing.public_bytes(serialization.Encoding.PEM)
        if isinstance(thing, x509.Certificate)
        else thing.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        for thing in things
    )


def pin_of(shown: x509.Certificate) -> str:
    """What an invite says of a server with this certificate."""
    return fingerprint(shown.public_bytes(serialization.Encoding.DER))


KEY = ec.generate_private_key(ec.SECP256R1())
AUTHORITY_KEY = ec.generate_private_key(ec.SECP256R1())
AUTHORITY = certificate(AUTHORITY_KEY, authority=True)
IDENTITY = Identity.make("relaytun")


class Conversation(Protocol):
    """Says hello, and keeps what it hears and how it ended."""

    def __init__(self, hello: bytes) -> None:
        self.hello = hello
        self.heard = b""
        self.ended: Failure | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.hello)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason


class One(Factory[Conversation]):
    """Makes the one protocol that it has."""

    noisy = False

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation

    def buildProtocol(self, addr: Any) -> Conversation:
        return self.conversation


class TlsCase(SynchronousTestCase):
    """A test case that makes connections in memory and files."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()

    def file(self, name: str, content: bytes) -> Path:
        """Write a file."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def options(self, key: Any, *chain: x509.Certificate) -> Any:
        """The options of a server with these files."""
        options, _ = options_of_files(
            self.file("cert.pem", pem(*chain)), self.file("key.pem", pem(key))
        )
        return options

    def talk(self, options: Any, creator: Any) -> tuple[Conversation, Conversation]:
        """Client and server meet, and say to each other what gets through."""
        clock = Clock()
        client, server = Conversation(b"token"), Conversation(b"challenge")
        ends = []
        for conversation, side, is_client in (
            (server, options, False),
            (client, creator, True),
        ):
            factory = TLSMemoryBIOFactory(side, is_client, One(conversation), clock)
            factory.noisy = False
            wrapper = factory.buildProtocol(None)
            ends += [wrapper, FakeTransport(wrapper, isServer=not is_client)]
        pump = connect(*ends)
        for _ in range(20):
            clock.advance(0)
            pump.flush()
        return client, server

    def accepted(self, options: Any, creator: Any) -> None:
        """Both hear each other."""
        client, server = self.talk(options, creator)
        self.assertEqual((client.heard, server.heard), (b"challenge", b"token"))
        self.assertEqual((client.ended, server.ended), (None, None))

    def refused(self, options: Any, creator: Any) -> None:
        """The client ends it, and neither hears anything: the token above all."""
        client, server = self.talk(options, creator)
        self.assertEqual((client.heard, server.heard), (b"", b""))
        assert client.ended is not None
        self.assertIsNotNone(client.ended.check(Exception))
        self.assertFalse(client.ended.check(type(connectionDone.value)))
        self.flushLoggedErrors(CertificateError, VerificationError)


class PinnedTests(TlsCase):
    """A server known by its fingerprint."""

    def test_right(self) -> None:
        """The server with the pinned fingerprint is taken, whatever its name and issuer."""
        pinned = PinnedServer(IDENTITY.fingerprint)
        self.accepted(options_of_identity(IDENTITY), pinned)
        self.assertEqual(pinned.seen, IDENTITY.fingerprint)

    def test_wrong(self) -> None:
        """Another is refused before anything is said, and one can see which one it was."""
        pinned = PinnedServer("sha256:" + "00" * 32)
        self.assertIsNone(pinned.seen)
        self.refused(options_of_identity(IDENTITY), pinned)
        self.assertEqual(pinned.seen, IDENTITY.fingerprint)

    def test_nearly(self) -> None:
        """Every digit of the fingerprint counts."""
        right = IDENTITY.fingerprint
        for wrong in (right[:-1], right + "0", "", right[:7], right.upper()):
            self.refused(options_of_identity(IDENTITY), PinnedServer(wrong))

    def test_same_key(self) -> None:
        """Another certificate of the same key is another one."""
        self.refused(self.options(KEY, certificate(KEY)), PinnedServer(pin_of(certificate(KEY))))

    def test_in_the_chain(self) -> None:
        """The pinned certificate farther up in what a server shows does not make it the server."""
        leaf = certificate(KEY, issuer=(AUTHORITY_KEY, AUTHORITY))
        pin = pin_of(AUTHORITY)
        self.refused(self.options(KEY, leaf, AUTHORITY), PinnedServer(pin))
        genuine = pin_of(leaf)
        self.accepted(self.options(KEY, leaf, AUTHORITY), PinnedServer(genuine))

    def test_appended(self) -> None:
        """A copy of the pinned certificate behind one's own convinces nobody."""
        impostor = certificate(KEY)
        options = self.options(KEY, impostor, IDENTITY.certificate)
        self.refused(options, PinnedServer(IDENTITY.fingerprint))

    def test_expired(self) -> None:
        """The pin is all that counts: an expired certificate with it is the same server."""
        expired = certificate(KEY, start=NOW - 3 * DAY, end=NOW - 2 * DAY)
        pin = pin_of(expired)
        self.accepted(self.options(KEY, expired), PinnedServer(pin))

    def test_again(self) -> None:
        """Each connection is verified for itself, also after one that was right."""
        pinned = PinnedServer(IDENTITY.fingerprint)
        genuine, impostor = options_of_identity(IDENTITY), self.options(KEY, certificate(KEY))
        for _ in range(2):
            self.accepted(genuine, pinned)
            self.refused(impostor, pinned)

    def test_old_protocol(self) -> None:
        """TLS before 1.2 is spoken by neither side."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)

        @implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
        class Old:
            """A peer that has nothing newer."""

            def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
                return SSL.Connection(context, None)

            clientConnectionForTLS = serverConnectionForTLS

        self.refused(Old(), PinnedServer(IDENTITY.fingerprint))
        self.refused(Old(), server_verification("relay.example.com", None))
        client, server = self.talk(options_of_identity(IDENTITY), Old())
        self.assertEqual((client.heard, server.heard), (b"", b""))


class AuthorityTests(TlsCase):
    """A server known by its name, on the word of an authority that the platform trusts."""

    def setUp(self) -> None:
        super().setUp()
        trusted = self.file("trusted.pem", pem(AUTHORITY))
        for name, value in (("SSL_CERT_FILE", trusted), ("SSL_CERT_DIR", self.folder / "none")):
            if name in os.environ:
                self.addCleanup(os.environ.__setitem__, name, os.environ[name])
            else:
                self.addCleanup(os.environ.pop, name)
            os.environ[name] = str(value)

    def issued(self, *names: x509.GeneralName, **more: Any) -> Any:
        """The options of a server whose certificate the authority issued."""
        leaf = certificate(KEY, *names, issuer=(AUTHORITY_KEY, AUTHORITY), **more)
        return self.options(KEY, leaf)

    def test_right(self) -> None:
        """A certificate of a trusted authority for the name that is dialled is taken."""
        options = self.issued(x509.DNSName("relay.example.com"))
        self.accepted(options, server_verification("relay.example.com", None))

    def test_right_address(self) -> None:
        """The same for an IP address, IPv4 and IPv6."""
        for address in ("192.0.2.1", "2001:db8::1"):
            options = self.issued(x509.IPAddress(ipaddress.ip_address(address)))
            self.accepted(options, server_verification(address, None))

    def test_wrong_name(self) -> None:
        """A certificate for another name, or for none, is refused."""
        for names in (
            (x509.DNSName("other.example.com"),),
            (x509.DNSName("example.com"),),
            (x509.DNSName("relay.example.com.evil.test"),),
            (x509.IPAddress(ipaddress.ip_address("192.0.2.2")),),
            (),
        ):
            self.refused(self.issued(*names), server_verification("relay.example.com", None))

    def test_wrong_address(self) -> None:
        """An address is not verified by a certificate for another one, nor by a name like it."""
        for name in (
            x509.IPAddress(ipaddress.ip_address("192.0.2.2")),
            x509.DNSName("192.0.2.1"),
            x509.DNSName("relay.example.com"),
        ):
            self.refused(self.issued(name), server_verification("192.0.2.1", None))

    def test_expired(self) -> None:
        """A certificate that is over, or has not begun, is refused."""
        name = x509.DNSName("relay.example.com")
        for start, end in ((NOW - 3 * DAY, NOW - 2 * DAY), (NOW + DAY, NOW + 2 * DAY)):
            options = self.issued(name, start=start, end=end)
            self.refused(options, server_verification("relay.example.com", None))

    def test_self_signed(self) -> None:
        """A certificate that vouches for itself is refused, with the right name too."""
        options = self.options(KEY, certificate(KEY, x509.DNSName("relay.example.com")))
        self.refused(options, server_verification("relay.example.com", None))
        self.refused(options_of_identity(IDENTITY), server_verification("relaytun", None))

    def test_unknown_authority(self) -> None:
        """The word of an authority that nobody knows, though it shows itself, is worth nothing."""
        key = ec.generate_private_key(ec.SECP256R1())
        unknown = certificate(key, authority=True)
        leaf = certificate(KEY, x509.DNSName("relay.example.com"), issuer=(key, unknown))
        options = self.options(KEY, leaf, unknown)
        self.refused(options, server_verification("relay.example.com", None))

    def test_issued_by_no_authority(self) -> None:
        """A server with a good certificate cannot issue one for another name."""
        mine = certificate(KEY, x509.DNSName("evil.test"), issuer=(AUTHORITY_KEY, AUTHORITY))
        key = ec.generate_private_key(ec.SECP256R1())
        forged = certificate(key, x509.DNSName("relay.example.com"), issuer=(KEY, mine))
        options = self.options(key, forged, mine)
        self.refused(options, server_verification("relay.example.com", None))

    def test_pin_is_enough_and_needed(self) -> None:
        """With a pin, no authority helps another certificate: there is no second way in."""
        options = self.issued(x509.DNSName("relay.example.com"))
        creator = server_verification("relay.example.com", IDENTITY.fingerprint)
        self.assertIsInstance(creator, PinnedServer)
        self.refused(options, creator)
        self.accepted(options_of_identity(IDENTITY), creator)


class FilesTests(TlsCase):
    """A server's certificate from files."""

    def wrong(self, shown: bytes, key: bytes, *saying: str) -> None:
        """These files are a UserError of one line."""
        paths = self.file("cert.pem", shown), self.file("key.pem", key)
        error = self.assertRaises(UserError, options_of_files, *paths)
        for text in saying:
            self.assertIn(text, str(error))
        self.assertNotIn("PRIVATE", str(error))

    def test_kinds_of_keys(self) -> None:
        """P-256, P-384, RSA and Ed25519 keys are all served, and the certificate is returned."""
        for key in (
            KEY,
            ec.generate_private_key(ec.SECP384R1()),
            rsa.generate_private_key(65537, 2048),
            ed25519.Ed25519PrivateKey.generate(),
        ):
            shown = certificate(key)
            options, returned = options_of_files(
                self.file("cert.pem", pem(shown)), self.file("key.pem", pem(key))
            )
            self.assertEqual(returned, shown)
            pin = pin_of(shown)
            self.accepted(options, PinnedServer(pin))

    def test_one_file(self) -> None:
        """Key and certificates may be in one file."""
        both = self.file("both.pem", pem(KEY, certificate(KEY)))
        options_of_files(both, both)

    def test_not_a_pair(self) -> None:
        """A key of another certificate is told with both files' names."""
        self.wrong(pem(certificate(KEY)), pem(AUTHORITY_KEY), "key.pem", "cert.pem", "not the key")
        leaf = certificate(KEY, issuer=(AUTHORITY_KEY, AUTHORITY))
        self.wrong(pem(AUTHORITY, leaf), pem(KEY), "the first certificate")

    def test_no_certificate(self) -> None:
        """A file without a certificate is told with its name."""
        for content in (b"", b"garbage\0\xff", pem(KEY), pem(certificate(KEY))[:100]):
            self.wrong(content, pem(KEY), "cert.pem")

    def test_no_key(self) -> None:
        """A file without a key, or with one that needs a password, is told with its name."""
        encrypted = KEY.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
        for content in (b"", b"garbage\0\xff", pem(certificate(KEY)), pem(KEY)[:100], encrypted):
            self.wrong(pem(certificate(KEY)), content, "key.pem", "no unencrypted PEM key")

    def test_missing(self) -> None:
        """A file that is not there, or is a directory, is told with its name."""
        good = self.file("good.pem", pem(KEY, certificate(KEY)))
        for bad in (self.folder / "missing.pem", self.folder):
            for paths in ((bad, good), (good, bad)):
                error = self.assertRaises(UserError, options_of_files, *paths)
                self.assertIn(str(bad), str(error))

    def test_odd_certificate(self) -> None:
        """A certificate of a version that does not exist is told, and is no traceback."""
        der = bytearray(certificate(KEY).public_bytes(serialization.Encoding.DER))
        version = der.index(b"\xa0\x03\x02\x01\x02")
        der[version + 4] = 7
        self.wrong(
            b"-----BEGIN CERTIFICATE-----\n"
            + base64.encodebytes(bytes(der))
            + b"-----END CERTIFICATE-----\n",
            pem(KEY),
            "cert.pem",
        )

    def test_weak_key(self) -> None:
        """A key too weak for OpenSSL is told at the start, not at each connection."""
        key = rsa.generate_private_key(65537, 1024)
        self.wrong(pem(certificate(key)), pem(key), "cert.pem", "too small")
