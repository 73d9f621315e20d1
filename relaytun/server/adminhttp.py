"""
The administrator's HTTP port: C{/metrics} for Prometheus, C{/healthz} for whoever watches.

It has no secrets and changes nothing, and still no web page may read it through a browser that a
name leads here (DNS rebinding): the Host of a request has to be an address, C{localhost}, or a name
that was configured.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from twisted.web.http import FORBIDDEN, NOT_ALLOWED, NOT_FOUND, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from ..interfaces import IReactor
from .metrics import Metrics
from .port import ListeningPort, hand_to_twisted

#: Seconds that a connection may be idle.
IDLE = 15
#: Where a port that is only a number listens: whoever wants more names an endpoint.
HOST = "127.0.0.1"

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?\Z")


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
    allowed = {"localhost", *(host.lower() for host in hosts)}
    site = Site(
        _Pages(
            {
                b"/metrics": lambda request: _metrics(request, metrics),
                b"/healthz": lambda request: _health(request, unhealthy),
            },
            allowed,
        ),
        timeout=IDLE,
        reactor=reactor,
    )
    site.noisy = False
    return site


class _Pages(Resource):
    """Nothing but these pages, which are only to be read."""

    isLeaf = True

    def __init__(
        self, pages: Mapping[bytes, Callable[[Request], bytes]], hosts: Collection[str]
    ) -> None:
        super().__init__()
        self._pages = pages
        self._hosts = hosts

    def render(self, request: Request) -> bytes:
        request.setHeader(b"server", b"relaytun")
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        page = self._pages.get(request.path)
        if not _is_allowed(request, self._hosts):
            body = _refuse(request, FORBIDDEN, b"ask by address, or by a configured name")
        elif page is None:
            body = _refuse(request, NOT_FOUND, b"there are /metrics and /healthz")
        elif request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            body = _refuse(request, NOT_ALLOWED, b"this is only to be read")
        else:
            body = page(request)
        return b"" if request.method == b"HEAD" else body


def _refuse(request: Request, status: int, why: bytes) -> bytes:
    request.setResponseCode(status)
    return why + b"\n"


def _is_allowed(request: Request, hosts: Collection[str]) -> bool:
    given = request.requestHeaders.getRawHeaders(b"host") or []
    match = _HOST.match(given[0].decode("latin-1").lower()) if len(given) == 1 else None
    if match is None:
        return False
    name = match[1].strip("[]")
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
    return b"ok\n" if why is None else _refuse(request, SERVICE_UNAVAILABLE, why.encode())
