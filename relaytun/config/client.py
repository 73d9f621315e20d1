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
from relaytun.config.files import read_text
from relaytun.config.invite import ServerAddress, parse_invite, parse_server_url
from relaytun.config.section import NAME_KEYS, Section
from relaytun.config.source import Source, texts

_OPTIONS = {"invite": "invite", "client_id": "client_id", "state_dir": "state_dir"}
_STATE_DIR = "relaytun"
_SERVER_KEYS = ("invite", "invite_file", "server", "servers", "token", "token_file", "fingerprint")
_EMPTY_TOKEN = "remove the key if the server is open, or give one"
_transport = values.one_of("transport", "auto", "tcp", later="ws")
_protocol = values.one_of("protocol", "tcp", "http", "ws", later="udp")
_mode = values.one_of("mode", "raw", later="link")
_NOWHERE = ServerAddress(host="", port=0)


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that the client offers.

    @ivar protocol: C{tcp}, C{http} or C{ws}.
    @ivar allow: the ids of the clients that may visit; empty: all that the server lets in.
    @ivar mode: C{raw}.
    """

    id: str
    protocol: str
    local_host: str = "localhost"
    local_port: int
    description: str = ""
    allow: tuple[str, ...] = ()
    mode: str = "raw"


class ConnectConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that the client visits, and where it is found on this machine.

    @ivar name: empty for one that comes from the command line.
    @ivar target: the client that offers it.
    @ivar local_port: 0 is one that the kernel picks.
    """

    name: str
    target: str
    service: str
    local_host: str = "127.0.0.1"
    local_port: int


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    All that a client is told. Times are in seconds.

    @ivar client_id: L{None}: the server assigns one.
    @ivar transport: C{auto} or C{tcp}.
    """

    server: ServerAddress
    client_id: str | None = None
    state_dir: Path
    auto_reconnect: bool = True
    reconnect_interval: float = 1.0
    heartbeat_interval: float = 15.0
    transport: str = "auto"
    services: tuple[ServiceConfig, ...] = ()
    connects: tuple[ConnectConfig, ...] = ()


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
        source.one("client", {}).drop(*_SERVER_KEYS)
    section = source.one("client", options)
    for each in source.sections:
        each.check()
    services = [_service(each) for each in source.all("service")]
    connects = [_connect(each) for each in source.all("connect")]
    _refuse_twins(source)
    _refuse_shared_ports(source, connects)
    config = ClientConfig(
        server=_server(section),
        client_id=section.get("client_id", values.identifier, None),
        state_dir=section.state_dir(_STATE_DIR),
        auto_reconnect=section.get("auto_reconnect", values.switch, True),
        reconnect_interval=section.get("reconnect_interval", values.positive_duration, 1.0),
        heartbeat_interval=section.get("heartbeat_interval", values.positive_duration, 15.0),
        transport=section.get("transport", _transport, "auto"),
        services=tuple(services),
        connects=tuple(connects),
    )
    source.finish()
    return config


def _server(section: Section) -> ServerAddress:
    """Read the invite, or the server with its token and fingerprint."""
    ways = [key for key in ("invite", "invite_file", "server") if section.given(key)]
    if not ways:
        remedy = "copy the line from <state-dir>/invite on the server"
        section.note("invite", f"missing: {remedy}")
        return _NOWHERE
    for key in ways[1:]:
        section.note(key, f"{ways[0]} is given as well: remove one of the two")
    if "server" in ways:
        return _server_by_url(section)
    for key in ("token", "token_file", "fingerprint"):
        if key in section.entries:
            section.note(key, "the invite has its own: remove this key")
    invite = section.get("invite", parse_invite, _NOWHERE)
    return section.get("invite_file", _invite_file, invite)


def _invite_file(text: str) -> ServerAddress:
    return parse_invite(read_text(values.path(text)))


def _server_by_url(section: Section) -> ServerAddress:
    address = section.get("server", parse_server_url, _NOWHERE)
    fingerprint = section.get("fingerprint", values.fingerprint, None)
    if fingerprint is not None and not address.secure:
        section.note("fingerprint", "needs TLS: write the server as wss://, or remove this key")
    token = section.token(_EMPTY_TOKEN)
    return msgspec.structs.replace(address, token=token, fingerprint=fingerprint)


def _service(section: Section) -> ServiceConfig:
    return ServiceConfig(
        id=section.need("id", values.identifier, "", "give the service an id"),
        protocol=section.need("protocol", _protocol, "", "write tcp, http or ws"),
        local_host=section.get("local_host", values.host, "localhost"),
        local_port=section.need("local_port", values.port, 0, "write the port of the service"),
        description=section.get("description", values.description, ""),
        allow=_allow(section),
        mode=section.get("mode", _mode, "raw"),
    )


def _allow(section: Section) -> tuple[str, ...]:
    """Read who may visit; a list that is there but empty is more likely a slip than everyone."""
    if "allow" in section.entries and not section.given("allow"):
        section.note("allow", values.NOBODY)
    return section.get_lines("allow", values.identifiers, ())


def _connect(section: Section) -> ConnectConfig:
    later = values.not_yet("leaving it out", "write the id of the client that offers the service")
    return ConnectConfig(
        name=section.need("name", values.identifier, "", "give the connect a name"),
        target=section.need("target", values.identifier, "", later),
        service=section.need("service", values.identifier, "", "write the id of the service"),
        local_host=section.get("local_host", values.host, "127.0.0.1"),
        local_port=section.need(
            "local_port", values.port_or_zero, 0, "write the port to open here, or 0 for any"
        ),
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
