"""
Daemons as child processes of the demo: their output by lines, and their end in every case.

Each is ended by its own process number, and on Linux the kernel ends it if the parent is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import signal
import sys
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ..errors import UserError
from ..wire.text import printable

T = TypeVar("T")

#: Seconds that a child may take until it says what is expected.
PATIENCE = 30.0
#: Seconds that it may take to end in order.
GRACE = 5.0
#: Lines of output that are kept.
KEPT = 20
_PR_SET_PDEATHSIG = 1


class IFamilyReactor(IReactorProcess, IReactorTime):
    """What L{Family} needs of a reactor."""


class ChildDied(UserError):
    """A child ended by itself; the text has the last that it said."""


class Family:
    """The children, none of whom outlives it."""

    def __init__(self, reactor: IFamilyReactor, folder: Path) -> None:
        """@param folder: their current folder."""
        self._reactor = reactor
        self._folder = folder
        self._children: list[Child] = []
        self._story: Deferred[Any] | None = None
        self._dead: Child | None = None

    def twistd(self, name: str, *arguments: str) -> Child:
        """Start a daemon in the foreground of its own process."""
        child = Child(self._reactor, name, self._died)
        start = "from relaytun.cli.children import twistd; twistd()"
        command = (sys.executable, "-c", start, "-n", "--pidfile=", *arguments)
        self._reactor.spawnProcess(child, sys.executable, command, env=None, path=str(self._folder))
        self._children.append(child)
        return child

    async def watch(self, story: Coroutine[Deferred[Any], Any, T]) -> T:
        """
        Run C{story} as long as every child lives.

        @raise ChildDied: if one does not.
        """
        running: Deferred[T] = Deferred.fromCoroutine(story)
        self._story = running
        try:
            return await running
        except CancelledError:
            if self._dead is None:
                raise
            raise ChildDied(self._dead.obituary()) from None
        finally:
            self._story = None

    async def end(self) -> None:
        """End all of them, and wait until they are gone."""
        await gatherResults([child.end() for child in self._children])

    def _died(self, child: Child) -> None:
        if self._story is not None and self._dead is None:
            self._dead = child
            self._story.cancel()


class Child(ProcessProtocol):
    """
    @ivar name: for messages.
    @ivar ended: fires when the process is gone.
    """

    def __init__(self, reactor: IReactorTime, name: str, died: Any) -> None:
        self.name = name
        self.ended: Deferred[None] = Deferred()
        self._reactor = reactor
        self._died = died
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._rest = b""
        self._waiting: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []
        self._how = ""
        self.pid: int | None = None

    def says(self, pattern: str) -> Deferred[re.Match[str]]:
        """
        @return: fires when a line matches from now on.
        @raise UserError: (in the Deferred) if it takes too long.
        """
        said: Deferred[re.Match[str]] = Deferred()
        self._waiting.append((re.compile(pattern), said))
        said.addTimeout(PATIENCE, self._reactor, self._too_late)
        return said

    def end(self) -> Deferred[None]:
        """SIGTERM, and SIGKILL if that does not help."""
        self._signal("TERM")
        killing = self._reactor.callLater(GRACE, self._signal, "KILL")

        def gone(result: None) -> None:
            if killing.active():
                killing.cancel()

        return self.ended.addCallback(gone)

    def obituary(self) -> str:
        """How it ended, and the last that it said."""
        return f"the {self.name} (pid {self.pid}) ended: {self._how}; {self._last_words()}"

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.pid = self.transport.pid

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._heard(printable(line.decode("utf-8", "replace"), limit=1000))

    def errReceived(self, data: bytes) -> None:
        self.outReceived(data)

    def processEnded(self, reason: Failure) -> None:
        self._how = "exit code 0" if reason.check(ProcessDone) else how_it_ended(reason.value)
        self.ended.callback(None)
        self._died(self)

    def _heard(self, line: str) -> None:
        self._lines.append(line)
        for waiting in list(self._waiting):
            pattern, said = waiting
            found = pattern.search(line)
            if found:
                self._waiting.remove(waiting)
                if not said.called:
                    said.callback(found)

    def _signal(self, name: str) -> None:
        assert self.transport is not None
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def _too_late(self, result: Any, timeout: float) -> None:
        raise UserError(f"the {self.name} is not ready after {timeout:.0f} s; {self._last_words()}")

    def _last_words(self) -> str:
        return "\n".join(["it said last:", *(f"  {line}" for line in self._lines)])


def how_it_ended(error: Any) -> str:
    """
    @param error: a C{ProcessTerminated}.
    """
    if error.signal is not None:
        return f"killed by {signal.Signals(error.signal).name}"
    return f"exit code {error.exitCode}"


def twistd() -> None:
    """What a child runs: twistd, as long as the process that started it lives."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    from twisted.scripts.twistd import run

    run()
