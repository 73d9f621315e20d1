"""C{relaytun clients}: who is at the server, what they offer, and which way one's sessions take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from ..adminsocket import ask
from ..config import ClientConfig
from ..errors import UserError
from ..interfaces import IReactor
from ..wire.messages import ClientEntry
from .online import online
from .options import client_config, client_options, json_option
from .running import run
from .show import milliseconds, print_json, print_table
from .status import relayed


@click.command()
@client_options
@json_option
def clients(as_json: bool, **options: str | None) -> None:
    """
    List the clients that are signed in, and their services.

    If this client's daemon runs, the sessions that it has with them, too, and their paths.
    """
    config = client_config(**options)
    entries = run(lambda reactor: _list(reactor, config))
    sessions = sessions_of(config.state_dir)
    if as_json:
        print_json([with_sessions(entry, sessions) for entry in entries])
    elif not entries:
        click.echo("no client is signed in")
    else:
        print_table(
            ("client", "status", "service", "protocol", "description"),
            [row for entry in entries for row in rows(entry)],
        )
    if sessions and not as_json:
        click.echo("\nsessions with this client:")
        columns = ("session", "peer", "service", "role", "path", "rtt")
        print_table(columns, map(session_row, sessions), ("rtt",))
        for line in relayed(sessions):
            click.echo(line)


async def _list(reactor: IReactor, config: ClientConfig) -> tuple[ClientEntry, ...]:
    async with online(reactor, config) as connection:
        return await connection.list_clients()


def rows(entry: ClientEntry) -> Iterator[tuple[str, ...]]:
    """A row for each service, or one for a client that has none."""
    for service in entry.services:
        status = "unhealthy" if service.healthy is False else entry.status
        yield entry.id, status, service.id, service.protocol, service.description or ""
    if not entry.services:
        yield entry.id, entry.status, "", "", ""


def sessions_of(state_dir: Path) -> list[dict[str, Any]]:
    """Those of the daemon with this state directory; none, if none runs."""
    try:
        sessions: list[dict[str, Any]] = ask(state_dir, "status")["sessions"]
    except UserError:
        return []
    return sessions


def session_row(session: dict[str, Any]) -> tuple[str, ...]:
    """One of them, in the table."""
    words = (session[name] for name in ("peer", "service", "role", "path"))
    return (session["id"][:8], *words, milliseconds(session["rtt"]))


def with_sessions(entry: ClientEntry, sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """A client as JSON; with C{sessions}, if there are any with it."""
    known: dict[str, Any] = msgspec.to_builtins(entry)
    shown = ("id", "service", "role", "path", "rtt", "whyNotDirect")
    own = [
        {name: session[name] for name in shown if name in session}
        for session in sessions
        if session["peer"] == entry.id
    ]
    return {**known, "sessions": own} if own else known
