"""C{relaytun import-frp}: a configuration file of frp's, written as one of ours."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ..config.files import read_text
from ..errors import ConfigError, UserError
from ..frp import import_text


@click.command("import-frp")
@click.argument("file", metavar="FILE")
@click.option(
    "--output", "-o", metavar="FILE", help="Where to write it; by default, standard output."
)
def import_frp(file: str, output: str | None) -> None:
    """
    Write frp's configuration FILE (frpc.* or frps.*: ini, toml, yaml or json) as ours.

    What has no counterpart, and why, is on stderr, and in comments at the top of what is
    written.  What comes out is valid: relaytun check accepts it.
    """
    imported = import_text(file, _read(file), os.environ, _included)
    for line in imported.notes:
        click.echo(f"relaytun: {line}", err=True)
    if output is None:
        sys.stdout.write(imported.text)
    else:
        _write(output, imported.text)
        click.echo(f"{output}: a {imported.role} configuration")


def _included(pattern: str) -> Iterator[tuple[str, str]]:
    """Read the files that a pattern means; like frp, from the current folder on."""
    folder = os.path.dirname(pattern)
    if folder and not os.path.isdir(folder):
        raise ConfigError(
            [f"includes: {pattern}: there is no such folder: run this where frpc runs"]
        )
    for name in sorted(glob.glob(os.path.join(glob.escape(folder), os.path.basename(pattern)))):
        if os.path.isfile(name):
            yield name, _read(name)


def _read(name: str) -> str:
    try:
        return read_text(Path(name))
    except ValueError as error:
        raise ConfigError([f"{name}: {error}"]) from None


def _write(name: str, text: str) -> None:
    """Write a file that only its owner may read, because it may have a token in it."""
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UserError(f"{name} is there already: give another --output, or remove it") from None
    except OSError as error:
        raise UserError(f"cannot write {name}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as out:
        out.write(text)
