"""
C{relaytun demo}: a server, a provider and a visitor on this machine, and a URL that works.

The three are the daemons that one would run for real, each in a process of its own.  The web
page behind them is served by this process.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.client import Agent, readBody
from twisted.web.server import Site

from ..adminsocket import ask
from ..errors import UserError
from .children import Child, Family
from .demo_page import MARK, DemoPage
from .running import run

#: Seconds that the page may take.
PATIENCE = 20.0

_CLIENT = """[client]
invite_file = {folder}/server/invite
client_id = {name}
state_dir = {folder}/{name}
drain_timeout = 0
"""
_PROVIDER = """
[service:web-page]
protocol = http
local_host = 127.0.0.1
local_port = {port}
"""
_VISITOR = """
[connect:web-page]
target = provider
service = web-page
local_port = 0
"""


@click.command()
@click.option("--once", is_flag=True, help="End as soon as the page has come through.")
def demo(once: bool) -> None:
    """
    Try a whole tunnel on this machine: three processes, and a web page that comes through.

    Stays until Ctrl-C, and leaves nothing behind.
    """
    with contextlib.suppress(KeyboardInterrupt):
        run(lambda reactor: _demo(reactor, once))


async def _demo(reactor: Any, once: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="relaytun-demo-") as folder:
        family = Family(reactor, Path(folder))
        try:
            await family.watch(_show(reactor, family, Path(folder), once))
        finally:
            await family.end()


async def _show(reactor: Any, family: Family, folder: Path, once: bool) -> None:
    hops: list[str] = []
    web = reactor.listenTCP(0, _quiet_site(hops), interface="127.0.0.1")
    try:
        click.echo("A tunnel on this machine:\n")
        server = await _server(family, folder)
        addresses = ask(folder / "server", "status")["listening"]
        control, relay = addresses["control"]["port"], addresses["relay"]["port"]
        _introduce(server, f"listens on 127.0.0.1, control port {control}, relay port {relay}")

        service = web.getHost().port
        provider = _client(family, folder, "provider", _PROVIDER.format(port=service))
        visitor = _client(family, folder, "visitor", _VISITOR)
        visited = visitor.says(r"127\.0\.0\.1:(\d+) leads to")
        await provider.says("signed in as")
        _introduce(provider, f'offers "web-page", which is at 127.0.0.1:{service}')
        port = int((await visited)[1])
        _introduce(visitor, f"127.0.0.1:{port} leads to provider/web-page")
        hops += [
            f"The visitor took it at 127.0.0.1:{port} (process {visitor.pid}),",
            f"the server's relay passed it on at 127.0.0.1:{relay} (process {server.pid}),",
            f"the provider brought it here (process {provider.pid}):",
            f"a web server on 127.0.0.1:{service}, which nobody else was told of.",
        ]

        url = f"http://127.0.0.1:{port}/"
        before = reactor.seconds()
        page = await _fetch(reactor, url)
        took = (reactor.seconds() - before) * 1000
        click.echo(f"\nThe page came through: {len(page)} bytes in {took:.0f} ms.\n\n  {url}\n")
        if not once:
            click.echo("Open it in a browser. Ctrl-C ends everything.")
            await Deferred()
    finally:
        await web.stopListening()


async def _server(family: Family, folder: Path) -> Child:
    server = family.twistd(
        "server",
        "relaytun-server",
        "--control=0",
        "--relay=0",
        "--host=127.0.0.1",
        "--public-host=127.0.0.1",
        f"--state-dir={folder / 'server'}",
    )
    await server.says("invite: relaytun://")
    return server


def _client(family: Family, folder: Path, name: str, section: str) -> Child:
    file = folder / f"{name}.ini"
    file.write_text(_CLIENT.format(folder=folder, name=name) + section)
    return family.twistd(name, "relaytun-client", f"--config={file}")


def _introduce(child: Child, what: str) -> None:
    click.echo(f"  {child.name:<10} pid {child.pid:<8} {what}")


def _quiet_site(hops: list[str]) -> Site:
    site = Site(DemoPage(lambda: hops))
    site.noisy = False
    return site


async def _fetch(reactor: Any, url: str) -> bytes:
    """@raise UserError: if what comes is not the demo's page."""
    fetching = Deferred.fromCoroutine(_get(reactor, url))
    try:
        page = await fetching.addTimeout(PATIENCE, reactor)
    except CancelledError:
        raise
    except Exception as error:
        raise UserError(f"the page did not come through {url}: {error!r}") from None
    if MARK.encode() not in page:
        raise UserError(f"something else than the demo's page came from {url}")
    return page


async def _get(reactor: Any, url: str) -> bytes:
    response = await Agent(reactor).request(b"GET", url.encode())
    body: bytes = await readBody(response)
    return body
