"""Tests of L{relaytun.server.https.certificates} and L{relaytun.server.https.credential}."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import UserError
from relaytun.server.https.certificates import INTERVAL, Certificates
from relaytun.server.https.credential import Credential

from .issuer import DAY, Authority, now

AUTHORITY = Authority()


class CertificatesTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.clock = Clock()

    def certificates(self, **options: Any) -> Certificates:
        made = Certificates(self.folder, self.clock, **options)
        made.startService()
        self.addCleanup(made.stopService)
        return made

    def put(self, name: str, *parts: bytes) -> None:
        """As a careful program does: the whole or nothing, a new inode."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(".new")
        new.write_bytes(b"".join(parts))
        os.replace(new, path)

    def look(self) -> list[str]:
        """Let the next look be taken; returns what is logged then."""
        with capturedLogs() as events:
            self.clock.advance(INTERVAL)
        return [formatEvent(event) for event in events]


class FolderTests(CertificatesTestCase):
    """Where certificates are found, and under which names."""

    def test_layouts(self) -> None:
        """The key may be in the file or beside it, or all may lie as certbot has it."""
        self.put("one.pem", *AUTHORITY.issue("one.example"), AUTHORITY.certificate)
        certificate, key = AUTHORITY.issue("two.example", "2.example")
        self.put("two.pem", certificate)
        self.put("two.key", key)
        for folder in ("three", "live/four"):
            certificate, key = AUTHORITY.issue(folder.rpartition("/")[2] + ".example")
            self.put(f"{folder}/fullchain.pem", certificate)
            self.put(f"{folder}/privkey.pem", key)
        self.put("live/README", b"This directory contains your keys and certificates.")
        found = self.certificates()
        for name in ("one", "two", "2", "three", "four"):
            self.assertIsNotNone(found.find(f"{name}.example"))
        self.assertIsNone(found.find("five.example"))
        one = found.credential("one.example")
        assert one is not None
        self.assertEqual(len(one.chain), 2)

    def test_one_name(self) -> None:
        """The folder may be the one that certbot keeps for a single name, with all its files."""
        certificate, key = AUTHORITY.issue("one.example")
        for name in ("cert", "fullchain"):
            self.put(f"{name}.pem", certificate)
        self.put("chain.pem", AUTHORITY.certificate)
        self.put("privkey.pem", key)
        with capturedLogs() as events:
            self.assertIsNotNone(self.certificates().find("one.example"))
        self.assertEqual(len(events), 1)

    def test_wildcards(self) -> None:
        """A wildcard stands for one label, and gives way to an exact name."""
        self.put("all.pem", *AUTHORITY.issue("*.Example.com", days=20))
        self.put("www.pem", *AUTHORITY.issue("www.example.com", "example.com"))
        found = self.certificates()
        names = {
            name: sorted(credential.names) if (credential := found.credential(name)) else None
            for name in ("www.example.com", "a.example.com", "a.b.example.com", "com", "")
        }
        self.assertEqual(
            names,
            {
                "www.example.com": ["example.com", "www.example.com"],
                "a.example.com": ["*.example.com"],
                "a.b.example.com": None,
                "com": None,
                "": None,
            },
        )

    def test_longest(self) -> None:
        """Of two for one name the one that ends later is shown, wherever it comes from."""
        for name, days in (("a", 11), ("b", 12), ("c", 10)):
            self.put(f"{name}.pem", *AUTHORITY.issue("www.example", days=days))
        found = self.certificates()

        def left() -> int:
            credential = found.credential("www.example")
            assert credential is not None
            return (credential.ends - now()).days

        self.assertEqual(left(), 10)
        found.add("www.example", b"".join(AUTHORITY.issue("www.example", days=13)))
        self.assertEqual(left(), 11)
        found.add("www.example", b"".join(AUTHORITY.issue("www.example", days=9)))
        self.assertEqual(left(), 11)

    def test_no_folder(self) -> None:
        """A folder that is not there is the user's error; without one nothing is looked for."""
        self.assertRaises(UserError, Certificates, self.folder / "missing", self.clock)
        none = Certificates(None, self.clock)
        none.startService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        none.stopService()
        self.assertIsNone(none.find("www.example"))

    def test_expired(self) -> None:
        """An expired one is shown all the same, and warned about once."""
        self.put("old.pem", *AUTHORITY.issue("old.example"))
        found = self.certificates(now=lambda: now() + 30 * DAY)
        with capturedLogs() as events:
            for _ in range(3):
                self.assertIsNotNone(found.find("old.example"))
        (said,) = [formatEvent(event) for event in events]
        self.assertIn("old.example expired on", said)


class ReplacementTests(CertificatesTestCase):
    """What happens in the folder while it is used."""

    def test_replaced(self) -> None:
        """A certificate that is replaced is shown from the next look on; one added as well."""
        self.put("www.pem", *AUTHORITY.issue("www.example"))
        found = self.certificates()
        old = found.find("www.example")
        self.assertEqual(self.look(), [])
        self.put("www.pem", *AUTHORITY.issue("www.example"))
        self.put("new.pem", *AUTHORITY.issue("new.example"))
        self.assertIs(found.find("www.example"), old)
        self.assertEqual(len(self.look()), 2)
        self.assertIsNotNone(found.find("new.example"))
        self.assertIsNot(found.find("www.example"), old)

    def test_removed(self) -> None:
        """One that is taken away is not shown any more."""
        self.put("www.pem", *AUTHORITY.issue("www.example"))
        found = self.certificates()
        (self.folder / "www.pem").unlink()
        self.look()
        self.assertIsNone(found.find("www.example"))

    def test_half_written(self) -> None:
        """Until certificate and key belong together the old pair is shown; one warning says so."""
        old_certificate, old_key = AUTHORITY.issue("www.example")
        self.put("www.pem", old_certificate)
        self.put("www.key", old_key)
        found = self.certificates()
        context = found.find("www.example")
        certificate, key = AUTHORITY.issue("www.example")
        said = []
        for content in (b"", certificate[:100], certificate[:-10], certificate):
            (self.folder / "www.pem").write_bytes(content)
            said += self.look()
            self.assertIs(found.find("www.example"), context)
        (warning,) = said
        self.assertIn("what it held before is", warning)
        (self.folder / "www.key").write_bytes(key)
        self.look()
        self.assertIsNot(found.find("www.example"), context)

    def test_unreadable(self) -> None:
        """A folder that goes away is complained about once; its certificates stay in use."""
        self.put("www.pem", *AUTHORITY.issue("www.example"))
        found = self.certificates()
        moved = self.folder.with_name("moved")
        self.folder.rename(moved)
        self.assertEqual(len(self.look()), 1)
        self.assertEqual(self.look(), [])
        self.assertIsNotNone(found.find("www.example"))
        moved.rename(self.folder)
        self.put("new.pem", *AUTHORITY.issue("new.example"))
        self.look()
        self.assertIsNotNone(found.find("new.example"))

    def test_stop(self) -> None:
        """After stopService nothing is looked at."""
        found = Certificates(self.folder, self.clock)
        found.startService()
        found.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class CredentialTests(SynchronousTestCase):
    """What is no pair says why."""

    def assert_refused(self, chain: bytes, key: bytes, why: str) -> None:
        error = self.assertRaises(ValueError, Credential.from_pem, chain, key)
        self.assertIn(why, str(error))

    def test_refused(self) -> None:
        """Certificates without a key, with another's, for no name, and what is none."""
        certificate, key = AUTHORITY.issue("www.example")
        self.assert_refused(certificate, certificate, "no unencrypted PEM key")
        self.assert_refused(key, key, "no PEM certificate")
        self.assert_refused(certificate, AUTHORITY.issue("www.example")[1], "is not that of")
        self.assert_refused(*AUTHORITY.issue(), "for no host name")
        self.assert_refused(*AUTHORITY.issue("a b.example"), "for no host name")

    def test_added_for_another(self) -> None:
        """What was obtained for one name is not added for another."""
        added = Certificates(None, Clock())
        content = b"".join(AUTHORITY.issue("www.example"))
        self.assertRaises(ValueError, added.add, "other.example", content)
