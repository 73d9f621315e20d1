"""
C{relaytun doctor}: is it up, and if not, why, end to end.

What is checked of a client is in C{doctor_client}, of a server in C{doctor_server}; how a check
is made and printed in C{checkup}.  Nothing is changed: no directory is made, and no name claimed
that the daemon would not claim.
"""

from __future__ import annotations

import sys

import click

from ..config import ClientConfig, ServerConfig, check_file, load_server
from ..interfaces import IReactor
from .checkup import Checkup, usable_state_dir
from .doctor_client import examine_client
from .doctor_server import examine_server
from .options import client_config, client_options
from .running import run
from .show import duration
from .status import ask_first, state_dirs


@click.command()
@client_options
def doctor(**options: str | None) -> None:
    """
    Check everything from here to the service, and say what is wrong.

    Without --config or --invite only the daemon on this machine is looked at. Exits 0 if all is
    well, else 1.
    """
    checkup = Checkup()
    run(lambda reactor: _examine(reactor, checkup, options))
    sys.exit(1 if checkup.failed else 0)


async def _examine(reactor: IReactor, checkup: Checkup, options: dict[str, str | None]) -> None:
    path = options["config"]
    if path is None and options["invite"] is None:
        await _examine_daemon(checkup, options["state_dir"])
        return
    loaded: list[ServerConfig | ClientConfig] = []

    def configuration() -> str:
        loaded.append(_load(**options))
        role = "server" if isinstance(loaded[0], ServerConfig) else "client"
        return f"{path or 'the invite'}: a valid {role} configuration"

    await checkup.check("configuration", configuration)
    if not loaded:
        checkup.skip("all the rest", "needs a valid configuration")
    elif isinstance(loaded[0], ServerConfig):
        await examine_server(reactor, checkup, loaded[0])
    else:
        await examine_client(reactor, checkup, loaded[0], path)


def _load(
    config: str | None, invite: str | None, client_id: str | None, state_dir: str | None
) -> ServerConfig | ClientConfig:
    if config is not None and invite is None and check_file(config) == "server":
        return load_server(config, {} if state_dir is None else {"state_dir": state_dir})
    return client_config(config, invite=invite, client_id=client_id, state_dir=state_dir)


async def _examine_daemon(checkup: Checkup, state_dir: str | None) -> None:
    """All that can be said without a configuration."""
    directories = state_dirs(None, state_dir)

    def daemon() -> str:
        answer = ask_first(directories)
        return f"a {answer['role']} has been running for {duration(answer['uptime'])}"

    if state_dir is not None:
        await checkup.check("state directory", lambda: usable_state_dir(directories[0]))
    await checkup.check("daemon", daemon)
    checkup.skip("all the rest", "--config FILE or --invite INVITE says what to check")
