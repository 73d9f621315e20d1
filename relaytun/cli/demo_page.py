"""The web page that the demo offers: it says how it got there."""

from __future__ import annotations

import html
from collections.abc import Callable

from twisted.web.http import Request
from twisted.web.resource import Resource

#: Stands in every page, so that the demo knows its own.
MARK = "This page came through the tunnel"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>relaytun demo</title>
<style>
  body {{ font: 1.1em/1.6 system-ui, sans-serif; max-width: 40em; margin: 3em auto }}
  code {{ background: #8882; border-radius: .3em; padding: .1em .4em }}
  li {{ margin: .4em 0 }}
</style>
<h1>{mark}</h1>
<p>You asked for <code>{path}</code>. This is the way that your request took, and the answer took
it back:</p>
<ol>{hops}</ol>
<p>All of it ran on one machine. It is the same with three.</p>
</html>
"""


class DemoPage(Resource):
    """Answers every path."""

    isLeaf = True

    def __init__(self, hops: Callable[[], list[str]]) -> None:
        """@param hops: a sentence for each station on the way."""
        super().__init__()
        self._hops = hops

    def render_GET(self, request: Request) -> bytes:
        """The page."""
        request.setHeader(b"content-type", b"text/html; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return page(request.uri.decode("ascii", "replace"), self._hops()).encode()


def page(path: str, hops: list[str]) -> str:
    """
    @param path: as the browser asked for it.
    @return: HTML.
    """
    items = "".join(f"<li>{html.escape(hop)}</li>" for hop in hops)
    return _PAGE.format(mark=MARK, path=html.escape(path), hops=items)
