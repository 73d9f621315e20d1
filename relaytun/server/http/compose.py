"""
Heads of requests and answers, written anew for the other side.

What is passed on is composed of parsed values.  Fields between neighbours end here; those by which
a service knows its visitors are the server's to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

from ...wire.http1 import CHUNKED, UNTIL_CLOSE
from .heads import RequestHead, ResponseHead
from .routes import Headers, Route

#: Between two neighbours only (RFC 9110, section 7.6.1); what of it is needed is made anew.
_HOP_BY_HOP = frozenset(
    {
        b"connection", b"content-length", b"expect", b"http2-settings", b"keep-alive",
        b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_FORWARDED = frozenset(
    {
        b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port",
        b"x-forwarded-proto", b"x-forwarded-server", b"x-real-ip",
    }
)  # fmt: skip
#: Of these, those that are written even if a trusted proxy has written them.
_WRITTEN = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})


class Peer(NamedTuple):
    """
    Who sends requests.

    @ivar trusted: a proxy whose word on its own visitors is believed.
    """

    host: str
    secure: bool
    trusted: bool


class Answer(NamedTuple):
    """
    How an answer is passed on.

    @ivar chunked: its body, in chunks.
    @ivar keep: the visitor's connection may be used again.
    """

    head: bytes
    chunked: bool
    keep: bool


def request(head: RequestHead, route: Route, peer: Peer) -> bytes:
    """The head that the service gets."""
    circumstances = (route, peer)
    if head.written_for == circumstances:
        return cast(bytes, head.written)
    host = route.host_header_rewrite
    dropped = _HOP_BY_HOP | head.options | {b"host"} | _names(route.request_headers)
    if route.user is not None:
        dropped |= {b"authorization"}
    lines = [
        b"%b %b HTTP/1.1\r\n" % (head.method, head.target),
        b"Host: %b\r\n" % (head.authority if host is None else host.encode("latin-1")),
    ]
    for name, raw, value in head.fields:
        # To some services an underscore and a hyphen are one and the same.
        ours = name.replace(b"_", b"-") in _FORWARDED
        if name not in dropped and not (ours and (not peer.trusted or name in _WRITTEN)):
            lines.append(b"%b: %b\r\n" % (raw, value))
    lines.extend(_forwarded(head, route, peer))
    lines.extend(_lines(route.request_headers))
    if head.length == CHUNKED:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif head.length or head.values(b"content-length"):
        lines.append(b"Content-Length: %d\r\n" % head.length)
    if head.expects:
        lines.append(b"Expect: 100-continue\r\n")
    if b"trailers" in head.words(b"te"):
        lines.append(b"TE: trailers\r\n")
    if head.upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade)
    lines.append(b"\r\n")
    written = b"".join(lines)
    head.written, head.written_for = written, circumstances
    return written


def interim(head: ResponseHead, route: Route) -> bytes:
    """An answer that is not the last, or C{101}: after that HTTP is over."""
    lines = [_status(head)]
    if head.status == 101:
        upgrade = b", ".join(head.values(b"upgrade"))
        lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade)
    lines.extend(_passed_on(head, route))
    lines.append(b"\r\n")
    return b"".join(lines)


def answer(head: ResponseHead, route: Route, modern: bool, keep: bool, bodiless: bool) -> Answer:
    """
    The head that the visitor gets.

    @param modern: the visitor speaks HTTP/1.1.
    @param keep: its connection may be used again, as far as the request is concerned.
    @param bodiless: it sent HEAD.
    """
    circumstances = (route, modern, keep, bodiless)
    if head.written_for == circumstances:
        return cast(Answer, head.written)
    chunked = False
    lines = [_status(head), *_passed_on(head, route)]
    if bodiless or head.status == 304:
        # The length of what is not there.
        lines.extend(b"Content-Length: %b\r\n" % each for each in head.values(b"content-length"))
    elif head.length in (CHUNKED, UNTIL_CLOSE):
        chunked = modern
        keep = keep and modern
        if modern:
            lines.append(b"Transfer-Encoding: chunked\r\n")
    elif head.status != 204:
        lines.append(b"Content-Length: %d\r\n" % head.length)
    if not keep:
        lines.append(b"Connection: close\r\n")
    elif not modern:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    written = Answer(b"".join(lines), chunked, keep)
    head.written, head.written_for = written, circumstances
    return written


def _status(head: ResponseHead) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)


def _forwarded(head: RequestHead, route: Route, peer: Peer) -> Iterable[bytes]:
    def believed(name: bytes) -> bytes:
        return b", ".join(head.values(name)) if peer.trusted else b""

    before = believed(b"x-forwarded-for")
    host = peer.host.encode("ascii", "replace")
    fields = (
        (b"X-Forwarded-For", b"%b, %b" % (before, host) if before else host),
        (b"X-Forwarded-Host", believed(b"x-forwarded-host") or head.authority),
        (
            b"X-Forwarded-Proto",
            believed(b"x-forwarded-proto") or (b"https" if peer.secure else b"http"),
        ),
    )
    others = _names(route.request_headers)
    return (b"%b: %b\r\n" % field for field in fields if field[0].lower() not in others)


def _passed_on(head: ResponseHead, route: Route) -> Iterable[bytes]:
    dropped = _HOP_BY_HOP | head.options | _names(route.response_headers)
    for name, raw, value in head.fields:
        if name not in dropped:
            yield b"%b: %b\r\n" % (raw, value)
    yield from _lines(route.response_headers)


def _names(headers: Headers) -> frozenset[bytes]:
    return frozenset(name.lower().encode("latin-1") for name, _ in headers)


def _lines(headers: Headers) -> Iterable[bytes]:
    return (f"{name}: {value}\r\n".encode("latin-1") for name, value in headers)
