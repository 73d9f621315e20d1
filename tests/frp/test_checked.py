"""Tests of L{relaytun.frp.checked}; what comes of whole files is in C{test_convert}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import UserError
from relaytun.frp.checked import checked
from relaytun.frp.notes import Notes
from relaytun.frp.parts import Part


def part(header: str, **keys: str) -> Part:
    """Make a section."""
    made = Part(header, header.partition(":")[2])
    for key, value in keys.items():
        made.put(key, value)
    return made


class CheckedTests(SynchronousTestCase):
    """What our configuration refuses is left out."""

    def setUp(self) -> None:
        self.notes = Notes()
        self.client = part("client", server="wss://a:1")

    def test_key(self) -> None:
        """A key goes, with those that need it, and the section stays."""
        service = part(
            "service:a",
            protocol="tcp",
            local_port="1",
            remote_port="6000",
            health_check="smell",
            health_check_interval="3s",
        )
        self.assertEqual(
            checked("client", [self.client, service], self.notes), [self.client, service]
        )
        self.assertEqual(service.keys, ["protocol", "local_port", "remote_port"])
        (line,) = self.notes.lines
        self.assertTrue(line.startswith("a: health_check: not a health check"), line)

    def test_section(self) -> None:
        """A section goes with what it needs, or what keeps others out; the others stay."""
        for keys in (
            {"local_port": "0"},
            {"local_port": "1", "allow": "a b"},
            {"local_port": "1", "remote_port": "1", "group": "a b"},
        ):
            service = part("service:a", protocol="tcp", **keys)
            left = checked("client", [self.client, service], self.notes)
            self.assertEqual(left, [self.client])
            self.assertIn("so the whole section is left out", self.notes.lines[-1])

    def test_empty(self) -> None:
        """A section with nothing left in it goes, but for the one that says whose file it is."""
        server, public = part("server"), part("public", allow_ports="x")
        self.assertEqual(checked("server", [server, public], self.notes), [server])

    def test_nothing_left(self) -> None:
        """Without a client's own section there is no client, and the reason is the error."""
        error = self.assertRaises(UserError, checked, "client", [part("client")], self.notes)
        self.assertIn("invite: missing", str(error))

    def test_our_own_fault(self) -> None:
        """What cannot even be read is an error and never an endless loop."""
        broken = part("service:a\n= b", protocol="tcp")
        error = self.assertRaises(UserError, checked, "client", [self.client, broken], self.notes)
        self.assertIn("what would be written is not valid", str(error))
