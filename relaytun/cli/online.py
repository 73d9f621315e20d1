"""
A short standing with the server, or with each of several, beside the daemon of the same client.

It offers nothing, is in no client list, and displaces nobody.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from twisted.internet.defer import Deferred, DeferredList

from ..client.connection import ServerConnection
from ..client.making import connections_to, identity_of
from ..client.signalling import LoginError
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
    Sign in at the first server that answers, and say good-bye at the end.

    @param identity: by default that of the state directory, made if there is none.
    @raise UserError: if it cannot sign in, or the state directory cannot be used.
    """
    async with all_online(reactor, config, identity) as connections:
        yield next(each for each in connections if each.control is not None)


@contextlib.asynccontextmanager
async def all_online(
    reactor: IReactor,
    config: ClientConfig,
    identity: Identity | None = None,
    *,
    transient: bool = True,
    prepare: Callable[[Sequence[ServerConnection]], None] = lambda connections: None,
) -> AsyncIterator[list[ServerConnection]]:
    """
    As L{online}, at all servers: goes on when there is one, and keeps trying the others.

    @param transient: whether it offers nothing and displaces nobody.
    @param prepare: called with the connections before they sign in.
    @raise UserError: if it cannot sign in anywhere, or the state directory cannot be used.
    """
    if identity is None:
        identity = identity_of(StateDir(config.state_dir))
    connections = connections_to(
        reactor, config, identity, transient=transient, first_must_succeed=True
    )
    prepare(connections)
    for connection in connections:
        connection.startService()
    try:
        up = [connection.when_connected() for connection in connections]
        first = DeferredList(up, fireOnOneCallback=True, consumeErrors=True)
        await first_of(first, all_finished(connections))
        for connection in connections:
            connection.persist()
        yield connections
    finally:
        await DeferredList([connection.stopService() for connection in connections])


def all_finished(connections: Sequence[ServerConnection]) -> Deferred[LoginError]:
    """@return: fires when every one of them has given up, with what the last one says."""
    over: Deferred[LoginError] = Deferred()

    def finished(error: LoginError) -> LoginError:
        if all(connection.finished.called for connection in connections) and not over.called:
            over.callback(error)
        return error

    for connection in connections:
        connection.finished.addCallback(finished)
    return over
