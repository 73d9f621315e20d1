"""Waiting, before an end, for what still runs; but not for ever."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

#: Seconds between two looks at what still runs.
LOOK = 0.1

_log = Logger()


def until_idle(clock: IReactorTime, busy: Callable[[], int], timeout: float) -> Deferred[None]:
    """
    @param busy: how many streams have to end.
    @param timeout: seconds; 0: at once.
    @return: fires when C{busy} is 0, after C{timeout}, or when it is cancelled; never fails.
    """
    return Deferred.fromCoroutine(_until_idle(clock, busy, timeout))


async def _until_idle(clock: IReactorTime, busy: Callable[[], int], timeout: float) -> None:
    end = clock.seconds() + timeout
    running = busy()
    if not running or not timeout:
        return
    _log.info(
        "{count} streams have {timeout:.0f} s to end; another SIGTERM ends them at once",
        count=running,
        timeout=timeout,
    )
    try:
        while (left := end - clock.seconds()) > 0 and busy():
            await deferLater(clock, min(LOOK, left))
    except CancelledError:
        _log.info("not waiting any longer")
        return
    if running := busy():
        _log.info("time is up: {count} streams are cut", count=running)
