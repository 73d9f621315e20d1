"""
The server's configuration.

Only what it means; how a file is written is in C{ini}. Starts nothing and
makes no token, key or folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from relaytun.config import values
from relaytun.config.files import check_readable
from relaytun.config.section import Section
from relaytun.config.source import Source, texts

_OPTIONS = {
    "control": "control_port",
    "relay": "relay_port",
    "host": "host",
    "public_host": "public_host",
    "state_dir": "state_dir",
    "token": "token",
    "open": "open",
}
_EMPTY_TOKEN = "remove the key to have a token made at the first start, or give one"


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    All that a server is told. Times are in seconds.

    @ivar host: the address to listen on.
    @ivar control: a port number as text, or a Twisted endpoint description, which has a colon.
    @ivar relay: likewise.
    @ivar public_host: what clients dial for the relay; L{None}: the host by which
        they reached the control port.
    @ivar token: L{None}: the server makes one, unless it is C{open}.
    @ivar open: whether clients need no token.
    @ivar session_timeout: how long a session may be idle; 0 is for ever.
    @ivar max_bytes_per_session: 0 is no limit.
    @ivar plaintext: whether others than this machine may connect without TLS.
    @ivar certificate: a PEM file, given together with C{key} or not at all.
    """

    host: str = "0.0.0.0"
    control: str = "9000"
    relay: str = "9001"
    public_host: str | None = None
    state_dir: Path
    token: str | None = None
    open: bool = False
    session_timeout: float = 300.0
    heartbeat_interval: float = 15.0
    heartbeat_timeout: float = 45.0
    max_clients: int = 10000
    max_sessions: int = 10000
    max_bytes_per_session: int = 0
    plaintext: bool = False
    certificate: Path | None = None
    key: Path | None = None

    def __repr__(self) -> str:
        """Show where it listens and never the token."""
        return f"<ServerConfig control={self.control} relay={self.relay} state={self.state_dir}>"


def load_server(path: str | None, overrides: Mapping[str, str | bool]) -> ServerConfig:
    """
    Read a server's configuration.

    Relative paths in it count from the current folder of the process.

    @param path: an INI file, or L{None} for the defaults.
    @param overrides: what the command line says, which wins over the file:
        C{control}, C{relay}, C{host}, C{public_host}, C{state_dir}, C{token}, C{open}.
    @raise ConfigError: with a line for each thing that is wrong.
    """
    return build_server(Source(path), overrides)


def build_server(source: Source, overrides: Mapping[str, str | bool]) -> ServerConfig:
    """Read a server's configuration from a file that is already parsed."""
    source.expect("server")
    options = texts(overrides, _OPTIONS)
    section = source.one("server", options)
    if "token" in options:
        section.drop("token_file")
    for each in source.sections:
        each.check()
        if each.kind in ("client", "service", "connect"):
            source.problems.append(f"{each.place_of('').strip()}: belongs in a client file")
    config = _server(section)
    source.finish()
    return config


def _server(section: Section) -> ServerConfig:
    is_open = section.get("open", values.switch, False)
    certificate = section.get("certificate", _readable, None)
    key = section.get("key", _readable, None)
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if section.given(one) and not section.given(other):
            section.note(other, f"missing: {one} is given, and goes with it")
    interval = section.get("heartbeat_interval", values.positive_duration, 15.0)
    timeout = section.get("heartbeat_timeout", values.positive_duration, 45.0)
    if timeout <= interval:
        section.note("heartbeat_timeout", "must be more than heartbeat_interval: raise it")
    return ServerConfig(
        host=section.get("host", values.host, "0.0.0.0"),
        control=section.get("control_port", values.listening, "9000"),
        relay=section.get("relay_port", values.listening, "9001"),
        public_host=section.get("public_host", values.host, None),
        state_dir=section.state_dir(_default_state_dir()),
        token=_token(section, is_open),
        open=is_open,
        session_timeout=section.get("session_timeout", values.duration, 300.0),
        heartbeat_interval=interval,
        heartbeat_timeout=timeout,
        max_clients=section.get("max_clients", values.count, 10000),
        max_sessions=section.get("max_sessions", values.count, 10000),
        max_bytes_per_session=section.get("max_bytes_per_session", values.size, 0),
        plaintext=section.get("plaintext", _plaintext, False),
        certificate=certificate,
        key=key,
    )


def _token(section: Section, is_open: bool) -> str | None:
    for key in ("token", "token_file"):
        if is_open and key in section.entries:
            place = section.entries[key].place
            section.note("open", f"a token is given as well: remove --open, or {place}")
            return None
    return section.token(_EMPTY_TOKEN)


def _default_state_dir() -> str:
    return "/var/lib/relaytun" if os.geteuid() == 0 else "relaytun-server"


def _readable(text: str) -> Path:
    return check_readable(values.path(text))


def _plaintext(text: str) -> bool:
    if text not in ("loopback", "yes"):
        raise ValueError(
            "use loopback (without TLS from this machine only, the default) or yes (from anywhere)"
        )
    return text == "yes"
