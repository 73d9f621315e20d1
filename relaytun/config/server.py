"""
The server's configuration.

Only what it means; how a file is written is in C{ini}. Starts nothing and
makes no token, key or folder.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from relaytun.config import values
from relaytun.config.domains import url_path
from relaytun.config.files import check_readable
from relaytun.config.hooks import read_hooks
from relaytun.config.keys import CLIENT_KINDS
from relaytun.config.networks import Network, PortRange, networks, port_ranges
from relaytun.config.section import Section
from relaytun.config.source import Source, texts
from relaytun.config.users import UserConfig, read_users
from relaytun.config.vhosts import VhostConfig, read_vhosts

_OPTIONS = {
    "control": "control_port",
    "relay": "relay_port",
    "host": "host",
    "public_host": "public_host",
    "state_dir": "state_dir",
    "token": "token",
    "open": "open",
}
ALLOW_PORTS: tuple[PortRange, ...] = ((6000, 6999),)
"""The public ports that clients may have where nothing else is said."""

_log_format = values.one_of("log_format", "text", "json")
_EMPTY_TOKEN = "remove the key to have a token made at the first start, or give one"


class ServerConfig(VhostConfig, frozen=True, kw_only=True):
    """
    All that a server is told. Times are in seconds.

    @ivar host: the address to listen on.
    @ivar control: a port number as text, or a Twisted endpoint description, which has a colon.
    @ivar relay: likewise.
    @ivar reflector: the port, UDP and TCP, at which clients are told how they are seen; 0: any,
        C{auto}: the one after the relay port if it is free; L{None}: clients are not told.
    @ivar reflector_address: of this machine, where that port is; L{None}: at C{host}.
    @ivar public_host: what clients dial for the relay; L{None}: the host by which
        they reached the control port.
    @ivar token: L{None}: the server makes one, unless it is C{open}.
    @ivar open: whether clients need no token.
    @ivar ws_path: where the WebSockets of clients are found.
    @ivar session_timeout: how long a session may be idle; 0 is for ever.
    @ivar max_bytes_per_session: 0 is no limit.
    @ivar drain_timeout: how long sessions have to end when the server is told to stop.
    @ivar max_ports_per_client: public ports; 0 is no limit.
    @ivar max_connections_per_address: public connections; 0 is no limit.
    @ivar allow_networks: who may connect to anything public; empty: everyone.
    @ivar deny_networks: who may not, even if allowed.
    @ivar proxy_protocol_from: the peers that have to send a PROXY header.
    @ivar metrics: where metrics are to be read, like C{control}; L{None}: nowhere.
    @ivar log_format: C{text} or C{json}.
    @ivar plaintext: whether others than this machine may connect without TLS.
    @ivar certificate: a PEM file, given together with C{key} or not at all.
    @ivar allow_ports: the public ports that clients may have.
    @ivar users: those who have a token of their own.
    @ivar hooks: the URLs that are told, by event.
    """

    host: str = "0.0.0.0"
    control: str = "9000"
    relay: str = "9001"
    reflector: str | None = "auto"
    reflector_address: str | None = None
    public_host: str | None = None
    ws_path: str = values.WS_PATH
    state_dir: Path
    token: str | None = None
    open: bool = False
    session_timeout: float = 300.0
    heartbeat_interval: float = 15.0
    heartbeat_timeout: float = 45.0
    drain_timeout: float = 30.0
    max_clients: int = 10000
    max_sessions: int = 10000
    max_bytes_per_session: int = 0
    max_ports_per_client: int = 0
    max_connections_per_address: int = 0
    allow_networks: tuple[Network, ...] = ()
    deny_networks: tuple[Network, ...] = ()
    proxy_protocol_from: tuple[Network, ...] = ()
    metrics: str | None = None
    log_format: str = "text"
    plaintext: bool = False
    certificate: Path | None = None
    key: Path | None = None
    allow_ports: tuple[PortRange, ...] = ALLOW_PORTS
    users: tuple[UserConfig, ...] = ()
    hooks: dict[str, str] = msgspec.field(default_factory=dict)

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
        if each.kind in CLIENT_KINDS:
            source.problems.append(f"{each.place_of('').strip()}: belongs in a client file")
    config = _server(source, section)
    source.finish()
    return config


def _server(source: Source, section: Section) -> ServerConfig:
    http = source.one("http", {})
    vhosts = read_vhosts(http)
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
    host = section.get("host", values.host, "0.0.0.0")
    control = section.get("control_port", values.listening, "9000")
    relay = section.get("relay_port", values.listening, "9001")
    metrics = section.get("metrics_port", values.listening, None)
    reflector = None
    if not section.empty("reflector_port"):
        reflector = section.get("reflector_port", _reflector, "auto")
    _refuse_shared_ports(
        ("control_port", control, section),
        ("relay_port", relay, section),
        ("reflector_port", reflector, section),
        ("metrics_port", metrics, section),
        ("vhost_http_port", vhosts.vhost_http, http),
        ("vhost_https_port", vhosts.vhost_https, http),
    )
    token = _token(section, is_open)
    return ServerConfig(
        host=host,
        control=control,
        relay=relay,
        reflector=reflector,
        reflector_address=section.get("reflector_address", _address, None),
        public_host=section.get("public_host", values.host, None),
        ws_path=section.get("ws_path", url_path, values.WS_PATH),
        state_dir=section.state_dir(_default_state_dir()),
        token=token,
        open=is_open,
        session_timeout=section.get("session_timeout", values.duration, 300.0),
        heartbeat_interval=interval,
        heartbeat_timeout=timeout,
        drain_timeout=section.get("drain_timeout", values.duration, 30.0),
        max_clients=section.get("max_clients", values.count, 10000),
        max_sessions=section.get("max_sessions", values.count, 10000),
        max_bytes_per_session=section.get("max_bytes_per_session", values.size, 0),
        max_ports_per_client=section.get("max_ports_per_client", values.count_or_zero, 0),
        max_connections_per_address=section.get(
            "max_connections_per_address", values.count_or_zero, 0
        ),
        allow_networks=_allow_networks(section),
        deny_networks=section.get_lines("deny_networks", networks, ()),
        proxy_protocol_from=section.get_lines("proxy_protocol_from", networks, ()),
        metrics=metrics,
        log_format=section.get("log_format", _log_format, "text"),
        plaintext=section.get("plaintext", _plaintext, False),
        certificate=certificate,
        key=key,
        allow_ports=_allow_ports(source.one("public", {})),
        users=_users(source, section, token, is_open),
        hooks=read_hooks(source, "server"),
        **msgspec.structs.asdict(vhosts),
    )


def _refuse_shared_ports(*ports: tuple[str, str | None, Section]) -> None:
    """Note ports that are another's already; only HTTPS and the control port may be one."""
    taken: dict[str, str] = {}
    for key, port, section in ports:
        if port is None or port == "0":
            continue
        other = taken.setdefault(port, key)
        if other != key and (other, key) != ("control_port", "vhost_https_port"):
            section.note(key, f"is the {other} already: take another port")


def _allow_networks(section: Section) -> tuple[Network, ...]:
    """Read who may come; a list that is there but empty is more likely a slip than everyone."""
    if section.empty("allow_networks"):
        section.note(
            "allow_networks", "empty: name at least one, or remove the key to let everyone in"
        )
    return section.get_lines("allow_networks", networks, ())


def _allow_ports(section: Section) -> tuple[PortRange, ...]:
    """Read what clients may have; absent is the usual, empty is nothing."""
    if section.empty("allow_ports"):
        return ()
    return section.get_lines("allow_ports", port_ranges, ALLOW_PORTS)


def _users(
    source: Source, section: Section, token: str | None, is_open: bool
) -> tuple[UserConfig, ...]:
    users = read_users(source, token)
    if users and is_open:
        section.note(
            "open", f"[user:{users[0].name}] is there as well: remove --open, or the users"
        )
    return users


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


def _reflector(text: str) -> str:
    return str(values.port_or_zero(text))


def _address(text: str) -> str:
    """Check an IP address that can be listened on and told to clients."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("not an address: write an IPv4 or IPv6 address of this machine") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError("not one address: write the one that clients are to ask")
    return str(address)


def _plaintext(text: str) -> bool:
    if text not in ("loopback", "yes"):
        raise ValueError(
            "use loopback (without TLS from this machine only, the default) or yes (from anywhere)"
        )
    return text == "yes"
