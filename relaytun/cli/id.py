"""C{relaytun id}: by what fingerprint do others know this client?"""

from __future__ import annotations

from pathlib import Path

import click

from ..client.making import identity_of
from ..config import default_state_dir, load_client
from ..statedir import StateDir
from .options import config_option, json_option, state_dir_option
from .show import print_json


@click.command("id")
@config_option
@state_dir_option
@json_option
def own_id(config: str | None, state_dir: str | None, as_json: bool) -> None:
    """
    Print the fingerprint of this client's own identity.

    Others pin it: as peer_fingerprint where they visit this client, after an @ in allow where
    this client visits them.  If there is no identity yet, one is made.
    """
    identity = identity_of(StateDir(_directory(config, state_dir)))
    if as_json:
        print_json({"fingerprint": identity.fingerprint})
    else:
        click.echo(identity.fingerprint)


def _directory(config: str | None, state_dir: str | None) -> Path:
    """@raise ConfigError: if C{config} is not valid, or a server's."""
    if state_dir is not None:
        return Path(state_dir).expanduser()
    return default_state_dir() if config is None else load_client(config, {}).state_dir
