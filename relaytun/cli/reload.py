"""C{relaytun reload}: have a running daemon read its configuration again."""

from __future__ import annotations

import click

from ..wire.text import printable
from .options import config_option, state_dir_option
from .status import ask_first, state_dirs


@click.command("reload")
@config_option
@state_dir_option
def reload_config(config: str | None, state_dir: str | None) -> None:
    """
    Have the running server or client apply its changed configuration file.

    Only what changed is touched, and each of it is printed in a line; what needs a restart is
    said and left as it is.  If the file is not valid nothing changes.
    """
    lines = ask_first(state_dirs(config, state_dir), "reload")
    for line in lines or ["nothing has changed"]:
        click.echo(printable(line, limit=1000))
