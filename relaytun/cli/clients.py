"""C{relaytun clients}: who is at the server, and what they offer."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from ..config import ClientConfig
from ..interfaces import IReactor
from ..wire.messages import ClientEntry
from .online import online
from .options import client_config, client_options, json_option
from .running import run
from .show import print_json, print_table


@click.command()
@client_options
@json_option
def clients(as_json: bool, **options: str | None) -> None:
    """List the clients that are signed in, and their services."""
    config = client_config(**options)
    entries = run(lambda reactor: _list(reactor, config))
    if as_json:
        print_json(msgspec.to_builtins(entries))
    elif not entries:
        click.echo("no client is signed in")
    else:
        print_table(
            ("client", "status", "service", "protocol", "description"),
            [row for entry in entries for row in rows(entry)],
        )


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
