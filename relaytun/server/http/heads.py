"""
Heads of requests and answers, read.

A head is checked by L{relaytun.wire.http1}, then parsed by h11.  What many connections send byte
for byte alike is parsed once: see L{Heads}.
"""

from __future__ import annotations

from typing import TypeVar

import h11

from ...wire import http1
from ...wire.errors import WireError
from ...wire.http1 import UNTIL_CLOSE

#: A field: its name in lower case, as it was written, and its value.
Field = tuple[bytes, bytes, bytes]

#: Heads that are remembered, and how long each may be.
_REMEMBERED = 256
_SMALL = 4096

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
#: To have h11 expect an answer, whatever kind of.
_ASKED = [("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "a")]

_H = TypeVar("_H", "RequestHead", "ResponseHead")


class _Head:
    """
    What both have.

    @ivar modern: HTTP/1.1.
    @ivar fields: all that was sent.
    @ivar options: the words of Connection.
    @ivar keep: the connection may be used again.
    @ivar length: of the body, or C{CHUNKED} or C{UNTIL_CLOSE}.
    @ivar written, written_for: the last composition for the other side, and its circumstances.
    """

    __slots__ = ("fields", "keep", "length", "modern", "options", "written", "written_for")

    length: int

    def __init__(self, event: h11.Request | h11.Response | h11.InformationalResponse) -> None:
        headers = event.headers
        self.fields: list[Field] = [
            (name, raw, value)
            for (name, value), (raw, _) in zip(headers, headers.raw_items(), strict=True)
        ]
        self.modern = event.http_version == b"1.1"
        self.options = frozenset(self.words(b"connection"))
        self.keep = b"close" not in self.options and (self.modern or b"keep-alive" in self.options)
        self.written: object = None
        self.written_for: object = None

    def words(self, name: bytes) -> list[bytes]:
        """What a field lists, in lower case."""
        return [word.strip() for value in self.values(name) for word in value.lower().split(b",")]

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, _, value in self.fields if each == name]


class RequestHead(_Head):
    """
    A request.

    @ivar target: path and query, or C{*}.
    @ivar path: what locations of routes are compared with.
    @ivar host: for whom it is, without port; C{authority} as it was written.
    @ivar upgrade: what it asks to speak instead of HTTP, or empty.
    @ivar expects: it waits for leave to send its body.
    @ivar idempotent: to send it twice does no more than to send it once.
    @ivar html: who sent it reads HTML.
    """

    __slots__ = (
        "authority", "authorization", "expects", "host", "html", "idempotent", "method", "path",
        "target", "upgrade",
    )  # fmt: skip

    def __init__(self, raw: bytes) -> None:
        """@raise WireError: if it is malformed or has more than one reading."""
        essentials = http1.check_request(raw)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=http1.MAX_HEAD)
        request = _event(connection, raw)
        if not isinstance(request, h11.Request):
            raise WireError("no request")
        super().__init__(request)
        self.method = request.method
        self.length = http1.body_length(essentials, self.modern, 0)
        self.authority, self.host, self.target = http1.locate(
            request.target, essentials.get(b"host"), self.modern
        )
        self.path = "/" if self.target == b"*" else self.target.decode().partition("?")[0]
        self.authorization = essentials.get(b"authorization")
        self.upgrade = self._upgrade()
        self.expects = self.modern and b"100-continue" in self.words(b"expect")
        self.idempotent = self.method in _IDEMPOTENT
        self.html = any(b"text/html" in value for value in self.values(b"accept"))

    def _upgrade(self) -> bytes:
        wanted = self.values(b"upgrade")
        if self.values(b"http2-settings") or any(b"h2c" in value.lower() for value in wanted):
            # Behind it would follow requests that nobody here reads.
            raise WireError("an upgrade to HTTP/2")
        if not (self.modern and wanted and b"upgrade" in self.options) or self.length:
            return b""
        return b", ".join(wanted)


class ResponseHead(_Head):
    """An answer."""

    __slots__ = ("reason", "status")

    def __init__(self, raw: bytes, bodiless: bool) -> None:
        """
        @param bodiless: it answers HEAD.
        @raise WireError: if it is malformed or has more than one reading.
        """
        essentials = http1.check_response(raw)
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=http1.MAX_HEAD)
        method = "HEAD" if bodiless else "GET"
        connection.send(h11.Request(method=method, target="/", headers=_ASKED))
        connection.send(h11.EndOfMessage())
        response = _event(connection, raw)
        if not isinstance(response, (h11.Response, h11.InformationalResponse)):
            raise WireError("no response")
        super().__init__(response)
        self.status = response.status_code
        self.reason = bytes(response.reason)
        length = http1.body_length(essentials, self.modern, UNTIL_CLOSE)
        without = bodiless or self.status < 200 or self.status in (204, 304)
        self.length = 0 if without else length
        self.keep = self.keep and self.length != UNTIL_CLOSE


class Heads:
    """
    Reads heads, and remembers small ones: equal bytes have equal meanings.

    Heads with a password are not kept.
    """

    def __init__(self) -> None:
        self._requests: dict[bytes, RequestHead] = {}
        self._responses: dict[bytes, ResponseHead] = {}

    def request(self, raw: bytes) -> RequestHead:
        """@raise WireError: as L{RequestHead}."""
        head = self._requests.get(raw)
        if head is None:
            head = RequestHead(raw)
            if head.authorization is None:
                _remember(self._requests, raw, head)
        return head

    def response(self, raw: bytes, bodiless: bool) -> ResponseHead:
        """@raise WireError: as L{ResponseHead}."""
        if bodiless:
            return ResponseHead(raw, True)
        head = self._responses.get(raw)
        if head is None:
            head = ResponseHead(raw, False)
            _remember(self._responses, raw, head)
        return head


def _remember(memory: dict[bytes, _H], raw: bytes, head: _H) -> None:
    if len(raw) <= _SMALL:
        if len(memory) >= _REMEMBERED:
            del memory[next(iter(memory))]
        memory[raw] = head


def _event(connection: h11.Connection, raw: bytes) -> object:
    try:
        connection.receive_data(raw)
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        # Its texts quote what came in.
        raise WireError("a malformed head") from error
