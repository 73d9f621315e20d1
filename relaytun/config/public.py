"""
What a service is for the public: the keys of C{[service:ID]} that the server acts upon.

Only what they mean. Which ports and names the server gives away is for the server to say.
"""

from __future__ import annotations

import re

import msgspec

from relaytun.config import values
from relaytun.config.domains import MOST, subdomain, url_paths, wildcard_domains
from relaytun.config.keys import HTTP_ONLY, PUBLIC_PLACES
from relaytun.config.section import Section

Headers = tuple[tuple[str, str], ...]

_BALANCE = ("round_robin", "least_connections")
_HTTP = ("http", "ws")
_NAMES = ("custom_domains", "subdomain")
_GROUP = ("group", "group_key", "balance")
_EXTRAS = (*HTTP_ONLY, "proxy_protocol", *_GROUP)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110 section 5.6.2
_LONGEST_VALUE = 4096
_LONGEST_SECRET = 256
_NO_PASSWORD = "write the password that goes with http_user"
_OURS = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""The headers that say where a message ends, or are for one connection only."""


class PublicConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the server opens for anyone on the Internet; there is at least one place.

    @ivar remote_port: the public port; 0: the server picks one; L{None}: none.
    @ivar custom_domains: host names in lower case, of which the first label may be C{*}.
    @ivar subdomain: one label under the server's C{subdomain_host}; empty: none.
    @ivar locations: prefixes of the path; empty: all paths.
    @ivar host_header_rewrite: what the service sees as Host; empty: what the visitor sent.
    @ivar request_headers, response_headers: names and values to set.
    @ivar http_user, http_password: what a visitor has to show; empty: nothing.
    @ivar proxy_protocol: C{v1}, C{v2} or L{None}.
    @ivar group, group_key: providers of one group, with one key, share their places; empty: none.
    @ivar balance: C{round_robin} or C{least_connections}.
    """

    remote_port: int | None = None
    custom_domains: tuple[str, ...] = ()
    subdomain: str = ""
    locations: tuple[str, ...] = ()
    host_header_rewrite: str = ""
    request_headers: Headers = ()
    response_headers: Headers = ()
    http_user: str = ""
    http_password: str = ""
    proxy_protocol: str | None = None
    group: str = ""
    group_key: str = ""
    balance: str = "round_robin"

    def __repr__(self) -> str:
        """Show the places and never a password, a key or a header."""
        names = ",".join((*self.custom_domains, self.subdomain)).strip(",")
        return f"<PublicConfig port={self.remote_port} names={names} group={self.group}>"


def read_public(section: Section, protocol: str) -> PublicConfig | None:
    """Read what a service is for the public, L{None} if it is not for the public."""
    _refuse_misfits(section, protocol)
    public = PublicConfig(
        remote_port=section.get("remote_port", values.port_or_zero, None),
        custom_domains=section.get_lines("custom_domains", wildcard_domains, ()),
        subdomain=section.get("subdomain", subdomain, ""),
        locations=section.get_lines("locations", url_paths, ()),
        host_header_rewrite=section.get("host_header_rewrite", _host_header, ""),
        request_headers=section.get_lines("request_headers", request_headers, ()),
        response_headers=section.get_lines("response_headers", headers, ()),
        http_user=section.get("http_user", _user, ""),
        http_password=_password(section),
        proxy_protocol=section.get(
            "proxy_protocol", values.one_of("proxy_protocol", "v1", "v2"), None
        ),
        group=section.get("group", values.identifier, ""),
        group_key=section.get("group_key", _secret, ""),
        balance=section.get("balance", values.one_of("balance", *_BALANCE), "round_robin"),
    )
    if any(map(section.given, PUBLIC_PLACES)):
        return public
    for key in _EXTRAS:
        if section.given(key):
            section.note(
                key, "is for the public: write remote_port, custom_domains or subdomain as well"
            )
            break
    return None


def _refuse_misfits(section: Section, protocol: str) -> None:
    """Note keys that do not go with the protocol, or not with each other."""
    if protocol == "udp":
        for key in (*_NAMES, *_EXTRAS):
            if section.given(key):
                section.note(key, "a udp service has a remote_port only: remove this key")
        return
    named = any(map(section.given, _NAMES))
    for key in HTTP_ONLY:
        if not section.given(key):
            continue
        if protocol not in _HTTP:
            section.note(key, "needs protocol = http or ws: change it, or remove this key")
        elif section.given("remote_port") and not named:
            section.note(key, "needs custom_domains or subdomain: a remote_port is not looked into")
    if named and section.given("http_user") and section.given("remote_port"):
        section.note("remote_port", "nobody is asked for http_user there: remove one of the two")
    for key in ("group_key", "balance"):
        if section.given(key) and not section.given("group"):
            section.note(key, "goes with group: write one, or remove this key")


def _password(section: Section) -> str:
    given = section.given("http_user")
    written = [key for key in ("http_password", "http_password_file") if section.given(key)]
    if not written:
        if given:
            section.note("http_password", f"missing: {_NO_PASSWORD}")
        return ""
    if not given:
        section.note("http_user", f"missing: {written[0]} is given, and goes with it")
    return section.secret("http_password", _secret, _NO_PASSWORD) or ""


def _user(text: str) -> str:
    if ":" in text or len(text) > _LONGEST_SECRET or values.unprintable(text):
        raise ValueError("not a user's name: at most 256 characters, no colon, none a control")
    return text


def _secret(text: str) -> str:
    if len(text) > _LONGEST_SECRET or values.unprintable(text):
        raise ValueError("not a secret: at most 256 characters, none of them a control")
    return text


def _host_header(text: str) -> str:
    values.host_and_port(text, 80)
    if not text.isascii():
        raise ValueError("not a Host header: write the name in its xn-- form")
    return text


def headers(text: str) -> Headers:
    """Read lines C{Name: value}, each name once."""
    found: dict[str, tuple[str, str]] = {}
    for line in text.split("\n"):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not colon or _TOKEN.fullmatch(name) is None:
            raise ValueError("not a header: write each one in a line of its own, as Name: value")
        if len(value) > _LONGEST_VALUE or values.unprintable(value.replace("\t", " ")):
            raise ValueError("a header's value has at most 4096 characters, none of them a control")
        if name.lower() in _OURS:
            raise ValueError(
                "headers that frame a message or manage a connection are set by the server: "
                "remove Connection, Content-Length, Transfer-Encoding and the like"
            )
        if found.setdefault(name.lower(), (name, value)) != (name, value):
            raise ValueError("one header is there twice: remove one")
    if len(found) > MOST:
        raise ValueError(f"too many: at most {MOST}")
    return tuple(found.values())


def request_headers(text: str) -> Headers:
    """Read headers of requests, of which Host has a key of its own."""
    found = headers(text)
    if any(name.lower() == "host" for name, _ in found):
        raise ValueError("Host has a key of its own: write host_header_rewrite")
    return found
