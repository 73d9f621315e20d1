"""Tests of L{relaytun.cli.running}; C{run} itself is tested with real processes."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.running import first_of, warn_on_stderr
from relaytun.errors import UserError


class FirstOfTests(SynchronousTestCase):
    """Waiting for something that may never come."""

    def setUp(self) -> None:
        self.wish: Deferred[str] = Deferred()
        self.end: Deferred[Any] = Deferred()
        self.first = Deferred.fromCoroutine(first_of(self.wish, self.end))

    def test_wish(self) -> None:
        """The wish is what comes out, and the end may come afterwards."""
        self.wish.callback("it")
        self.assertEqual(self.successResultOf(self.first), "it")
        self.end.callback(UserError("later"))

    def test_failure(self) -> None:
        """A wish that fails fails as it is."""
        self.wish.errback(UserError("no"))
        self.assertEqual(str(self.failureResultOf(self.first, UserError).value), "no")

    def test_end(self) -> None:
        """The end is raised, and the wish is given up."""
        self.end.callback(UserError("over"))
        self.assertEqual(str(self.failureResultOf(self.first, UserError).value), "over")
        self.assertTrue(self.wish.called)

    def test_wish_that_ends_well(self) -> None:
        """A wish that has a result even when it is given up did not come true."""
        wish = DeferredList([Deferred()], fireOnOneCallback=True, consumeErrors=True)
        end: Deferred[Any] = Deferred()
        first = Deferred.fromCoroutine(first_of(wish, end))
        end.callback(UserError("over"))
        self.assertEqual(str(self.failureResultOf(first, UserError).value), "over")

    def test_cancelled(self) -> None:
        """Giving up gives up the wish, and the end may still be waited for."""
        self.first.cancel()
        self.failureResultOf(self.first, CancelledError)
        self.assertTrue(self.wish.called)
        self.end.cancel()
        self.failureResultOf(self.end, CancelledError)


class WarningTests(SynchronousTestCase):
    """The log, as the terminal has it."""

    def printed(self, emit: Any) -> str:
        log = Logger(namespace="test", observer=warn_on_stderr)
        with contextlib.redirect_stderr(io.StringIO()) as output:
            emit(log)
        return output.getvalue()

    def test_line(self) -> None:
        """An event is one line, whatever is in it."""
        line = self.printed(lambda log: log.warn("bad: {what}", what="a\nb\x1b[0m"))
        self.assertEqual(line, "relaytun: bad: a b\\x1b[0m\n")

    def test_failure(self) -> None:
        """A failure is one line, with its type."""

        def fail(log: Logger) -> None:
            try:
                raise ValueError("oh")
            except ValueError:
                log.failure("it broke", level=LogLevel.critical)

        self.assertEqual(self.printed(fail), "relaytun: it broke: ValueError: oh\n")
