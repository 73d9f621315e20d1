"""Tests of L{relaytun.knownpeers}."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from hypothesis import given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun import knownpeers as module
from relaytun.errors import UserError
from relaytun.knownpeers import KnownPeers, PeerChanged
from relaytun.statedir import StateDir

ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")


class KnownPeersCase(SynchronousTestCase):
    """A test case with a state directory."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.path = self.folder / "known_peers"
        self.warnings: list[str] = []
        self.peers = self.process()

    def process(self) -> KnownPeers:
        """A process that uses the directory."""
        return KnownPeers(StateDir(self.folder), self.warnings.append)

    def lines(self) -> list[str]:
        """What is in the file, but for the heading."""
        return [line for line in self.path.read_text().splitlines() if line[0] != "#"]

    def refuses(self, *arguments: str, by: KnownPeers | None = None) -> str:
        """What C{check} says."""
        return str(self.assertRaises(PeerChanged, (by or self.peers).check, *arguments))


class CheckTests(KnownPeersCase):
    """Whose identity is taken."""

    def test_first_use(self) -> None:
        """A client that is not known may have any identity, and asking remembers nothing."""
        self.peers.check("a", ONE)
        self.peers.check("a", TWO)
        self.assertFalse(self.path.exists())

    def test_same(self) -> None:
        """A client that is known may have the identity that it had."""
        self.peers.remember("a", ONE)
        self.peers.check("a", ONE)
        self.peers.check("b", TWO)

    def test_changed(self) -> None:
        """Another one is refused, with all that one needs to judge it and to go on."""
        self.peers.remember("b", THREE)
        self.peers.remember("a", ONE)
        said = self.refuses("a", TWO)
        for part in (
            "the identity of a has changed",
            "somebody may be in between",
            "set up anew",
            f"known is {ONE}, by line 3 of {self.path}",
            f"seen is  {TWO}",
            "relaytun id",
            f"remove line 3 of {self.path}",
            f"peer_fingerprint = {TWO}",
            f"allow = a@{TWO}",
        ):
            self.assertIn(part, said)

    def test_accepted(self) -> None:
        """Removing the line that was named accepts the new identity, without a restart."""
        self.peers.remember("b", THREE)
        self.peers.remember("a", ONE)
        self.refuses("a", TWO)
        kept = self.path.read_text().splitlines()
        self.assertIn(ONE, kept.pop(2))
        self.path.write_text("\n".join(kept))
        self.peers.check("a", TWO)
        self.peers.remember("a", TWO)
        self.refuses("a", ONE)
        self.peers.check("b", THREE)

    def test_pin(self) -> None:
        """A pin wins over the file, for and against an identity."""
        self.peers.remember("a", ONE)
        self.peers.check("a", TWO, TWO)
        said = self.refuses("a", ONE, TWO)
        for part in ("the configuration demands", f"pinned is {TWO}", f"seen is   {ONE}"):
            self.assertIn(part, said)
        self.peers.remember("a", TWO, "web")
        self.assertEqual(self.lines(), [f"a {ONE}"])

    def test_two_lines(self) -> None:
        """Whoever writes two lines for a client takes either identity."""
        StateDir(self.folder).write("known_peers", f"a {ONE}\na {TWO}\n".encode())
        self.peers.check("a", ONE)
        self.peers.check("a", TWO)
        self.assertIn("line 1 of", self.refuses("a", THREE))

    def test_another_process(self) -> None:
        """What another process has learned counts at once."""
        other = self.process()
        other.check("a", ONE)
        self.peers.check("a", TWO)
        other.remember("a", ONE)
        self.refuses("a", TWO)
        self.peers.remember("a", TWO)
        self.assertEqual(self.lines(), [f"a {ONE}"])


class FileTests(KnownPeersCase):
    """What is written, and what people may have written."""

    def test_lines(self) -> None:
        """There is a line for each client, with the services that were visited over links."""
        self.peers.remember("a", ONE)
        self.peers.remember("b", TWO, "ssh")
        self.peers.remember("b", TWO, "web")
        self.peers.remember("b", TWO, "ssh")
        self.peers.remember("b", TWO)
        self.assertEqual(self.lines(), [f"a {ONE}", f"b {TWO} ssh,web"])
        self.assertEqual(self.path.read_text()[:2], "# ")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_nothing_new(self) -> None:
        """What is known already is not written again."""
        self.peers.remember("a", ONE, "web")
        before = self.path.stat()
        self.peers.remember("a", ONE, "web")
        self.peers.remember("a", ONE)
        self.peers.remember("a", TWO)
        self.assertEqual(self.path.stat(), before)

    def test_guests(self) -> None:
        """The name that a server makes up for a passing login is not remembered."""
        self.peers.remember("guest-0123abcd", ONE)
        self.assertFalse(self.path.exists())
        self.peers.remember("guest-room", ONE)
        self.assertEqual(self.lines(), [f"guest-room {ONE}"])

    def test_hand_made(self) -> None:
        """Comments, blanks and capitals are welcome, and stay where they are."""
        mine = (
            "# my peers\r\n\n"
            f"  a\t{ONE.upper().replace('SHA', 'sha')}   # the laptop\n"
            f"b {TWO} web # at work\n"
            "\udcff what is this"
        )
        StateDir(self.folder).write("known_peers", mine.encode("utf-8", "surrogateescape"))
        self.peers.check("a", ONE)
        self.refuses("a", TWO)
        self.assertTrue(self.peers.was_linked("b", "web"))
        self.peers.remember("b", TWO, "ssh")
        self.peers.remember("c", THREE)
        self.assertEqual(
            self.path.read_bytes().decode("utf-8", "surrogateescape"),
            mine.replace(f"b {TWO} web # at", f"b {TWO} web,ssh # at") + f"\nc {THREE}\n",
        )

    def test_broken_line(self) -> None:
        """A line that cannot be read is an error for its client, and for nobody else."""
        for broken in (
            "a",
            "a sha256:00",
            f"a {ONE[:-1]}",
            f"a {ONE}0",
            f"a {ONE} web, ssh",
            f"a {ONE} we/b",
            f"a {ONE} ,",
            f"a {ONE} web#",
        ):
            StateDir(self.folder).write("known_peers", f"# x\n{broken}\nb {TWO}\n".encode())
            for ask in (
                lambda: self.peers.check("a", ONE),
                lambda: self.peers.was_linked("a", "web"),
            ):
                said = str(self.assertRaises(UserError, ask))
                self.assertIn(f"line 2 of {self.path} is about a and cannot be read", said)
            self.peers.check("a", ONE, ONE)
            self.peers.check("b", TWO)
            self.peers.remember("a", ONE)
            self.peers.remember("b", TWO, "web")
            self.assertEqual(self.lines(), [broken, f"b {TWO} web"])

    def test_unreadable(self) -> None:
        """A file that cannot be read is an error, not an empty one."""
        self.path.mkdir()
        error = self.assertRaises(UserError, self.peers.check, "a", ONE)
        self.assertIn(f"cannot read {self.path}", str(error))
        self.peers.remember("a", ONE)
        self.peers.remember("b", TWO)
        (warning,) = self.warnings
        self.assertIn("new clients are not remembered for good", warning)

    def test_full_disk(self) -> None:
        """What cannot be written holds until the process ends, and is said once."""

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", full)
        self.peers.remember("a", ONE)
        self.peers.remember("b", TWO)
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("No space left", self.warnings[0])
        self.assertFalse(self.path.exists())
        self.refuses("a", TWO)

    def test_full_file(self) -> None:
        """With so many lines nobody is forgotten, and nobody is added; that is said once."""
        self.patch(module, "MOST_LINES", 3)
        self.peers.remember("a", ONE)
        self.peers.remember("b", TWO)
        for client_id in ("c", "d", "c"):
            self.peers.remember(client_id, THREE)
        self.peers.remember("a", ONE, "web")
        self.assertEqual(self.lines(), [f"a {ONE} web", f"b {TWO}"])
        (warning,) = self.warnings
        self.assertIn(f"{self.path} has 3 lines: no further clients are remembered", warning)

    def test_many_processes(self) -> None:
        """Processes that learn at the same time lose nothing."""

        def learn(name: str) -> None:
            peers = self.process()
            for number in range(10):
                peers.remember(f"{name}{number}", ONE, "web")

        threads = [threading.Thread(target=learn, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {f"{name}{number} {ONE} web" for name in "abcd" for number in range(10)}
        self.assertEqual((set(self.lines()), len(self.lines())), (expected, 40))

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
            | st.sampled_from([f"a {ONE}", f"a {ONE} web", f"b {TWO} #x", f"c  {ONE}", "a", "#"]),
            max_size=6,
        )
    )
    def test_whatever_is_there(self, given_lines: list[str]) -> None:
        """Whatever stands in the file, nothing is lost from it, and new clients are known."""
        given_bytes = "\n".join(given_lines).encode()
        StateDir(self.folder).write("known_peers", given_bytes)
        peers = self.process()
        peers.remember("new", THREE, "web")
        self.assertTrue(self.path.read_bytes().startswith(given_bytes))
        again = self.process()
        again.check("new", THREE)
        self.assertTrue(again.was_linked("new", "web"))
        self.refuses("new", TWO, by=again)


class DowngradeTests(KnownPeersCase):
    """What was encrypted once."""

    def test_was_linked(self) -> None:
        """A service was linked if a link to that client and service was remembered."""
        self.peers.remember("a", ONE, "web")
        self.peers.remember("b", TWO)
        for client_id, service, linked in (
            ("a", "web", True),
            ("a", "ssh", False),
            ("b", "web", False),
            ("c", "web", False),
        ):
            self.assertEqual(self.process().was_linked(client_id, service), linked)

    def test_downgraded(self) -> None:
        """It says what happened, what it may mean, and both ways to go on."""
        self.peers.remember("a", ONE, "web")
        said = self.peers.downgraded("a", "web")
        for part in (
            "a offers web in raw mode now",
            "the server can read",
            "the server wants to listen in",
            "write mode = raw in its [connect:...] section",
            f"remove web from line 2 of {self.path}",
        ):
            self.assertIn(part, said)
        StateDir(self.folder).write("known_peers", f"a {ONE}\n".encode())
        self.assertFalse(self.peers.was_linked("a", "web"))
