"""C{relaytun check}: is a configuration file valid?"""

from __future__ import annotations

import click

from ..config import check_file


@click.command()
@click.option("--config", "-c", metavar="FILE", required=True, help="Configuration file.")
def check(config: str) -> None:
    """
    Validate the configuration FILE of a server or a client.

    Exits 0 if it is valid, else 2, with a line on stderr for each thing that is wrong.
    """
    role = check_file(config)
    click.echo(f"{config}: a valid {role} configuration")
