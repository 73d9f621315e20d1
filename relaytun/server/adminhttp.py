"""
The administrator's HTTP port: C{/metrics} for Prometheus, C{/healthz} for whoever watches.

It has no secrets and changes nothing, and still no web page may read it through a browser that a
name leads here (DNS rebinding): the Host of a request has to be an address, C{localhost}, or a name
that was configured.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from typing import Any

from twisted.web.http import FORBIDDEN, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from ..interfaces import IReactor
from .metrics import Metrics
from .port import ListeningPort, hand_to_twisted

#: Seconds that a connection may be idle.
IDLE = 15
#: Where a port that is only a number listens: whoever wants more names an endpoint.
HOST = "127.0.0.1"


def admin_port(
    reactor: IReactor,
    description: str,
    metrics: Metrics,
    unhealthy: Callable[[], str | None],
    hosts: Collection[str] = (),
) -> ListeningPort:
    """
    The port, as a service.

    @param description: a port number, for this machine only, or an endpoint description.
    @param unhealthy: why the server does not serve, or C{None}.
    @param hosts: names by which it may be asked, beside C{localhost} and addresses.
    @raise UserError: if the description is none.
    """
    site = admin_site(reactor, metrics, unhealthy, hosts)
    return ListeningPort(reactor, description, HOST, hand_to_twisted(reactor, site))


def admin_site(
    reactor: Any,
    metrics: Metrics,
    unhealthy: Callable[[], str | None],
    hosts: Collection[str] = (),
) -> Site:
    """What it answers; parameters as for L{admin_port}."""
    root = Resource()
    allowed = {"localhost", *(host.lower() for host in hosts)}
    root.putChild(b"metrics", _Page(allowed, lambda request: _metrics(request, metrics)))
    root.putChild(b"healthz", _Page(allowed, lambda request: _health(request, unhealthy)))
    site = Site(root, timeout=IDLE, reactor=reactor)
    site.noisy = False
    return site


class _Page(Resource):
    """Answers GET and HEAD; Twisted refuses other methods with 405."""

    isLeaf = True

    def __init__(self, hosts: Collection[str], render: Callable[[Request], bytes]) -> None:
        super().__init__()
        self._hosts = hosts
        self._render = render

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"server", b"relaytun")
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        if not _is_allowed(request, self._hosts):
            request.setResponseCode(FORBIDDEN)
            return b"ask by address, or by a name that the server is configured with\n"
        return self._render(request)


def _is_allowed(request: Request, hosts: Collection[str]) -> bool:
    given = request.requestHeaders.getRawHeaders(b"host") or []
    if len(given) != 1:
        return False
    host = given[0].decode("latin-1").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in hosts
    return True


def _metrics(request: Request, metrics: Metrics) -> bytes:
    request.setHeader(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
    return metrics.text()


def _health(request: Request, unhealthy: Callable[[], str | None]) -> bytes:
    why = unhealthy()
    if why is None:
        return b"ok\n"
    request.setResponseCode(SERVICE_UNAVAILABLE)
    return why.encode() + b"\n"
