"""
Which service a request is for, by host name and path.

It knows nothing of connections: a L{Route} is told how to open one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hmac import compare_digest

from ...errors import UserError
from ...plane.pair import End
from ...wire.text import printable

#: Fields that frame messages, or that this server composes itself.
_NOT_SET = frozenset(
    {
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")

Headers = tuple[tuple[str, str], ...]


class Conflict(UserError):
    """Somebody has this host name and location already."""


class Unreachable(UserError):
    """There is nobody who could answer just now; the text is shown to visitors."""


@dataclass(frozen=True, eq=False)
class Route:
    """
    One service under a host name.

    @ivar open: given a visitor's address, gives our half of a pair whose other half is being
        carried to the service; raises L{Unreachable} or L{OSError}.
    @ivar host: C{app.example.com}, C{*.example.com}, or C{*} for any.
    @ivar location: what paths begin with.
    @ivar host_header_rewrite: the Host that the service sees.
    @ivar request_headers: header fields that requests get, instead of those of the same name.
    @ivar response_headers: those that answers get.
    @ivar user, password: whom it is for; C{user} is C{None} for anyone.
    @ivar choose: picks one of several for a request, each with an C{open} of its own; what this
        route says besides its host and location does not count then, C{open} included.
    @ivar may_reuse: a connection to the service may serve several visitors, one after the other;
        not if it begins with the visitor's address (PROXY protocol).
    """

    host: str
    open: Callable[[tuple[str, int]], End]
    location: str = "/"
    host_header_rewrite: str | None = None
    request_headers: Headers = ()
    response_headers: Headers = ()
    user: str | None = None
    password: str = ""
    may_reuse: bool = True
    choose: Callable[[], Route] | None = None

    def __post_init__(self) -> None:
        """@raise UserError: if a header field would change where messages end, or is none."""
        for name, value in (*self.request_headers, *self.response_headers):
            if not _NAME.fullmatch(name) or name.lower() in _NOT_SET or not _TEXT.fullmatch(value):
                raise UserError(f"{printable(name)} cannot be set: leave this header field out")
        if self.host_header_rewrite is not None and not _HOST.fullmatch(self.host_header_rewrite):
            raise UserError("host_header_rewrite is no host name: write one, with or without port")

    def authorises(self, authorization: bytes | None) -> bool:
        """@param authorization: what a request's field of this name says."""
        if self.user is None:
            return True
        scheme, _, encoded = (authorization or b"").partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        return compare_digest(given, f"{self.user}:{self.password}".encode())


class Routes:
    """All of them."""

    def __init__(self) -> None:
        #: Called with each route that is removed.
        self.removed: list[Callable[[Route], None]] = []
        # By host name ("example.com", ".example.com" for the wildcard), longest location first.
        self._by_host: dict[str, list[Route]] = {}

    def __contains__(self, route: Route) -> bool:
        return route in self._by_host.get(_key(route.host), ())

    def __iter__(self) -> Iterator[str]:
        """The host names that are no wildcards, each once."""
        return (host for host in list(self._by_host) if not host.startswith("."))

    def add(self, route: Route) -> None:
        """@raise Conflict: if its host and location are taken."""
        routes = self._by_host.get(_key(route.host), [])
        if any(other.location == route.location for other in routes):
            raise Conflict(
                f"{route.host}{route.location} is taken by another service: choose another "
                "host name or location"
            )
        self._by_host[_key(route.host)] = sorted(
            [*routes, route], key=lambda each: len(each.location), reverse=True
        )

    def remove(self, route: Route) -> None:
        """Requests do not find it any more; those that have found it are answered."""
        key = _key(route.host)
        rest = [other for other in self._by_host.get(key, ()) if other is not route]
        if rest:
            self._by_host[key] = rest
        else:
            self._by_host.pop(key, None)
        self.forget(route)

    def forget(self, route: Route) -> None:
        """One that L{Route.choose} will not give again: let go what waits for it."""
        for callback in self.removed:
            callback(route)

    def find(self, host: str, path: str) -> Route | None:
        """
        The route for a request: of the host name itself, or of the nearest wildcard above it;
        among these, the one with the longest location that C{path} begins with.

        @param host: in lower case, without port.
        """
        key = host
        while True:
            for route in self._by_host.get(key, ()):
                if path.startswith(route.location):
                    return route
            if key == ".":
                return None
            dot = key.find(".", 1)
            key = key[dot:] if dot >= 0 else "."

    def has_host(self, host: str) -> bool:
        """Whether there is any route for this host name, whatever the path."""
        key = host
        while key not in self._by_host:
            if key == ".":
                return False
            dot = key.find(".", 1)
            key = key[dot:] if dot >= 0 else "."
        return True


def _key(host: str) -> str:
    host = host.lower().removesuffix(".")
    if host == "*":
        return "."
    return host[1:] if host.startswith("*.") else host
