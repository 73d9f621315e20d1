"""
Parsers of what a public service is found by: host names, subdomains, prefixes of paths.

Pure, like C{values}: a text to a value, or C{ValueError} with what to write instead.
"""

from __future__ import annotations

import re

import idna

from relaytun.config import values

MOST = 64
"""Names, prefixes or headers of one service: as many as a message to the server holds."""

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LONGEST_NAME = 253
_PATH = re.compile(r"/[!$%&'()*+,./0-9:;=@A-Z_a-z~-]*")
_LONGEST_PATH = 256


def domain(text: str) -> str:
    """
    Read a host name, into lower case and ASCII.

    A trailing dot is taken off; letters beyond ASCII become their C{xn--} form.
    """
    name = text.lower().removesuffix(".")
    if "*" in name:
        raise ValueError("not a host name: * stands for the first label only, as in *.example.com")
    if ":" in name or "/" in name:
        raise ValueError("not a host name: write it without scheme, port and path")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (UnicodeError, ValueError):
            raise ValueError("not a host name: it has characters that no name may have") from None
    if len(name) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError("not a host name: write one such as app.example.com")
    return name


def wildcard_domain(text: str) -> str:
    """Read a host name of which the first label may be C{*}."""
    if text.startswith("*."):
        return "*." + domain(text[2:])
    return domain(text)


def wildcard_domains(text: str) -> tuple[str, ...]:
    """Read host names that are separated by commas or line ends; the first label may be C{*}."""
    return _most(dict.fromkeys(wildcard_domain(word) for word in values.words(text)))


def domain_patterns(text: str) -> tuple[str, ...]:
    """Read the names that somebody may use: like L{wildcard_domains}, and C{*} is any."""
    words = values.words(text)
    return tuple(dict.fromkeys(each if each == "*" else wildcard_domain(each) for each in words))


def subdomain(text: str) -> str:
    """Read a single label, into lower case."""
    if "." in text or "*" in text:
        raise ValueError(
            "not a subdomain: write one label without dots and *; a whole name is a custom_domains"
        )
    return domain(text)


def url_path(text: str) -> str:
    """Check the path of a URL, without query."""
    if len(text) > _LONGEST_PATH or _PATH.fullmatch(text) is None:
        raise ValueError(
            "not a path: begin it with / and use at most 256 of the characters that a URL may "
            "have, without ? and #"
        )
    return text


def url_paths(text: str) -> tuple[str, ...]:
    """Read paths that are separated by commas or line ends."""
    return _most(dict.fromkeys(url_path(word) for word in values.words(text)))


def _most(found: dict[str, None]) -> tuple[str, ...]:
    if len(found) > MOST:
        raise ValueError(f"too many: at most {MOST}")
    return tuple(found)
