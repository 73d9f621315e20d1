"""
A daemon's local socket, C{<state-dir>/control.sock}: one JSON line asks, one JSON line answers.

Question: C{{"command": "status"}}.  Answer: C{{"ok": ...}} or C{{"error": "a sentence"}}.  The
socket is 0600: whoever may read the state directory may ask.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IListeningPort, IReactorUNIX
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from .errors import UserError

NAME = "control.sock"
#: Seconds that a question waits for its answer.
ASK_TIMEOUT = 5.0

Commands = Mapping[str, Callable[[], Any]]


class AdminService(Service):
    """Answers questions as long as it runs."""

    def __init__(self, reactor: IReactorUNIX, directory: Path, commands: Commands) -> None:
        """@param commands: each gives what is to be answered, as JSON values."""
        self._reactor = reactor
        self._directory = directory
        self._commands = commands
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        super().startService()
        factory = _Factory(self._commands)
        with contextlib.suppress(FileNotFoundError):  # Of a process that was killed.
            (self._directory / NAME).unlink()
        with short_path(self._directory) as path:
            before = os.umask(0o177)
            try:
                self._port = self._reactor.listenUNIX(
                    path,
                    factory,  # type: ignore[arg-type]
                    mode=0o600,
                )
            finally:
                os.umask(before)

    async def stopService(self) -> None:
        super().stopService()
        if self._port is not None:
            port, self._port = self._port, None
            port.connectionLost(None)  # type: ignore[attr-defined]
            with contextlib.suppress(FileNotFoundError):
                (self._directory / NAME).unlink()


class _Question(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 4096
    factory: _Factory

    def lineReceived(self, line: bytes) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(self._answer(line)).encode() + b"\n")
        self.transport.loseConnection()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            command = self.factory.commands[json.loads(line)["command"]]
        except (ValueError, KeyError, TypeError):
            known = ", ".join(sorted(self.factory.commands))
            return {"error": f"no such command; there are: {known}"}
        try:
            return {"ok": command()}
        except UserError as error:
            return {"error": str(error)}


class _Factory(Factory[_Question]):
    protocol = _Question
    noisy = False

    def __init__(self, commands: Commands) -> None:
        self.commands = commands


def ask(directory: Path, command: str) -> Any:
    """
    Ask a daemon; waits for the answer.

    @raise UserError: if none runs with this state directory, or it cannot answer.
    """
    question = json.dumps({"command": command}).encode() + b"\n"
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
