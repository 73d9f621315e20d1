"""Tests of L{relaytun.link.identity}."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link.identity import Identity, der, fingerprint, is_signed_by

ANN = Identity.make("ann")
BOB = Identity.make("bob")
STATEMENT = b"what is signed"
SIGNATURE = ANN.sign(STATEMENT)


def pem_of(key: object, password: bytes | None = None) -> bytes:
    """A private key as PEM."""
    protection = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )


def certificate_of(key: object) -> x509.Certificate:
    """A self-signed certificate of whichever key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(
            key,  # type: ignore[arg-type]
            None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256(),
        )
    )


class IdentityTests(SynchronousTestCase):
    """Making and keeping an identity."""

    def test_fingerprint(self) -> None:
        """The fingerprint is the SHA-256 of the certificate, in hexadecimal, with its name."""
        self.assertEqual(ANN.fingerprint, "sha256:" + hashlib.sha256(ANN.der).hexdigest())
        self.assertEqual(fingerprint(der(ANN.certificate)), ANN.fingerprint)
        self.assertNotEqual(ANN.fingerprint, BOB.fingerprint)

    def test_round_trip(self) -> None:
        """What is written is read as the same identity, in either order of key and certificate."""
        pem = ANN.to_pem()
        cut = pem.index(b"-----BEGIN CERTIFICATE")
        for text in (pem, pem[cut:] + pem[:cut]):
            read = Identity.from_pem(text)
            self.assertEqual(read.fingerprint, ANN.fingerprint)
            self.assertTrue(is_signed_by(ANN.der, read.sign(STATEMENT), STATEMENT))

    def test_new_each_time(self) -> None:
        """Two identities of one name have nothing in common."""
        again = Identity.make("ann")
        self.assertNotEqual(again.fingerprint, ANN.fingerprint)
        self.assertNotEqual(again.key.public_key(), ANN.key.public_key())

    def test_certificate(self) -> None:
        """The certificate is of a P-256 key, is its own issuer, and has the name."""
        certificate = ANN.certificate
        certificate.verify_directly_issued_by(certificate)
        self.assertIsInstance(ANN.key.curve, ec.SECP256R1)
        self.assertEqual(certificate.subject.rfc4514_string(), "CN=ann")

    def test_lifetime(self) -> None:
        """It is valid for clocks that are a day wrong, and for a lifetime."""
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        self.assertLess(ANN.certificate.not_valid_before_utc, now - day)
        self.assertGreater(ANN.certificate.not_valid_after_utc, now + 50 * 365 * day)

    def test_hosts(self) -> None:
        """A server's certificate has its hosts as alternative names; a client's has none."""
        hosts = (x509.DNSName("example.com"), x509.IPAddress(ipaddress.ip_address("192.0.2.1")))
        names = Identity.make("server", hosts).certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        self.assertEqual(tuple(names.value), hosts)
        self.assertEqual(len(ANN.certificate.extensions), 0)

    def test_unusable(self) -> None:
        """What holds no P-256 key with its own certificate is a ValueError, whatever it is."""
        key = ANN.to_pem()[: ANN.to_pem().index(b"-----BEGIN CERTIFICATE")]
        certificate = ANN.to_pem()[len(key) :]
        rsa_key = rsa.generate_private_key(65537, 2048)
        ed_key = ed25519.Ed25519PrivateKey.generate()
        p384_key = ec.generate_private_key(ec.SECP384R1())
        for text in (
            b"",
            b"garbage",
            key,
            certificate,
            key + BOB.to_pem()[len(key) :],
            key[: len(key) // 2],
            key.replace(b"M", b"N", 1) + certificate,
            pem_of(ANN.key, b"password") + certificate,
            *(
                pem_of(one) + certificate_of(one).public_bytes(serialization.Encoding.PEM)
                for one in (rsa_key, ed_key, p384_key)
            ),
        ):
            self.assertRaises(ValueError, Identity.from_pem, text)

    @settings(max_examples=150)
    @given(st.integers(0, len(ANN.to_pem()) - 1), st.binary(max_size=3))
    def test_damaged_file(self, place: int, damage: bytes) -> None:
        """A damaged file is read as the identity it was, or is a ValueError."""
        pem = ANN.to_pem()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            try:
                read = Identity.from_pem(pem[:place] + damage + pem[place + len(damage) + 1 :])
            except ValueError:
                return
        self.assertEqual(read.key.public_key(), ANN.key.public_key())


class SignatureTests(SynchronousTestCase):
    """Who signed what."""

    def test_signed(self) -> None:
        """Who holds the key signed it, and it is good for that statement and key alone."""
        self.assertTrue(is_signed_by(ANN.der, SIGNATURE, STATEMENT))
        self.assertFalse(is_signed_by(BOB.der, SIGNATURE, STATEMENT))
        self.assertFalse(is_signed_by(ANN.der, SIGNATURE, STATEMENT + b"!"))
        self.assertFalse(is_signed_by(ANN.der, BOB.sign(STATEMENT), STATEMENT))

    def test_other_keys(self) -> None:
        """A signature of another kind of key, though it were good, is none here."""
        p384 = ec.generate_private_key(ec.SECP384R1())
        signature = p384.sign(STATEMENT, ec.ECDSA(hashes.SHA256()))
        self.assertFalse(is_signed_by(der(certificate_of(p384)), signature, STATEMENT))
        edwards = ed25519.Ed25519PrivateKey.generate()
        signature = edwards.sign(STATEMENT)
        self.assertFalse(is_signed_by(der(certificate_of(edwards)), signature, STATEMENT))

    @settings(max_examples=200)
    @given(st.binary(max_size=200), st.binary(max_size=100), st.binary(max_size=50))
    @example(b"", b"", b"")
    @example(b"0\x80", b"0\x80", b"")
    def test_anything(self, certificate: bytes, signature: bytes, statement: bytes) -> None:
        """Whatever three byte strings a stranger sends, it is not signed, and no exception."""
        self.assertFalse(is_signed_by(certificate, signature, statement))
        self.assertFalse(is_signed_by(ANN.der, signature, statement))
        self.assertFalse(is_signed_by(certificate, SIGNATURE, STATEMENT))

    def test_every_byte_of_the_certificate(self) -> None:
        """However its bytes are changed, a certificate is another's, or nobody's: no exception."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            for place in range(len(ANN.der)):
                for change in (0x01, 0x02, 0x04, 0x80, 0xFF):
                    damaged = bytearray(ANN.der)
                    damaged[place] ^= change
                    self.assertIsInstance(is_signed_by(bytes(damaged), SIGNATURE, STATEMENT), bool)
                    self.assertNotEqual(fingerprint(bytes(damaged)), ANN.fingerprint)

    def test_every_bit_of_the_signature(self) -> None:
        """With any bit of it flipped, a signature is none."""
        for bit in range(len(SIGNATURE) * 8):
            damaged = bytearray(SIGNATURE)
            damaged[bit // 8] ^= 1 << bit % 8
            self.assertFalse(is_signed_by(ANN.der, bytes(damaged), STATEMENT))
