"""
Which servers a client uses: the keys of C{[client]} that say so, in one of four ways.

An invite, a file with one, a URL, or a list of both kinds.  What an invite and a
URL look like is in C{invite}.
"""

from __future__ import annotations

import msgspec

from relaytun.config import values
from relaytun.config.files import read_text
from relaytun.config.invite import SCHEME, ServerAddress, parse_invite, parse_server_url
from relaytun.config.section import Section

WAYS = ("invite", "invite_file", "server", "servers")
"""The keys that name a server; one of them is there."""

PARTS = ("token", "token_file", "fingerprint")
"""The keys that complete a server that is named by its URL."""

_EMPTY_TOKEN = "remove the key if the server is open, or give one"
_NOWHERE = ServerAddress(host="", port=0)


def read_servers(section: Section) -> tuple[ServerAddress, ...]:
    """Read them in their order: at least one, no two the same."""
    ways = [key for key in WAYS if section.given(key)]
    if not ways:
        remedy = "copy the line from <state-dir>/invite on the server"
        section.note("invite", f"missing: {remedy}")
        return (_NOWHERE,)
    for key in ways[1:]:
        section.note(key, f"{ways[0]} is given as well: remove one of the two")
    if "servers" in ways:
        return _completed(section, section.get_lines("servers", _list, (_NOWHERE,)))
    if "server" in ways:
        return _completed(section, (section.get("server", parse_server_url, _NOWHERE),))
    _refuse_parts(section, "the invite has its own")
    invite = section.get("invite", parse_invite, _NOWHERE)
    return (section.get("invite_file", _invite_file, invite),)


def _invite_file(text: str) -> ServerAddress:
    return parse_invite(read_text(values.path(text)))


def _list(text: str) -> tuple[ServerAddress, ...]:
    """Read invites and URLs that are separated by commas or line ends."""
    words = values.words(text)
    if not words:
        raise ValueError("empty: name at least one server, by invite or as wss://HOST:PORT")
    found: dict[tuple[str, int], ServerAddress] = {}
    for number, word in enumerate(words, start=1):
        parse = parse_invite if word.lower().startswith(SCHEME) else parse_server_url
        try:
            address = parse(word)
        except ValueError as error:
            raise ValueError(f"server {number} of the list: {error}") from None
        place = address.host.lower(), address.port
        if place in found:
            raise ValueError(f"server {number} of the list is there twice: remove one")
        found[place] = address
    return tuple(found.values())


def _completed(section: Section, addresses: tuple[ServerAddress, ...]) -> tuple[ServerAddress, ...]:
    """Give those that came as URLs, and so without a fingerprint, the section's parts."""
    by_url = [address for address in addresses if address.fingerprint is None]
    if not by_url:
        _refuse_parts(section, "each invite has its own")
        return addresses
    fingerprint = section.get("fingerprint", values.fingerprint, None)
    if fingerprint is not None and not all(address.secure for address in by_url):
        section.note("fingerprint", "needs TLS: write the server as wss://, or remove this key")
    token = section.token(_EMPTY_TOKEN)
    return tuple(
        msgspec.structs.replace(address, token=token, fingerprint=fingerprint)
        if address.fingerprint is None
        else address
        for address in addresses
    )


def _refuse_parts(section: Section, why: str) -> None:
    for key in PARTS:
        if key in section.entries:
            section.note(key, f"{why}: remove this key")
