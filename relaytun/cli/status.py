"""C{relaytun status}: what a running daemon says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from ..adminsocket import ask
from ..config import check_file, default_state_dir, load_client, load_server
from ..errors import UserError
from ..wire.text import printable
from .options import config_option, json_option, state_dir_option
from .show import byte_count, duration, milliseconds, print_json, print_table

#: How many names a line has at most.
MOST_NAMES = 20


@click.command()
@config_option
@state_dir_option
@json_option
def status(config: str | None, state_dir: str | None, as_json: bool) -> None:
    """
    Ask the running server or client what it is doing.

    It is found by its configuration or its state directory; without either, in the places where
    a client and a server keep their state by themselves.
    """
    answer = ask_first(state_dirs(config, state_dir))
    if as_json:
        print_json(answer)
        return
    for label, text in lines(answer):
        click.echo(f"{label:<10}{text}")
    sessions = answer["sessions"]
    if sessions:
        click.echo()
        numbers = ("rtt", "streams", "in", "out", "since")
        columns = ("session", "peer", "service", "role", "mode", "path", *numbers)
        print_table(columns, session_rows(sessions, time.time()), numbers)
        reasons = list(relayed(sessions))
        if reasons:
            click.echo("\nthrough the relay:")
            for line in reasons:
                click.echo(line)


def state_dirs(config: str | None, state_dir: str | None) -> list[Path]:
    """
    Where to look for the daemon.

    @raise ConfigError: if C{config} is not valid.
    """
    if state_dir is not None:
        return [Path(state_dir).expanduser()]
    if config is None:
        return [default_state_dir(), load_server(None, {}).state_dir]
    load = load_server if check_file(config) == "server" else load_client
    return [load(config, {}).state_dir]


def ask_first(directories: Iterable[Path], command: str = "status", **arguments: Any) -> Any:
    """
    What the first daemon that answers says.

    @param command, arguments: what it is asked.

    @raise UserError: if none does.
    """
    refusals = []
    for directory in directories:
        try:
            return ask(directory, command, **arguments)
        except UserError as error:
            refusals.append(str(error))
    raise UserError("; ".join(refusals))


def lines(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What C{relaytun status} prints above the sessions: labels and texts."""
    connected = "yes" if answer["connected"] else "no"
    if answer["connected"] and answer["rtt"] is not None:
        connected += f", round trip {milliseconds(answer['rtt'])}"
    yield "role", answer["role"]
    yield "version", answer["version"]
    yield "uptime", duration(answer["uptime"])
    yield "connected", connected
    yield "clients", names(answer["clients"])
    yield "services", names(answer["services"])
    yield "sessions", str(len(answer["sessions"]))


def names(given: list[str | None]) -> str:
    """At most L{MOST_NAMES} names in a line."""
    known = [printable(name) for name in given if name]
    text = ", ".join(known[:MOST_NAMES]) or "-"
    more = len(known) - MOST_NAMES
    return f"{text} and {more} more" if more > 0 else text


def session_rows(sessions: list[dict[str, Any]], now: float) -> Iterator[tuple[str, ...]]:
    """
    A row for each session.

    @param now: seconds since 1970, as C{since} is.
    """
    for session in sessions:
        yield (
            session["id"][:8],
            session["peer"],
            session["service"],
            session["role"],
            session["mode"],
            session["path"],
            milliseconds(session["rtt"]),
            str(session["streams"]),
            byte_count(session["bytesIn"]),
            byte_count(session["bytesOut"]),
            duration(now - session["since"]),
        )


def relayed(sessions: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each session that has no direct path, if it is known why."""
    for session in sessions:
        why = session.get("whyNotDirect")
        if why:
            yield f"  {session['id'][:8]}  {printable(why)}"
