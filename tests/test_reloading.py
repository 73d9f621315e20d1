"""Tests of L{relaytun.reloading}."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import ConfigError
from relaytun.reloading import Reloader, apply_changes


class Sample(Struct, frozen=True):
    """A configuration."""

    port: int = 1
    most: int = 2
    least: int = 3
    name: str = "a"


class ReloaderTests(SynchronousTestCase):
    """Reading a configuration again."""

    def setUp(self) -> None:
        self.found: Any = Sample()
        self.applied: list[Sample] = []
        self.done: Deferred[None] | None = None
        self.reloader = Reloader(self.load, self.apply)

    def load(self) -> Sample:
        if isinstance(self.found, Exception):
            raise self.found
        found: Sample = self.found
        return found

    async def apply(self, config: Sample) -> list[str]:
        self.applied.append(config)
        if self.done is not None:
            await self.done
        return ["most: changed"]

    def test_applied(self) -> None:
        """What is read is applied; the lines are answered and logged."""
        with capturedLogs() as events:
            self.assertEqual(self.successResultOf(self.reloader.reload()), ["most: changed"])
        self.assertEqual(self.applied, [self.found])
        self.assertEqual([event["line"] for event in events], ["most: changed"])

    def test_broken(self) -> None:
        """A file that is not valid changes nothing; who asked hears all that is wrong."""
        self.found = ConfigError(["a.ini: one", "a.ini: two"])
        self.failureResultOf(self.reloader.reload(), ConfigError)
        with capturedLogs() as events:
            self.reloader.hangup()
        self.assertEqual([event["line"] for event in events], ["a.ini: one", "a.ini: two"])
        self.assertEqual(self.applied, [])
        self.found = Sample()
        self.successResultOf(self.reloader.reload())

    def test_bug(self) -> None:
        """A bug is logged as one when a signal asked."""
        self.found = ZeroDivisionError()
        self.reloader.hangup()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_one_at_a_time(self) -> None:
        """A reload waits for the one before."""
        self.done = Deferred()
        first, second = self.reloader.reload(), self.reloader.reload()
        self.assertEqual(len(self.applied), 1)
        self.done.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(len(self.applied), 2)


class ApplyTests(SynchronousTestCase):
    """What differs between two configurations."""

    def test_changes(self) -> None:
        """Each way to apply is used once; what has none keeps its value and needs a restart."""
        calls: list[Any] = []

        def use_limits(config: Sample) -> None:
            calls.append(config)

        appliers = {"most": use_limits, "least": use_limits, "name": lambda _: self.fail()}
        new = Sample(port=9, most=8, least=7)
        holds, lines = apply_changes(Sample(), new, appliers)
        self.assertEqual(holds, Sample(port=1, most=8, least=7))
        self.assertEqual(calls, [holds])
        self.assertEqual(lines, ["port: needs a restart", "most: changed", "least: changed"])
        self.assertEqual(apply_changes(holds, holds, appliers), (holds, []))
