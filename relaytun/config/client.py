"""
The client's configuration: which server, what it offers, what it visits.

Only what it means; how a file is written is in C{ini} and C{json_file}. Dials
nothing and makes no identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from relaytun.config import values
from relaytun.config.domains import url_path
from relaytun.config.hooks import http_url, read_hooks
from relaytun.config.invite import ServerAddress
from relaytun.config.keys import CLIENT_KINDS, NAME_KEYS
from relaytun.config.section import Section
from relaytun.config.servers import PARTS, WAYS, read_servers
from relaytun.config.services import LINK_OR_NOT, ServiceConfig, read_service
from relaytun.config.source import Source, texts

_OPTIONS = {"invite": "invite", "client_id": "client_id", "state_dir": "state_dir"}
_STATE_DIR = "relaytun"
_transport = values.one_of("transport", "auto", "tcp", "ws")
_log_format = values.one_of("log_format", "text", "json")
_direct = values.one_of("direct", "auto", "lan", "off")
_hard_nat = values.one_of("hard_nat", "no", "predict", "birthday")
_connect_mode = values.one_of("mode", "auto", "link", "raw")


class ConnectConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that the client visits, and where it is found on this machine.

    @ivar name: empty for one that comes from the command line.
    @ivar target: the client that offers it; L{None}: any that is online.
    @ivar local_port: 0 is one that the kernel picks.
    @ivar peer_fingerprint: of the identity that the target has to have; L{None}: the one
        that is remembered.
    @ivar mode: C{auto}: what the target offers, but no raw session where there was a link
        before; C{link}: links only, as always with a C{peer_fingerprint}; C{raw}: a raw
        session is welcome, whatever there was before.
    """

    name: str
    target: str | None = None
    service: str
    local_host: str = "127.0.0.1"
    local_port: int
    peer_fingerprint: str | None = None
    mode: str = "auto"

    @property
    def provider(self) -> str:
        """Who offers it, for people."""
        return self.target or "any client"


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    All that a client is told. Times are in seconds.

    @ivar servers: at least one; the client signs in at each.
    @ivar client_id: L{None}: the server assigns one.
    @ivar resume_timeout: how long a stream may be without any channel.
    @ivar drain_timeout: how long streams have to end when the client is told to stop.
    @ivar transport: C{auto}, C{tcp} or C{ws}.
    @ivar ws_path: where the server's WebSocket is found.
    @ivar proxy: the URL of an HTTP proxy, C{http://[user:password@]host:port}; L{None}: what the
        environment says.
    @ivar direct: which paths past the relay are looked for: C{auto}: all; C{lan}: those within one
        network; C{off}: none, and no peer is told of an address.
    @ivar hard_nat: what is tried where one side's router gives each destination another port:
        C{no}: nothing; C{predict}: the ports that come next; C{birthday}: many at once, too.
    @ivar log_format: C{text} or C{json}.
    @ivar hooks: the URLs that are told, by event.
    """

    servers: tuple[ServerAddress, ...]
    client_id: str | None = None
    state_dir: Path
    auto_reconnect: bool = True
    reconnect_interval: float = 1.0
    heartbeat_interval: float = 15.0
    resume_timeout: float = 120.0
    drain_timeout: float = 30.0
    transport: str = "auto"
    ws_path: str = values.WS_PATH
    proxy: str | None = None
    direct: str = "auto"
    hard_nat: str = "predict"
    log_format: str = "text"
    hooks: dict[str, str] = msgspec.field(default_factory=dict)
    services: tuple[ServiceConfig, ...] = ()
    connects: tuple[ConnectConfig, ...] = ()

    def __repr__(self) -> str:
        """Show who it is and what it does, and never a token or a password."""
        services = ",".join(service.id for service in self.services)
        connects = ",".join(connect.name for connect in self.connects)
        return f"<ClientConfig {self.client_id} servers={self.servers} {services=} {connects=}>"

    @property
    def server(self) -> ServerAddress:
        """The first of its servers."""
        return self.servers[0]


def load_client(path: str | None, overrides: Mapping[str, str | bool]) -> ClientConfig:
    """
    Read a client's configuration.

    Relative paths in it count from the current folder of the process.

    @param path: an INI or JSON file, or L{None} for the defaults.
    @param overrides: what the command line says, which wins over the file:
        C{invite} (in place of all that the file says of the server),
        C{client_id}, C{state_dir}.
    @raise ConfigError: with a line for each thing that is wrong.
    """
    return build_client(Source(path), overrides)


def default_state_dir() -> Path:
    """Tell where a client that is told nothing keeps its state."""
    return Source(None).one("client", {}).state_dir(_STATE_DIR)


def build_client(source: Source, overrides: Mapping[str, str | bool]) -> ClientConfig:
    """Read a client's configuration from a file that is already parsed."""
    source.expect("client")
    options = texts(overrides, _OPTIONS)
    if "invite" in options:
        source.one("client", {}).drop(*WAYS, *PARTS)
    section = source.one("client", options)
    for each in source.sections:
        each.check()
    services = [read_service(each) for each in source.all("service")]
    connects = [_connect(each) for each in source.all("connect")]
    _refuse_twins(source)
    _refuse_shared_ports(source, connects)
    config = ClientConfig(
        servers=read_servers(section),
        client_id=section.get("client_id", values.identifier, None),
        state_dir=section.state_dir(_STATE_DIR),
        auto_reconnect=section.get("auto_reconnect", values.switch, True),
        reconnect_interval=section.get("reconnect_interval", values.positive_duration, 1.0),
        heartbeat_interval=section.get("heartbeat_interval", values.positive_duration, 15.0),
        resume_timeout=section.get("resume_timeout", values.positive_duration, 120.0),
        drain_timeout=section.get("drain_timeout", values.duration, 30.0),
        transport=section.get("transport", _transport, "auto"),
        ws_path=section.get("ws_path", url_path, values.WS_PATH),
        proxy=section.get("proxy", _proxy, None),
        direct=section.get("direct", _direct, "auto"),
        hard_nat=section.get("hard_nat", _hard_nat, "predict"),
        log_format=section.get("log_format", _log_format, "text"),
        hooks=read_hooks(source, "client"),
        services=tuple(services),
        connects=tuple(connects),
    )
    source.finish()
    return config


def _connect(section: Section) -> ConnectConfig:
    pin = section.get("peer_fingerprint", values.fingerprint, None)
    mode = section.get("mode", _connect_mode, "auto")
    if pin is not None and mode == "raw":
        section.note("peer_fingerprint", f"is proven over a link only: {LINK_OR_NOT} one of them")
    return ConnectConfig(
        name=section.need("name", values.identifier, "", "give the connect a name"),
        target=section.get("target", values.identifier, None),
        service=section.need("service", values.identifier, "", "write the id of the service"),
        local_host=section.get("local_host", values.host, "127.0.0.1"),
        local_port=section.need(
            "local_port", values.port_or_zero, 0, "write the port to open here, or 0 for any"
        ),
        peer_fingerprint=pin,
        mode="link" if pin is not None else mode,
    )


def _proxy(text: str) -> str:
    """Check the URL of an HTTP proxy."""
    problem = "not a proxy: write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT"
    try:
        parts = urlsplit(http_url(text))
    except ValueError:
        raise ValueError(problem) from None
    if parts.scheme != "http" or parts.port is None or parts.path.strip("/") or parts.query:
        raise ValueError(problem)
    return text


def _refuse_twins(source: Source) -> None:
    """Note services of one id and connects of one name."""
    for kind in sorted(CLIENT_KINDS & NAME_KEYS.keys()):
        key = NAME_KEYS[kind]
        seen: set[str] = set()
        for section in source.all(kind):
            name = section.text(key)
            if name in seen:
                section.note(key, f"another {kind} has the same {key}: change one")
            elif name is not None:
                seen.add(name)


def _refuse_shared_ports(source: Source, connects: Sequence[ConnectConfig]) -> None:
    """Note connects that would listen where another one does."""
    taken: set[tuple[str, int]] = set()
    for section, connect in zip(source.all("connect"), connects, strict=True):
        local = (connect.local_host.lower(), connect.local_port)
        if connect.local_port and local in taken:
            section.note("local_port", "another connect listens there: take another port, or 0")
        taken.add(local)
