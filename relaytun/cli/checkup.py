"""
What C{relaytun doctor} is made of: checks that are well, fail, or cannot be made.

A check is a function that returns a sentence, or raises: L{UserError} if something is wrong,
L{NotNow} if there is nothing to check.  One that needs another that is not well is skipped.
"""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
from twisted.internet.threads import deferToThread

from ..errors import UserError
from .show import host_and_port

#: Seconds that anything may take to answer.
PATIENCE = 5.0

Work = Callable[[], str | Awaitable[str]]


class NotNow(Exception):
    """There is nothing to check; the text says why."""


class Checkup:
    """
    Makes checks and prints a line for each.

    @ivar failed: whether one has failed.
    """

    def __init__(self) -> None:
        self.failed = False
        self._well: set[str] = set()

    async def check(self, name: str, work: Work, *needs: str) -> None:
        """
        Make one check.

        @param needs: the checks that it builds on.
        """
        missing = [need for need in needs if need not in self._well]
        if missing:
            self.skip(name, f"needs what is not well above: {missing[0]}")
            return
        try:
            found = work()
            text = await found if inspect.isawaitable(found) else found
        except NotNow as reason:
            self.skip(name, str(reason))
        except UserError as error:
            self.failed = True
            for line in str(error).splitlines():
                _say("FAIL", "red", name, line)
        else:
            self._well.add(name)
            _say("ok", "green", name, text)

    @staticmethod
    def skip(name: str, why: str) -> None:
        """Say that a check is not made."""
        _say("skipped", "yellow", name, why)


def _say(verdict: str, colour: str, name: str, text: str) -> None:
    click.echo(f"{click.style(f'{verdict:<8}', fg=colour)} {name:<16} {text}")


def usable_state_dir(path: Path) -> str:
    """
    Check that a state directory can be used, or made; nothing is written.

    @raise UserError: if it cannot.
    """
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        raise UserError(f"{there} is not a directory: name another state_dir")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise UserError(
            f"{there} cannot be written by this user: run this as the daemon's user, or name "
            "another state_dir"
        )
    return f"{path} is usable" if there == path else f"{path} is not there yet; it can be made"


async def resolved(host: str) -> str:
    """
    Check that a name has an address.

    @raise UserError: if it has none.
    """
    try:
        found = await deferToThread(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"there is no host {host} ({why}): is the name right, and does DNS work here?"
        ) from None
    addresses = sorted({str(entry[4][0]) for entry in found})
    return host if addresses == [host] else f"{host} is {', '.join(addresses)}"


async def answers(host: str, port: int, remedy: str) -> str:
    """
    Check that something takes TCP connections.

    @raise UserError: if nothing does; ends with C{remedy}.
    """
    address = host_and_port(host, port)
    try:
        connection = await deferToThread(socket.create_connection, (host, port), PATIENCE)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{address} does not answer ({_why(error)}): {remedy}") from None
    connection.close()
    return f"{address} answers"


async def relay_answers(host: str, port: int) -> str:
    """
    Check that a relay is behind a port: it says no to 64 bytes that are no preamble.

    @raise UserError: if there is none.
    """
    address = host_and_port(host, port)
    try:
        verdict = await deferToThread(_say_nothing, host, port)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{address} does not answer ({_why(error)}): let TCP port {port} through the server's "
            "firewall, and set public_host on the server if this is not its address"
        ) from None
    if verdict != b"-":
        raise UserError(
            f"{address} is no relay: something else answers there; is public_host on the server "
            "right?"
        )
    return f"{address} is the relay"


def _say_nothing(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), PATIENCE) as connection:
        connection.sendall(bytes(64))
        return connection.recv(1)


def _why(error: Exception) -> object:
    if isinstance(error, TimeoutError):
        return f"nothing in {PATIENCE:.0f} s"
    return getattr(error, "strerror", None) or error
