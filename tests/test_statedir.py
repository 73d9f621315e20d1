"""Tests of L{relaytun.statedir}."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from relaytun.errors import UserError
from relaytun.statedir import StateDir


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


class StateDirCase(SynchronousTestCase):
    """A test case with a place for a state directory, under the umask of a careless user."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).resolve()
        before = os.umask(0)
        self.addCleanup(os.umask, before)

    def make(self) -> StateDir:
        """As a process would that has just started."""
        state = StateDir(self.path)
        self.addCleanup(state.unlock)
        return state

    def names(self) -> list[str]:
        """What is in it."""
        return sorted(os.listdir(self.path))


class DirectoryTests(StateDirCase):
    """The directory itself."""

    def test_made(self) -> None:
        """It is made with its parents, and for its owner alone."""
        self.path = self.path / "deep" / "down"
        self.make()
        self.assertEqual(mode(self.path), 0o700)

    def test_closed(self) -> None:
        """One that others could look into is closed to them."""
        for bits in (0o777, 0o755, 0o701, 0o710):
            self.path.mkdir(exist_ok=True)
            self.path.chmod(bits)
            self.make()
            self.assertEqual(mode(self.path), 0o700)

    def test_unusable(self) -> None:
        """One that can be neither made nor used is a UserError that says what to do."""
        self.path.write_text("a file")
        for path in (self.path, self.path / "below"):
            error = self.assertRaises(UserError, StateDir, path)
            self.assertIn(str(path), str(error))
            self.assertIn("--state-dir", str(error))
            self.assertNotIn("\n", str(error))

    def test_forbidden(self) -> None:
        """One in which nothing may be written is a UserError, at the lock or at the first file."""
        if os.geteuid() == 0:
            raise SkipTest("root may write everywhere")
        state = self.make()
        self.path.chmod(0o500)
        self.addCleanup(self.path.chmod, 0o700)
        for attempt in (state.lock, lambda: state.write("x", b"")):
            error = self.assertRaises(UserError, attempt)
            self.assertIn(str(self.path), str(error))

    def test_vanished(self) -> None:
        """One that vanishes while in use is a UserError at every use."""
        state = self.make()
        self.path.rmdir()
        for attempt in (
            state.lock,
            lambda: state.write("x", b""),
            lambda: state.read_or_make("x", lambda: b""),
        ):
            error = self.assertRaises(UserError, attempt)
            self.assertIn(str(self.path), str(error))
        self.assertIsNone(state.read("x"))


class LockTests(StateDirCase):
    """One process at a time."""

    def test_excludes(self) -> None:
        """Who comes second is told who holds it, and the first goes on holding it."""
        first, second = self.make(), self.make()
        first.lock()
        for _ in range(2):
            error = self.assertRaises(UserError, second.lock)
            self.assertIn(str(self.path), str(error))
            self.assertIn(f"(pid {os.getpid()})", str(error))
            self.assertIn("--state-dir", str(error))

    def test_unlock(self) -> None:
        """Who lets go makes way for the next; letting go twice is no matter."""
        first, second = self.make(), self.make()
        first.lock()
        first.unlock()
        first.unlock()
        second.lock()
        self.assertRaises(UserError, first.lock)

    def test_killed(self) -> None:
        """The lock of a process that was killed is nobody's, though its file is still there."""
        ready, tell = os.pipe()
        hold, release = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover
            try:
                os.close(release)
                StateDir(self.path).lock()
                os.write(tell, b"+")
                os.read(hold, 1)
            finally:
                os._exit(0)
        os.close(tell)
        os.close(hold)
        self.assertEqual(os.read(ready, 1), b"+")
        state = self.make()
        error = self.assertRaises(UserError, state.lock)
        self.assertIn(f"(pid {child})", str(error))
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(release)
        os.close(ready)
        self.assertEqual(self.names(), ["lock"])
        state.lock()

    def test_file(self) -> None:
        """The lock's file is its owner's alone, and names the process that holds it."""
        state = self.make()
        state.lock()
        self.assertEqual(mode(self.path / "lock"), 0o600)
        self.assertEqual((self.path / "lock").read_text(), str(os.getpid()))

    def test_not_inherited(self) -> None:
        """A program that the process starts does not hold the lock with it."""
        state = self.make()
        state.lock()
        assert state._lock is not None
        self.assertFalse(os.get_inheritable(state._lock))

    def test_nameless_owner(self) -> None:
        """When the holder's number cannot be read the message does without."""
        first, second = self.make(), self.make()
        first.lock()
        (self.path / "lock").write_text("")
        error = self.assertRaises(UserError, second.lock)
        self.assertNotIn("pid", str(error))

    def test_reads_are_free(self) -> None:
        """Who does not hold the lock may read, as the status command does."""
        first, second = self.make(), self.make()
        first.lock()
        first.write("invite", b"relaytun://")
        self.assertEqual(second.read("invite"), b"relaytun://")


class FileTests(StateDirCase):
    """The files in it."""

    def test_round_trip(self) -> None:
        """What is written is read; what was never written is None."""
        state = self.make()
        self.assertIsNone(state.read("x"))
        for content in (b"one", b"", bytes(range(256)) * 1000):
            state.write("x", content)
            self.assertEqual(state.read("x"), content)
        self.assertEqual(self.names(), ["x"])

    def test_mode(self) -> None:
        """Every file is its owner's alone, also one that was open to others before."""
        state = self.make()
        (self.path / "x").write_bytes(b"old")
        (self.path / "x").chmod(0o666)
        state.write("x", b"new")
        state.read_or_make("y", lambda: b"made")
        self.assertEqual([mode(self.path / name) for name in "xy"], [0o600, 0o600])

    def test_replaced_as_a_whole(self) -> None:
        """Whoever has the old file open goes on reading the old content: it is never half new."""
        state = self.make()
        state.write("x", b"old")
        with (self.path / "x").open("rb") as stream:
            state.write("x", b"completely new")
            self.assertEqual(stream.read(), b"old")

    def test_failed_write(self) -> None:
        """A write that fails leaves the old content, and nothing beside it."""
        state = self.make()
        state.write("x", b"old")
        self.patch(os, "fsync", self.disk_full)
        for attempt in (
            lambda: state.write("x", b"new"),
            lambda: state.read_or_make("y", lambda: b"new"),
        ):
            error = self.assertRaises(UserError, attempt)
            self.assertIn("No space left", str(error))
        self.assertEqual((state.read("x"), self.names()), (b"old", ["x"]))

    def test_synced(self) -> None:
        """The content is on the disk before it takes the old one's place."""
        state = self.make()
        state.write("x", b"old")
        steps: list[str] = []
        sync, replace = os.fsync, os.replace

        def synced(descriptor: int) -> None:
            steps.append(f"sync {os.fstat(descriptor).st_size}")
            sync(descriptor)

        def replaced(source: str, target: Path) -> None:
            steps.append("replace")
            replace(source, target)

        self.patch(os, "fsync", synced)
        self.patch(os, "replace", replaced)
        state.write("x", b"12345")
        self.assertEqual(steps[:2], ["sync 5", "replace"])

    def test_unreadable(self) -> None:
        """A file that is there and cannot be read is a UserError that names it, not None."""
        state = self.make()
        (self.path / "x").mkdir()
        error = self.assertRaises(UserError, state.read, "x")
        self.assertIn(str(self.path / "x"), str(error))

    def disk_full(self, descriptor: int) -> None:
        """What fsync does on a full disk."""
        raise OSError(28, "No space left on device")


class MakeTests(StateDirCase):
    """Files that are made when they are missing."""

    def test_once(self) -> None:
        """It is made once, and then read."""
        state = self.make()
        self.assertEqual(state.read_or_make("x", lambda: b"made"), b"made")
        self.assertEqual(state.read_or_make("x", self.never), b"made")
        self.assertEqual(self.make().read_or_make("x", self.never), b"made")

    def test_somebody_was_faster(self) -> None:
        """Who finds, when it has made its own, that another is there, takes that one."""
        state = self.make()

        def slowly() -> bytes:
            self.make().write("x", b"theirs")
            return b"mine"

        self.assertEqual(state.read_or_make("x", slowly), b"theirs")
        self.assertEqual((state.read("x"), self.names()), (b"theirs", ["x"]))

    def test_all_at_once(self) -> None:
        """Of many who make it at the same time all end with the same content, whole."""
        start = threading.Barrier(8)
        results: list[bytes] = []

        def race(number: int) -> None:
            state = StateDir(self.path)

            def make() -> bytes:
                start.wait()
                return b"%d" % number * 5000

            results.append(state.read_or_make("x", make))

        self.path.mkdir()
        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(results), 8)
        self.assertEqual(set(results), {(self.path / "x").read_bytes()})
        self.assertEqual(len(results[0]), 5000)
        self.assertEqual(self.names(), ["x"])

    def test_failing_maker(self) -> None:
        """When making fails nothing is left, and it may be tried again."""
        state = self.make()
        self.assertRaises(RuntimeError, state.read_or_make, "x", self.never)
        self.assertEqual(self.names(), [])
        self.assertEqual(state.read_or_make("x", lambda: b"made"), b"made")

    def never(self) -> bytes:
        """Nobody calls this."""
        raise RuntimeError("called")
