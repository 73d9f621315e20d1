"""
Answers of the server itself: small pages that say what is wrong, and nothing about its insides.
"""

from __future__ import annotations

from html import escape
from http import HTTPStatus

_HTML = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1><p>{text}</p></body>
</html>
"""


def page(status: int, text: str, *, html: bool, keep: bool, modern: bool, bodiless: bool) -> bytes:
    """
    A whole answer.

    @param text: a sentence for the visitor; it is escaped.
    @param html: as HTML; otherwise as plain text.
    @param keep: the connection goes on.
    @param modern: the visitor speaks HTTP/1.1.
    @param bodiless: it sent HEAD.
    """
    title = f"{status} {HTTPStatus(status).phrase}"
    if html:
        body = _HTML.format(title=escape(title), text=escape(text)).encode()
    else:
        body = f"{title}\n\n{text}\n".encode()
    lines = [
        f"HTTP/1.1 {title}",
        f"Content-Type: text/{'html' if html else 'plain'}; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
    ]
    if status == 401:
        lines.append('WWW-Authenticate: Basic realm="relaytun", charset="UTF-8"')
    if not keep:
        lines.append("Connection: close")
    elif not modern:
        lines.append("Connection: keep-alive")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head if bodiless else head + body
