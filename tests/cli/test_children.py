"""Tests of L{relaytun.cli.children}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.children import GRACE, PATIENCE, ChildDied, Family
from relaytun.errors import UserError


class FakeProcess:
    """What a child's transport does, on paper."""

    pid = 4711

    def __init__(self) -> None:
        self.signals: list[str] = []
        self.gone = False

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready
        self.signals.append(name)


class FakeReactor(Clock):
    """Starts nothing."""

    def spawnProcess(self, protocol: Any, *arguments: Any, **more: Any) -> None:
        protocol.makeConnection(FakeProcess())


class FamilyTests(SynchronousTestCase):
    """Children that say something, die, and are ended."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.family = Family(self.reactor, Path("/nowhere"))  # type: ignore[arg-type]
        self.child = self.family.twistd("server", "relaytun-server")
        self.process: Any = self.child.transport

    def die(self, signal: int | None = None, code: int | None = None) -> None:
        self.process.gone = True
        error: Exception = ProcessDone(0)
        if signal or code:
            error = ProcessTerminated(code, signal)
        self.child.processEnded(Failure(error))

    def watch(self, wish: Deferred[Any]) -> Deferred[Any]:
        async def story() -> Any:
            return await wish

        return Deferred.fromCoroutine(self.family.watch(story()))

    def test_says(self) -> None:
        """A line is heard once it is whole, whichever pieces it comes in."""
        said = self.child.says(r"port (\d+)")
        self.child.outReceived(b"other\npo")
        self.child.outReceived(b"rt 80")
        self.assertNoResult(said)
        self.child.errReceived(b"80\nport 1\n")
        self.assertEqual(self.successResultOf(said)[1], "8080")

    def test_too_late(self) -> None:
        """A child that does not say it in time is an error that shows what it said."""
        said = self.child.says("ready")
        self.child.outReceived(b"busy\x1b[0m\n")
        self.reactor.advance(PATIENCE)
        text = str(self.failureResultOf(said, UserError).value)
        self.assertEqual(text, "the server is not ready after 30 s; it said last:\n  busy\\x1b[0m")
        self.child.outReceived(b"ready\n")

    def test_story(self) -> None:
        """A story that ends while all live has its result."""
        wish: Deferred[Any] = Deferred()
        watching = self.watch(wish)
        wish.callback(42)
        self.assertEqual(self.successResultOf(watching), 42)

    def test_death(self) -> None:
        """A child that dies ends the story, and its last words are told."""
        for death, how in (
            ({"code": 3}, "exit code 3"),
            ({"signal": 9}, "killed by SIGKILL"),
            ({}, "exit code 0"),
        ):
            self.setUp()
            watching = self.watch(Deferred())
            self.child.outReceived(b"alas\n")
            self.die(**death)
            text = str(self.failureResultOf(watching, ChildDied).value)
            self.assertEqual(text, f"the server (pid 4711) ended: {how}; it said last:\n  alas")

    def test_end(self) -> None:
        """Ending asks kindly, and is over when the process is."""
        ending = Deferred.fromCoroutine(self.family.end())
        self.assertEqual(self.process.signals, ["TERM"])
        self.assertNoResult(ending)
        self.die()
        self.successResultOf(ending)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_end_by_force(self) -> None:
        """A child that does not listen is killed."""
        ending = Deferred.fromCoroutine(self.family.end())
        self.reactor.advance(GRACE)
        self.assertEqual(self.process.signals, ["TERM", "KILL"])
        self.die(signal=9)
        self.successResultOf(ending)

    def test_end_of_the_dead(self) -> None:
        """A child that is dead already needs no ending."""
        self.die(code=1)
        self.successResultOf(Deferred.fromCoroutine(self.family.end()))
        self.assertEqual(self.process.signals, [])
