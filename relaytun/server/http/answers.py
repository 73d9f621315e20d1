"""
Answers of the server itself: small pages that say what is wrong, and nothing about its insides.
"""

from __future__ import annotations

from html import escape
from http import HTTPStatus

from .heads import RequestHead

_HTML = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1><p>{text}</p></body>
</html>
"""


def page(status: int, text: str, request: RequestHead | None, *, keep: bool) -> bytes:
    """
    A whole answer that says what is the matter.

    @param text: a sentence for the visitor; it is escaped.
    @param request: what is answered, C{None} if that could not be read.
    @param keep: the connection goes on.
    """
    title = f"{status} {HTTPStatus(status).phrase}"
    if request is not None and request.html:
        body = _HTML.format(title=escape(title), text=escape(text)).encode()
        return whole(status, body, "text/html; charset=utf-8", request, keep=keep)
    body = f"{title}\n\n{text}\n".encode()
    return whole(status, body, "text/plain; charset=utf-8", request, keep=keep)


def whole(
    status: int, body: bytes, content_type: str, request: RequestHead | None, *, keep: bool
) -> bytes:
    """
    A whole answer.

    @param request, keep: as for L{page}.
    """
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
    ]
    if status == 401:
        lines.append('WWW-Authenticate: Basic realm="relaytun", charset="UTF-8"')
    if not keep:
        lines.append("Connection: close")
    elif request is not None and not request.modern:
        lines.append("Connection: keep-alive")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head if request is not None and request.method == b"HEAD" else head + body
