"""
A short standing with the server, beside the daemon of the same client.

It offers nothing, is in no client list, and displaces nobody.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from ..client.connection import ServerConnection
from ..client.service import connection_to, identity_of
from ..config import ClientConfig
from ..interfaces import IReactor
from ..link.identity import Identity
from ..statedir import StateDir
from .running import first_of


@contextlib.asynccontextmanager
async def online(
    reactor: IReactor, config: ClientConfig, identity: Identity | None = None
) -> AsyncIterator[ServerConnection]:
    """
    Sign in, and say good-bye at the end.

    @param identity: by default that of the state directory, made if there is none.
    @raise UserError: if it cannot sign in, or the state directory cannot be used.
    """
    if identity is None:
        identity = identity_of(StateDir(config.state_dir))
    connection = connection_to(reactor, config, identity, transient=True)
    connection.startService()
    try:
        await first_of(connection.when_connected(), connection.finished)
        yield connection
    finally:
        await connection.stopService()
