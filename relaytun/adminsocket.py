"""
A daemon's local socket, C{<state-dir>/control.sock}: one JSON line asks, one JSON line answers.

Question: C{{"command": "status"}}, or C{{"command": "stats", "arguments": {"days": 7}}}.  Answer:
C{{"ok": ...}} or C{{"error": "a sentence"}}.  The socket is 0600: whoever may read the state
directory may ask.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from .errors import UserError
from .interfaces import IReactor
from .plane.accept import Acceptor
from .wire.text import printable

NAME = "control.sock"
#: Seconds that a question waits for its answer.
ASK_TIMEOUT = 5.0

_log = Logger()

Commands = Mapping[str, Callable[..., Any]]


class AdminService(Service):
    """Answers questions as long as it runs."""

    def __init__(self, reactor: IReactor, directory: Path, commands: Commands) -> None:
        """
        @param commands: each gives what is to be answered, as JSON values, or a Deferred of that;
            C{ping} is always there.  A question's arguments become keyword arguments; the names are
            checked here, the values, which may be any of JSON, by the command: a wrong one is a
            L{UserError}.
        """
        self._reactor = reactor
        self._directory = directory
        self._factory = _Factory({"ping": lambda: "pong", **commands})
        self._listening: socket.socket | None = None
        self._acceptor: Acceptor | None = None

    def startService(self) -> None:
        """@raise UserError: if the socket cannot be made."""
        super().startService()
        self._unlink()  # Of a process that was killed.
        self._listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            with short_path(self._directory) as path:
                self._listening.bind(path)
                self._listening.listen()
        except OSError as error:
            self._listening.close()
            raise UserError(
                f"cannot listen on {self._directory / NAME}: {error.strerror or error}; "
                "name another directory with --state-dir"
            ) from None
        finally:
            os.umask(before)
        self._acceptor = Acceptor(self._reactor, self._listening, self._accepted)

    def stopService(self) -> None:
        super().stopService()
        if self._acceptor is not None and self._listening is not None:
            self._acceptor.stop()
            self._listening.close()
            self._unlink()
            self._acceptor = self._listening = None

    def _accepted(self, sock: socket.socket, address: Any) -> None:
        with sock:  # Twisted has a duplicate.
            self._reactor.adoptStreamConnection(
                sock.fileno(),
                socket.AF_UNIX,
                self._factory,  # type: ignore[arg-type]
            )

    def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._directory / NAME).unlink()


class _Question(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 4096
    factory: _Factory

    def lineReceived(self, line: bytes) -> None:
        try:
            question = json.loads(line)
            command = self.factory.commands[question["command"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            known = ", ".join(sorted(self.factory.commands))
            self._answer({"error": f"no such command; there are: {known}"})
            return
        arguments = question.get("arguments", {})
        answer: Deferred[Any] = maybeDeferred(lambda: bound(command, arguments)())
        answer.addCallback(lambda value: {"ok": value})
        answer.addErrback(_refusal).addCallback(self._answer)

    def _answer(self, answer: dict[str, Any]) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(answer).encode() + b"\n")
        self.transport.loseConnection()


def _refusal(failure: Failure) -> dict[str, str]:
    if failure.check(UserError):
        return {"error": str(failure.value)}
    _log.failure("a command failed", failure)
    return {"error": "it failed; the log says more"}


class _Factory(ServerFactory[_Question]):
    protocol = _Question
    noisy = False

    def __init__(self, commands: Commands) -> None:
        self.commands = commands


def bound(command: Callable[..., Any], arguments: object) -> Callable[[], Any]:
    """
    C{command} with its arguments.

    @raise UserError: if they are not those that it takes.
    """
    parameters = inspect.signature(command).parameters
    takes = ", ".join(parameters) or "none"
    if not isinstance(arguments, dict):
        raise UserError(f"arguments are names and values; it takes: {takes}")
    if unknown := [printable(name) for name in arguments if name not in parameters]:
        raise UserError(f"no such argument: {', '.join(unknown)}; it takes: {takes}")
    if missing := [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in arguments
    ]:
        raise UserError(f"missing: {', '.join(missing)}; it takes: {takes}")
    return partial(command, **arguments)


def ask(directory: Path, command: str, **arguments: Any) -> Any:
    """
    Ask a daemon; waits for the answer.

    @param arguments: as JSON values.
    @raise UserError: if none runs with this state directory, or it cannot answer.
    """
    asked = {"command": command, **({"arguments": arguments} if arguments else {})}
    question = json.dumps(asked).encode() + b"\n"
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ASK_TIMEOUT)
    try:
        with connection, short_path(directory) as path:
            connection.connect(path)
            connection.sendall(question)
            with connection.makefile("rb") as stream:
                answer = json.loads(stream.readline())
    except (FileNotFoundError, ConnectionRefusedError):
        raise UserError(f"no relaytun daemon runs with the state directory {directory}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"the daemon at {directory} does not answer: {error}") from None
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["ok"]


@contextlib.contextmanager
def short_path(directory: Path) -> Iterator[str]:
    """The socket's path, made short enough for a socket address (108 bytes) where possible."""
    path = directory / NAME
    if len(os.fsencode(path)) < 100 or not os.path.isdir("/proc/self/fd"):
        yield str(path)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)
