"""
C{relaytun connect}: a local port that leads to a service of another client, until Ctrl-C.

The session is asked for before the port opens, so that a name that is wrong is an error at once
and not a port that leads nowhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from ..client.connection import ServerConnection
from ..client.localport import LocalPort
from ..client.making import identity_of, machinery_of
from ..client.signalling import LoginError
from ..client.visitor import ABSENT, Visitor, wait_for_service
from ..config import ClientConfig, ConnectConfig
from ..ends.refusals import RequestError
from ..errors import UserError
from ..interfaces import IReactor
from ..startup import raise_descriptor_limit
from ..statedir import StateDir
from .online import all_finished, all_online
from .options import FINGERPRINT, IDENTIFIER, LOCAL_ADDRESS, client_config, client_options
from .running import first_of, run
from .show import byte_count, host_and_port

#: Seconds between two looks at the live line.
REFRESH = 0.5


@click.command()
@client_options
@click.option(
    "--target",
    type=IDENTIFIER,
    metavar="ID",
    help="The client that offers it; without it, any that is online.",
)
@click.option("--service", type=IDENTIFIER, metavar="ID", required=True, help="What it offers.")
@click.option(
    "--local",
    type=LOCAL_ADDRESS,
    metavar="[HOST:]PORT",
    required=True,
    help="Where it is to be found on this machine; port 0: the system picks one.",
)
@click.option(
    "--peer-fingerprint",
    type=FINGERPRINT,
    metavar="sha256:...",
    help="The identity that the target has to prove: what relaytun id prints there.",
)
@click.option(
    "--mode",
    type=click.Choice(("link", "raw")),
    help="link: encrypted or not at all; raw: unencrypted is welcome, too.",
)
@click.option("--wait", is_flag=True, help="Wait for a client or service that is not there.")
def connect(
    target: str | None,
    service: str,
    local: tuple[str, int],
    peer_fingerprint: str | None,
    mode: str | None,
    wait: bool,
    **options: str | None,
) -> None:
    """
    Open a local port that leads to a service of another client.

    Stays until Ctrl-C or SIGTERM.
    """
    config = client_config(**options)
    if peer_fingerprint is not None and mode == "raw":
        raise click.UsageError("a raw session proves no identity: leave out one of the two")
    host, port = local
    known = usual(config, target, service)
    wish = ConnectConfig(
        name="",
        target=target,
        service=service,
        local_host=host,
        local_port=port,
        peer_fingerprint=peer_fingerprint or (known.peer_fingerprint if mode != "raw" else None),
        mode=mode or ("link" if peer_fingerprint is not None else known.mode),
    )
    raise_descriptor_limit()
    with contextlib.suppress(KeyboardInterrupt):
        run(lambda reactor: _connect(reactor, config, wish, wait))


def usual(config: ClientConfig, target: str | None, service: str) -> ConnectConfig:
    """What the configuration says of the same service; what goes without saying otherwise."""
    for connect in config.connects:
        if (connect.target, connect.service) == (target, service):
            return connect
    return ConnectConfig(name="", target=target, service=service, local_port=0)


async def _connect(
    reactor: IReactor, config: ClientConfig, wish: ConnectConfig, wait: bool
) -> None:
    state = StateDir(config.state_dir)
    identity = identity_of(state)
    async with all_online(reactor, config, identity) as connections:
        machinery = machinery_of(reactor, config, identity, state, connections)
        visitor = Visitor(machinery, connections, wish)
        over = all_finished(connections)
        try:
            await _find(reactor, visitor, over, wait)
            await _serve(reactor, connections, visitor, wish, over)
        finally:
            visitor.close()
            machinery.close()


async def _find(
    reactor: IReactor, visitor: Visitor, over: Deferred[LoginError], wait: bool
) -> None:
    """@raise UserError: if there is no session to be had."""

    def say(why: str) -> None:
        click.echo(
            f"relaytun: waiting for {visitor.connect.provider}/{visitor.service}: {why}", err=True
        )

    if wait:
        waiting = Deferred.fromCoroutine(wait_for_service(visitor, reactor, say))
        await first_of(waiting, over)
        return
    try:
        await first_of(visitor.session(), over)
    except RequestError as error:
        if error.code in ABSENT:
            raise UserError(f"{error}; --wait waits for it") from None
        raise


async def _serve(
    reactor: IReactor,
    connections: Sequence[ServerConnection],
    visitor: Visitor,
    wish: ConnectConfig,
    over: Deferred[LoginError],
) -> None:
    port = LocalPort(reactor, wish, visitor, wait=False)
    port.privilegedStartService()
    port.startService()
    try:
        address = host_and_port(wish.local_host, port.number)
        click.echo(f"{address} leads to {wish.provider}/{wish.service}")
        with _live_line(reactor, connections, visitor):
            raise await over
    finally:
        stopped = port.stopService()
        if stopped is not None:
            await stopped


@contextlib.contextmanager
def _live_line(
    reactor: IReactor, connections: Sequence[ServerConnection], visitor: Visitor
) -> Iterator[None]:
    """On a terminal, a line of what is going on."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def look() -> None:
            up = any(connection.control is not None for connection in connections)
            line = status_line(up, *visitor.totals)
            live.update(Text(line), refresh=True)

        looking = LoopingCall(look)
        looking.clock = reactor
        looking.start(REFRESH)
        try:
            yield
        finally:
            looking.stop()


def status_line(signed_in: bool, streams: int, up: int, down: int) -> str:
    """
    What the live line says.

    @param up: bytes to the service.
    @param down: bytes from it.
    """
    noun = "stream" if streams == 1 else "streams"
    line = f"{streams} {noun}, {byte_count(up)} up, {byte_count(down)} down"
    return line if signed_in else f"{line}; the server is away, trying again"
