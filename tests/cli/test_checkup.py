"""Tests of L{relaytun.cli.checkup}."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.checkup import Checkup, NotNow, Work, usable_state_dir
from relaytun.errors import ConfigError, UserError


def raising(error: Exception) -> Work:
    """A check that ends so."""

    def work() -> str:
        raise error

    return work


class CheckupTests(SynchronousTestCase):
    """Checks, their lines, and what follows from a failure."""

    def setUp(self) -> None:
        self.checkup = Checkup()

    def check(self, name: str, work: Work, *needs: str) -> list[str]:
        """Make a check; returns the words of what it prints, joined."""
        with contextlib.redirect_stdout(io.StringIO()) as output:
            self.successResultOf(Deferred.fromCoroutine(self.checkup.check(name, work, *needs)))
        return [" ".join(line.split()) for line in output.getvalue().splitlines()]

    def test_well(self) -> None:
        """What returns a sentence, now or later, is ok."""

        async def later() -> str:
            return "fine"

        self.assertEqual(self.check("one", lambda: "good"), ["ok one good"])
        self.assertEqual(self.check("two", later), ["ok two fine"])
        self.assertFalse(self.checkup.failed)

    def test_failed(self) -> None:
        """What raises a user's error has failed, with a line for each problem."""
        self.assertEqual(self.check("one", raising(UserError("bad"))), ["FAIL one bad"])
        self.assertTrue(self.checkup.failed)
        self.assertEqual(
            self.check("two", raising(ConfigError(["a", "b"]))), ["FAIL two a", "FAIL two b"]
        )

    def test_not_now(self) -> None:
        """What has nothing to check is skipped, and that is no failure."""
        self.assertEqual(self.check("one", raising(NotNow("no need"))), ["skipped one no need"])
        self.assertFalse(self.checkup.failed)

    def test_dependent(self) -> None:
        """What needs a check that is not well is not made."""
        self.check("one", lambda: "good")
        self.check("two", raising(UserError("bad")))
        self.check("three", raising(NotNow("no need")))
        unmade = raising(AssertionError("it was made"))
        for needs, missing in (
            (("two",), "two"),
            (("one", "three"), "three"),
            (("never",), "never"),
        ):
            self.assertEqual(
                self.check("four", unmade, *needs),
                [f"skipped four needs what is not well above: {missing}"],
            )
        self.assertEqual(self.check("five", lambda: "good", "one"), ["ok five good"])


class StateDirTests(SynchronousTestCase):
    """Looking at a state directory without touching it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_there(self) -> None:
        """A directory that is there and writable is usable."""
        self.assertEqual(usable_state_dir(self.folder), f"{self.folder} is usable")

    def test_to_be_made(self) -> None:
        """One that is not there yet is fine if it can be made, and is not made."""
        path = self.folder / "a" / "b"
        self.assertEqual(usable_state_dir(path), f"{path} is not there yet; it can be made")
        self.assertEqual(os.listdir(self.folder), [])

    def test_file(self) -> None:
        """A file in its place, or above it, is in the way."""
        (self.folder / "f").write_text("")
        for path in (self.folder / "f", self.folder / "f" / "g"):
            with self.assertRaisesRegex(UserError, "/f is not a directory"):
                usable_state_dir(path)

    def test_forbidden(self) -> None:
        """One that may not be written is said to be so."""
        self.patch(os, "access", lambda path, mode: False)
        with self.assertRaisesRegex(UserError, "cannot be written by this user"):
            usable_state_dir(self.folder)
