"""
Where a server is and how to trust it: the invite line and the server URL.

An invite is C{relaytun://TOKEN@HOST:PORT?fp=sha256:HEX}: all that a client
needs. Pure text; it dials nothing and reads no file.
"""

from __future__ import annotations

from urllib.parse import parse_qs, quote, unquote

import msgspec

from relaytun.config import values

SCHEME = "relaytun"
DEFAULT_PORT = 9000
_WHOLE_LINE = "copy the whole line from <state-dir>/invite on the server"


class ServerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """
    A server's control port, as a client sees it.

    @ivar host: a name or an address, IPv6 without brackets.
    @ivar secure: whether to speak TLS.
    @ivar token: the server's token, or L{None} for a server that is open.
    @ivar fingerprint: C{sha256:} and 64 lower-case hex digits; L{None} means that
        the certificate authorities of the system vouch for the host name.
    """

    host: str
    port: int
    secure: bool = True
    token: str | None = None
    fingerprint: str | None = None

    def url(self) -> str:
        """Write the address as a WebSocket URL, which has no secret in it."""
        scheme = "wss" if self.secure else "ws"
        return f"{scheme}://{values.bracketed(self.host)}:{self.port}"

    def __repr__(self) -> str:
        """Show the address and never the token."""
        return f"<ServerAddress {self.url()} fingerprint={self.fingerprint}>"


def parse_invite(text: str) -> ServerAddress:
    """
    Read an invite.

    Parameters other than C{fp} are ignored: later versions may add some.

    @raise ValueError: the text is no invite; the sentence does not repeat it.
    """
    scheme, colon, rest = text.strip().partition("://")
    if not colon or scheme.lower() != SCHEME:
        raise ValueError(f"not an invite: it starts with relaytun://; {_WHOLE_LINE}")
    authority, _, query = rest.partition("?")
    userinfo, at, address = authority.rpartition("@")
    token = None
    if at:
        if not userinfo:
            raise ValueError(f"not an invite: the token before @ is missing; {_WHOLE_LINE}")
        try:
            token = values.token(unquote(userinfo))
        except ValueError:
            raise ValueError(f"not an invite: its token is damaged; {_WHOLE_LINE}") from None
    try:
        host, port = values.host_and_port(address, default=None)
    except ValueError as error:
        raise ValueError(f"not an invite: {error}; {_WHOLE_LINE}") from None
    fingerprints = parse_qs(query).get("fp", [])
    if len(fingerprints) != 1:
        raise ValueError(f"not an invite: it has one ?fp=sha256:...; {_WHOLE_LINE}")
    try:
        fingerprint = values.fingerprint(fingerprints[0])
    except ValueError as error:
        raise ValueError(f"not an invite: {error} after fp=; {_WHOLE_LINE}") from None
    return ServerAddress(host=host, port=port, token=token, fingerprint=fingerprint)


def format_invite(address: ServerAddress) -> str:
    """
    Write an invite, without a token if the server is open.

    @raise ValueError: the address has no fingerprint or no TLS, and an invite has both.
    """
    if address.fingerprint is None or not address.secure:
        raise ValueError("an invite is for a server with TLS and a fingerprint")
    userinfo = "" if address.token is None else quote(address.token, safe="") + "@"
    host = values.bracketed(address.host)
    return f"{SCHEME}://{userinfo}{host}:{address.port}?fp={address.fingerprint}"


def parse_server_url(text: str) -> ServerAddress:
    """
    Read C{wss://HOST:PORT} or C{ws://HOST:PORT}; without a port it is 9000.

    @raise ValueError: the text is something else; the sentence does not repeat it.
    """
    scheme, colon, address = text.partition("://")
    if not colon or scheme.lower() not in ("ws", "wss"):
        raise ValueError("not a server: write wss://HOST:PORT")
    if "@" in address:
        raise ValueError("not a server: write wss://HOST:PORT, and the token in its own key")
    if any(mark in address for mark in "/?#"):
        raise ValueError("not a server: remove what comes after wss://HOST:PORT")
    host, port = values.host_and_port(address, default=DEFAULT_PORT)
    return ServerAddress(host=host, port=port, secure=scheme.lower() == "wss")
