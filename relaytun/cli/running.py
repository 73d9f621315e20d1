"""
Running the reactor for one coroutine, without a log on the terminal.

Warnings are single lines on stderr.  Ctrl-C, SIGTERM and the loss of the terminal cancel the
coroutine, which cleans up before the process ends; a second one changes nothing.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import provider

from ..errors import UserError
from ..startup import use_monotonic_time
from ..wire.text import printable

T = TypeVar("T")


def run(main: Callable[[Any], Coroutine[Deferred[Any], Any, T]]) -> T:
    """
    Run C{main(reactor)} to its end.

    @return: what it returns; what it raises is raised.
    @raise KeyboardInterrupt: if a signal ended it.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    observer = FilteringLogObserver(
        warn_on_stderr, [LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)]
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
    outcome: list[T | Failure] = []
    interrupted = False

    def start() -> None:
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # Not under nohup.
            signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
        task: Deferred[T] = Deferred.fromCoroutine(main(reactor))
        over: Deferred[None] = Deferred()

        def shutting_down() -> Deferred[None]:
            nonlocal interrupted
            interrupted = not over.called
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            task.cancel()
            return over

        def ended(result: T | Failure) -> None:
            outcome.append(result)
            over.callback(None)
            with contextlib.suppress(ReactorNotRunning):  # A signal has stopped it.
                reactor.stop()

        reactor.addSystemEventTrigger("before", "shutdown", shutting_down)
        task.addBoth(ended)

    use_monotonic_time(reactor)
    reactor.callWhenRunning(start)
    reactor.run()
    (result,) = outcome
    if not isinstance(result, Failure):
        return result
    if interrupted and result.check(CancelledError, UserError):
        raise KeyboardInterrupt
    result.raiseException()


async def first_of(wish: Deferred[T], end: Deferred[Any]) -> T:
    """
    Wait for C{wish}, but not beyond C{end}.

    @raise Exception: the error that C{end} fires with, or that C{wish} fails with.
    """
    over: list[BaseException] = []

    def give_up(error: BaseException) -> BaseException:
        over.append(error)
        wish.cancel()
        return error

    end.addCallback(give_up)
    try:
        result = await wish
    except CancelledError:
        if over:
            raise over[0] from None
        raise
    if over:  # A list of Deferreds does not fail when it is cancelled.
        raise over[0]
    return result


@provider(ILogObserver)
def warn_on_stderr(event: LogEvent) -> None:
    """Print a log event as one line."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}: {failure.type.__name__}: {failure.getErrorMessage()}"
    # Not bound early: while a live line is shown, another stream stands here.
    print("relaytun:", printable(" ".join(text.split()), limit=1000), file=sys.stderr, flush=True)
