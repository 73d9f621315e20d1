"""
The section C{[hooks]}: URLs that are told what happens.

It stands in a server's or a client's file; each side has events of its own. Nothing is
sent here.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from relaytun.config.keys import CLIENT_HOOKS, SERVER_HOOKS
from relaytun.config.source import Source
from relaytun.config.values import unprintable


def read_hooks(source: Source, role: str) -> dict[str, str]:
    """
    Read the URLs by event.

    @param role: C{server} or C{client}: whose file it is.
    """
    hooks: dict[str, str] = {}
    known, other = (SERVER_HOOKS, "client") if role == "server" else (CLIENT_HOOKS, "server")
    for section in source.all("hooks"):
        for key in section.entries:
            if key not in known:
                section.note(key, f"is for the file of a {other}: use one of {', '.join(known)}")
            elif section.given(key):
                hooks[key] = section.get(key, http_url, "")
    return hooks


def http_url(text: str) -> str:
    """Check a URL of HTTP or HTTPS; it may have a user and a password."""
    problem = "not a URL: write one such as https://example.com/hook"
    if unprintable(text) or " " in text or not text.isascii():
        raise ValueError(problem)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(problem) from None
    if parts.scheme not in ("http", "https") or not host or parts.fragment:
        raise ValueError(problem)
    return text
