"""
The client's configuration: which server, what it offers, what it visits.

Only what it means; how a file is written is in C{ini} and C{json_file}. Dials
nothing and makes no identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from relaytun.config import values
from relaytun.config.invite import ServerAddress
from relaytun.config.section import NAME_KEYS, Section
from relaytun.config.servers import PARTS, WAYS, read_servers
from relaytun.config.source import Source, texts

_OPTIONS = {"invite": "invite", "client_id": "client_id", "state_dir": "state_dir"}
_STATE_DIR = "relaytun"
_transport = values.one_of("transport", "auto", "tcp", later="ws")
_protocol = values.one_of("protocol", "tcp", "udp", "http", "ws")
_service_mode = values.one_of("mode", "link", "raw")
_connect_mode = values.one_of("mode", "auto", "link", "raw")
_compression = values.one_of("compression", "zstd", "off")
_LINK_OR_NOT = "write mode = link, or remove"

DEFAULT_MODE = "link"
"""The mode of a service that names none, unless it is udp, which is always C{link}."""


class AllowedVisitor(msgspec.Struct, frozen=True):
    """
    A client that may visit.

    @ivar fingerprint: of the identity that it has to have; L{None}: the one that is remembered.
    """

    id: str
    fingerprint: str | None = None


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that the client offers.

    @ivar protocol: C{tcp}, C{udp}, C{http} or C{ws}.
    @ivar allow: who may visit, each once; empty: all that the server lets in.
    @ivar mode: C{raw} or C{link}; C{link} for udp.
    @ivar compression: C{zstd}, or L{None}; only with C{link}, and not for udp.
    """

    id: str
    protocol: str
    local_host: str = "localhost"
    local_port: int
    description: str = ""
    allow: tuple[AllowedVisitor, ...] = ()
    mode: str = DEFAULT_MODE
    compression: str | None = None

    def admit(self, client_id: str) -> AllowedVisitor | None:
        """
        Tell what is said of a visitor.

        @return: L{None} if it may not come.
        """
        if not self.allow:
            return AllowedVisitor(client_id)
        return next((visitor for visitor in self.allow if visitor.id == client_id), None)


class ConnectConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that the client visits, and where it is found on this machine.

    @ivar name: empty for one that comes from the command line.
    @ivar target: the client that offers it.
    @ivar local_port: 0 is one that the kernel picks.
    @ivar peer_fingerprint: of the identity that the target has to have; L{None}: the one
        that is remembered.
    @ivar mode: C{auto}: what the target offers, but no raw session where there was a link
        before; C{link}: links only, as always with a C{peer_fingerprint}; C{raw}: a raw
        session is welcome, whatever there was before.
    """

    name: str
    target: str
    service: str
    local_host: str = "127.0.0.1"
    local_port: int
    peer_fingerprint: str | None = None
    mode: str = "auto"


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    All that a client is told. Times are in seconds.

    @ivar servers: at least one; the client signs in at each.
    @ivar client_id: L{None}: the server assigns one.
    @ivar resume_timeout: how long a stream may be without any channel.
    @ivar transport: C{auto} or C{tcp}.
    """

    servers: tuple[ServerAddress, ...]
    client_id: str | None = None
    state_dir: Path
    auto_reconnect: bool = True
    reconnect_interval: float = 1.0
    heartbeat_interval: float = 15.0
    resume_timeout: float = 120.0
    transport: str = "auto"
    services: tuple[ServiceConfig, ...] = ()
    connects: tuple[ConnectConfig, ...] = ()

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
    services = [_service(each) for each in source.all("service")]
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
        transport=section.get("transport", _transport, "auto"),
        services=tuple(services),
        connects=tuple(connects),
    )
    source.finish()
    return config


def _service(section: Section) -> ServiceConfig:
    protocol = section.need("protocol", _protocol, "", "write tcp, udp, http or ws")
    mode = _mode(section, protocol)
    return ServiceConfig(
        id=section.need("id", values.identifier, "", "give the service an id"),
        protocol=protocol,
        local_host=section.get("local_host", values.host, "localhost"),
        local_port=section.need("local_port", values.port, 0, "write the port of the service"),
        description=section.get("description", values.description, ""),
        allow=_allow(section, mode),
        mode=mode,
        compression=_compressed(section, protocol, mode),
    )


def _mode(section: Section, protocol: str) -> str:
    udp = protocol == "udp"
    mode = section.get("mode", _service_mode, "link" if udp else DEFAULT_MODE)
    if udp and mode == "raw":
        section.note("mode", f"udp travels over links only: {_LINK_OR_NOT} this key")
    return mode


def _compressed(section: Section, protocol: str, mode: str) -> str | None:
    if section.get("compression", _compression, "off") == "off":
        return None
    if protocol == "udp":
        section.note("compression", "datagrams are not compressed: remove this key")
    elif mode == "raw":
        section.note("compression", f"only links are compressed: {_LINK_OR_NOT} this key")
    return "zstd"


def _allow(section: Section, mode: str) -> tuple[AllowedVisitor, ...]:
    """Read who may visit; a list that is there but empty is more likely a slip than everyone."""
    if "allow" in section.entries and not section.given("allow"):
        section.note("allow", values.NOBODY)
    nobody: dict[str, str | None] = {}
    named = section.get_lines("allow", values.pinned_identifiers, nobody)
    if mode == "raw" and any(named.values()):
        section.note("allow", f"a fingerprint is proven over a link only: {_LINK_OR_NOT} it")
    return tuple(AllowedVisitor(client_id, pin) for client_id, pin in named.items())


def _connect(section: Section) -> ConnectConfig:
    later = values.not_yet("leaving it out", "write the id of the client that offers the service")
    pin = section.get("peer_fingerprint", values.fingerprint, None)
    mode = section.get("mode", _connect_mode, "auto")
    if pin is not None and mode == "raw":
        section.note("peer_fingerprint", f"is proven over a link only: {_LINK_OR_NOT} one of them")
    return ConnectConfig(
        name=section.need("name", values.identifier, "", "give the connect a name"),
        target=section.need("target", values.identifier, "", later),
        service=section.need("service", values.identifier, "", "write the id of the service"),
        local_host=section.get("local_host", values.host, "127.0.0.1"),
        local_port=section.need(
            "local_port", values.port_or_zero, 0, "write the port to open here, or 0 for any"
        ),
        peer_fingerprint=pin,
        mode="link" if pin is not None else mode,
    )


def _refuse_twins(source: Source) -> None:
    """Note services of one id and connects of one name."""
    for kind, key in NAME_KEYS.items():
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
