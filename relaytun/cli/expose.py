"""
C{relaytun expose}: a local port that anyone on the Internet reaches at the server, until Ctrl-C.

A client of its own, with one service.  It has the identity of the state directory, so that a port
or a name comes back to it the next time.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import click
import msgspec
from twisted.internet.defer import Deferred

from ..client.connection import ServerConnection
from ..client.making import identity_of, machinery_of
from ..client.provider import Provider
from ..client.providerlink import Links
from ..client.publicity import Publicity
from ..config import ClientConfig, PublicConfig, ServiceConfig
from ..errors import UserError
from ..interfaces import IReactor
from ..startup import raise_descriptor_limit
from ..statedir import StateDir
from ..wire.messages import Exposed
from ..wire.text import printable
from .online import all_finished, all_online
from .options import DOMAIN, LOCAL_ADDRESS, PORT_OR_ZERO, SUBDOMAIN, client_config, client_options
from .running import first_of, run
from .show import host_and_port

#: The keys of a service that are options here.
_OPTIONS = {
    "remote_port": "--remote-port",
    "custom_domains": "--domain",
    "subdomain": "--subdomain",
}
_KEY = re.compile(rf"(?<![\w.*-])({'|'.join(_OPTIONS)})(?![\w.-])")


def with_options(text: str) -> str:
    """A sentence of the server's, in the words of somebody who has written no file."""
    return _KEY.sub(lambda match: _OPTIONS[match[0]], text)


@click.command()
@click.argument("local", type=LOCAL_ADDRESS, metavar="[HOST:]PORT")
@client_options
@click.option(
    "--remote-port",
    type=PORT_OR_ZERO,
    metavar="PORT",
    help="The public port; 0, the default: the server picks one, and says which.",
)
@click.option(
    "--domain", "domains", type=DOMAIN, multiple=True, metavar="NAME", help="A host name of yours."
)
@click.option(
    "--subdomain", type=SUBDOMAIN, metavar="NAME", help="A name under the server's subdomain_host."
)
@click.option(
    "--protocol",
    type=click.Choice(("tcp", "udp", "http", "ws")),
    help="tcp, or http with --domain or --subdomain; tcp with these: the service speaks TLS.",
)
@click.option("--mode", type=click.Choice(("link", "raw")), default="link", show_default=True)
def expose(
    local: tuple[str, int],
    remote_port: int | None,
    domains: tuple[str, ...],
    subdomain: str | None,
    protocol: str | None,
    mode: str,
    **options: str | None,
) -> None:
    """
    Let anyone on the Internet reach a local port, at a port or a host name of the server.

    Stays until Ctrl-C or SIGTERM.
    """
    host, port = local
    named = bool(domains or subdomain)
    if remote_port is not None and named:
        raise click.UsageError("a port or a host name: leave out --remote-port, or the names")
    if not port:
        raise click.UsageError("write the port of the service, not 0")
    if named and protocol == "udp":
        raise click.UsageError("udp has no host names: use --remote-port")
    service = ServiceConfig(
        id=f"port-{port}",
        protocol=protocol or ("http" if named else "tcp"),
        local_host=host,
        local_port=port,
        mode="link" if protocol == "udp" else mode,
        public=PublicConfig(
            remote_port=None if named else remote_port or 0,
            custom_domains=domains,
            subdomain=subdomain or "",
        ),
    )
    config = client_config(**options)
    raise_descriptor_limit()
    with contextlib.suppress(KeyboardInterrupt):
        run(lambda reactor: _expose(reactor, config, service, own_name=bool(options["client_id"])))


async def _expose(
    reactor: IReactor, config: ClientConfig, service: ServiceConfig, own_name: bool
) -> None:
    state = StateDir(config.state_dir)
    identity = identity_of(state)
    if not own_name:  # Two of one name would take each other's place again and again.
        port = service.local_port
        state.lock(f"expose-{port}.lock", f"relaytun expose of port {port}")
    name = f"expose-{identity.fingerprint.partition(':')[2][:8]}-{service.local_port}"
    config = msgspec.structs.replace(
        config,
        client_id=config.client_id if own_name else name,
        services=(service,),
        connects=(),
    )
    machinery = machinery_of(reactor, config, identity, state)
    links = Links(machinery)
    first: Deferred[Exposed] = Deferred()
    said: set[tuple[str, ...]] = set()
    where = host_and_port(service.local_host, service.local_port)

    def told(exposed: Exposed) -> None:
        if not first.called:
            first.callback(exposed)
        if not exposed.error and exposed.urls not in said:
            said.add(exposed.urls)
            for url in exposed.urls:
                click.echo(f"{printable(url)} leads to {where}")

    def prepare(connections: Sequence[ServerConnection]) -> None:
        for connection in connections:
            Publicity(connection, told)
            Provider(machinery, connection, config.services, links)
            connection.hurries.append(links.hurry)

    try:
        async with all_online(
            reactor, config, identity, transient=False, prepare=prepare
        ) as connections:
            over = all_finished(connections)
            exposed = await first_of(first, over)
            if exposed.error:
                raise UserError(with_options(printable(str(exposed.message))))
            raise await over
    finally:
        links.close()
        machinery.close()
