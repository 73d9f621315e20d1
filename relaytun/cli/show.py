"""
How numbers and tables look to a person.

Text that comes from the network is escaped here, once, on its way into a table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config.values import bracketed
from ..wire.text import printable

#: The width of a table that goes into a file or a pipe.
WIDE = 240
_UNITS = ("B", "KB", "MB", "GB", "TB")


def byte_count(count: float) -> str:
    """A number of bytes, in units of 1024 as the configuration has them: C{1.5 MB}."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    digits = 1 if unit and count < 100 else 0
    return f"{count:.{digits}f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """A time span, by its two largest units: C{2h 05m}."""
    whole = max(0, int(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}h"
    if hours:
        return f"{hours}h {minute:02}m"
    if minutes:
        return f"{minutes}m {second:02}s"
    return f"{second}s"


def milliseconds(seconds: float | None) -> str:
    """A round-trip time; a dash if it is not known."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def host_and_port(host: str, port: int) -> str:
    """An address as a URL has it."""
    return f"{bracketed(host)}:{port}"


def print_json(value: Any) -> None:
    """Print C{value}; all that a terminal would obey is escaped, as JSON does."""
    click.echo(json.dumps(value, indent=2))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[str] = ()
) -> None:
    """
    Print a table.

    @param rows: of values that are shown as C{str} does; they may come from a stranger.
    @param numbers: the columns that are aligned to the right.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDE)
    console.print(table)
