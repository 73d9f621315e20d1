"""
What both daemons do between the command line and the running reactor.

A user's mistake ends here in one line on stderr and a non-zero exit, whether it is found in an
option, in a file, or when a port turns out to be busy.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.logger import Logger
from twisted.python import usage

from .errors import UserError


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
    The root service of a daemon: a start that fails ends the process.
    """

    _log = Logger()

    def __init__(self, program: str, inner: Service) -> None:
        super().__init__()
        self._program = program
        inner.setServiceParent(self)

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
