"""
What both daemons do between the command line and the running reactor, and when it is to end.

A user's mistake ends here in one line on stderr and a non-zero exit, whether it is found in an
option, in a file, or when a port turns out to be busy.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized

from .errors import UserError
from .logs import DaemonLog, twistd_log_file

C = TypeVar("C")


class Options(usage.Options):
    """Twistd options whose errors are one line, without the whole usage before it."""

    program = "relaytun"

    def parseOptions(self, options: Any = None) -> None:
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            sys.exit(f"{self.program}: {error} (see twistd {self.program} --help)")

    def parseArgs(self, *extra: str) -> None:
        if extra:
            raise usage.UsageError(f"unexpected argument: {extra[0]}")

    def postOptions(self) -> None:
        for name, value in self.items():
            if value == "" and name not in ("token", "invite"):  # Those have words of their own.
                raise usage.UsageError(f"--{name} is empty: leave it out, or give a value")

    def given(self) -> dict[str, str | bool]:
        """The options that stand on the command line, by configuration key."""
        return {
            # A flag's value is a number.
            name.replace("-", "_"): value if isinstance(value, str) else bool(value)
            for name, value in self.items()
            if value not in (None, 0) and name not in ("config", "version", "help")
        }


@contextlib.contextmanager
def exit_on_user_error(program: str) -> Iterator[None]:
    """@raise SystemExit: with the lines of a L{UserError} on stderr."""
    try:
        yield
    except UserError as error:
        for line in str(error).splitlines():
            # Not sys.stderr: twistd has put its log in that place by the time a port is busy.
            print(f"{program}: {line}", file=sys.__stderr__, flush=True)
        sys.exit(error.exit_code)


class Daemon(MultiService):
    """
    The root service of a daemon: a start that fails ends the process, an end is in order.
    """

    _log = Logger()

    def __init__(
        self,
        program: str,
        inner: Service,
        reactor: Any = None,
        drain: Callable[[], Deferred[None]] | None = None,
        log: DaemonLog | None = None,
    ) -> None:
        """
        @param drain: called when the daemon is to end, which waits for the result; cancelled by the
            next SIGTERM or SIGINT.
        @param log: what to write the log with, instead of twistd's own.
        """
        super().__init__()
        self._program = program
        self._reactor = reactor
        self._drain = drain
        self._observer = log
        inner.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        # twistd asks the application for its log after it has been given its service.
        log = self._observer
        if log is not None and log.out is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, log)
        super().setServiceParent(parent)

    def stopService(self) -> Deferred[Any]:
        stopped: Deferred[Any]
        if self._drain is None:
            stopped = super().stopService()
            return stopped
        draining = self._drain()
        if not draining.called:
            on_signals(self._reactor, (signal.SIGTERM, signal.SIGINT), draining.cancel)
        stop = super().stopService
        stopped = draining.addBoth(lambda _: stop())
        return stopped

    def privilegedStartService(self) -> None:
        """@raise SystemExit: if the daemon cannot start."""
        raise_descriptor_limit()
        try:
            super().privilegedStartService()
        except UserError as error:
            if stderr_is_lost():
                # twistd has daemonized: it hands the text of an exception to the terminal.
                raise RuntimeError(f"{self._program}: {error}") from None
            with exit_on_user_error(self._program):
                raise


def use_monotonic_time(reactor: Any) -> None:
    """
    Have C{reactor} count by a clock that nobody sets.

    Twisted counts by the wall clock: a jump of a day would let every timeout expire, or none.
    """
    reactor.seconds = time.monotonic


class Hangup:
    """
    SIGHUP from now on, which would otherwise end the process.

    When it means that the terminal is gone in which the daemon was started, it still does.

    @ivar act: what to do, once the reactor runs; one that comes earlier is remembered.
    """

    def __init__(self, reactor: Any) -> None:
        self.act: Callable[[], None] = lambda: None
        self._reactor = reactor
        self._in_terminal = False
        on_signals(reactor, (signal.SIGHUP,), self._came)
        reactor.callWhenRunning(self._look)  # By then twistd has daemonized, if it is to.

    def _look(self) -> None:
        self._in_terminal = in_terminal()

    def _came(self) -> None:
        if self._in_terminal and not in_terminal():
            self._reactor.stop()
        else:
            self.act()


def in_terminal() -> bool:
    """Whether the log is before somebody's eyes."""
    return os.isatty(1)


def on_signals(reactor: Any, numbers: tuple[signal.Signals, ...], act: Callable[[], None]) -> None:
    """Have C{act} called in the reactor's thread for each of these signals."""

    def came(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(act)

    for number in numbers:
        signal.signal(number, came)


def daemon_log(options: usage.Options, reactor: Any, format: str) -> DaemonLog:
    """
    The log of the daemon that twistd runs with C{options}.

    @raise UserError: if it cannot have this format.
    """
    twistd: Any = options.parent or {"logger": True}
    if format == "json" and twistd.get("syslog"):
        raise UserError("log_format = json goes to a file or the terminal: leave out --syslog")
    return DaemonLog(twistd_log_file(twistd, reactor.callFromThread), format)


def again(
    load: Callable[[str | None, dict[str, str | bool]], C], options: Options
) -> Callable[[], C]:
    """@return: reads the configuration again, from wherever the daemon stands by then."""
    path = options["config"]
    if path is not None:
        path = os.path.abspath(path)
    given = options.given()
    return lambda: load(path, given)


def stderr_is_lost() -> bool:
    """Whether nobody reads what is written there, as after daemonizing."""
    try:
        return os.fstat(2).st_rdev == os.stat(os.devnull).st_rdev
    except OSError:
        return True


def raise_descriptor_limit() -> None:
    """As many descriptors as the administrator allows: each stream takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
