"""C{relaytun stats}: what a running server has counted of its traffic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..config import check_file, load_server
from ..errors import UserError
from .options import config_option, json_option
from .show import byte_count, print_json, print_table
from .status import ask_first

#: What the traffic without a user of its own is called.
NO_USER = "(server's token)"


@click.command()
@config_option
@click.option("--state-dir", metavar="DIR", help="Where the server keeps its state.")
@click.option(
    "--days", type=click.IntRange(1, 400), default=30, show_default=True, help="How far back."
)
@click.option(
    "--by",
    type=click.Choice(["client", "service", "user", "day"]),
    default="client",
    show_default=True,
    help="What a line is of.",
)
@json_option
def stats(config: str | None, state_dir: str | None, days: int, by: str, as_json: bool) -> None:
    """
    Ask the running server how much traffic there was.

    Days and months are those of UTC.  "In" is to a service, "out" is from it.
    """
    answer = ask_first(server_dirs(config, state_dir), "stats", days=days, by=by)
    if as_json:
        print_json(answer)
        return
    rows = list(table_rows(answer))
    if rows:
        names = ("client", "service") if by == "service" else (by,)
        numbers = ("in", "out", *(("this month", "quota") if by == "user" else ()))
        print_table((*names, *numbers), rows, numbers)
        click.echo()
    click.echo(
        f"{byte_count(answer['bytesIn'])} in, {byte_count(answer['bytesOut'])} out"
        f" in {'1 day' if days == 1 else f'{days} days'}"
    )


def server_dirs(config: str | None, state_dir: str | None) -> list[Path]:
    """
    Where to look for the server.

    @raise ConfigError: if C{config} is not valid.
    @raise UserError: if it is a client's.
    """
    if state_dir is not None:
        return [Path(state_dir).expanduser()]
    if config is not None and check_file(config) != "server":
        raise UserError(f"{config} is a client's; only a server counts traffic")
    return [load_server(config, {}).state_dir]


def table_rows(answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row for each line of the answer; the largest traffic first, days in their order."""
    rows = answer["rows"]
    if answer["by"] != "day":
        rows = sorted(rows, key=lambda row: -row["bytesIn"] - row["bytesOut"])
    for row in rows:
        names = [row[name] for name in ("day", "client", "service") if name in row]
        if "user" in row:
            names.append(row["user"] or NO_USER)
        cells = [byte_count(row["bytesIn"]), byte_count(row["bytesOut"])]
        if "quota" in row:
            quota = row["quota"]
            cells += [byte_count(row["usedThisMonth"]), byte_count(quota) if quota else "-"]
        yield (*names, *cells)
