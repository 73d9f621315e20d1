"""
The sections C{[service:ID]}: what a client offers. Offers nothing itself.
"""

from __future__ import annotations

import msgspec

from relaytun.config import values
from relaytun.config.health import HealthCheck, read_health_check
from relaytun.config.public import PublicConfig, read_public
from relaytun.config.section import Section
from relaytun.config.users import read_bandwidth

DEFAULT_MODE = "link"
"""The mode of a service that names none, unless it is udp, which is always C{link}."""

LINK_OR_NOT = "write mode = link, or remove"

_protocol = values.one_of("protocol", "tcp", "udp", "http", "ws")
_service_mode = values.one_of("mode", "link", "raw")
_compression = values.one_of("compression", "zstd", "off")


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
    @ivar allow: the clients that may visit, each once; empty: all that the server lets in.
        The public does not come as a client and is not subject to it.
    @ivar mode: C{raw} or C{link}; C{link} for udp.
    @ivar compression: C{zstd}, or L{None}; only with C{link}, and not for udp.
    @ivar bandwidth_up, bandwidth_down: bytes a second from and to the service; 0: no limit.
    @ivar health_check: L{None}: it is taken to be healthy.
    @ivar public: what the server opens of it; L{None}: nothing.
    """

    id: str
    protocol: str
    local_host: str = "localhost"
    local_port: int
    description: str = ""
    allow: tuple[AllowedVisitor, ...] = ()
    mode: str = DEFAULT_MODE
    compression: str | None = None
    bandwidth_up: int = 0
    bandwidth_down: int = 0
    health_check: HealthCheck | None = None
    public: PublicConfig | None = None

    def admit(self, client_id: str) -> AllowedVisitor | None:
        """
        Tell what is said of a visitor.

        @return: L{None} if it may not come.
        """
        if not self.allow:
            return AllowedVisitor(client_id)
        return next((visitor for visitor in self.allow if visitor.id == client_id), None)


def read_service(section: Section) -> ServiceConfig:
    """Read what one section offers."""
    protocol = section.need("protocol", _protocol, "", "write tcp, udp, http or ws")
    mode = _mode(section, protocol)
    up, down = read_bandwidth(section)
    return ServiceConfig(
        id=section.need("id", values.identifier, "", "give the service an id"),
        protocol=protocol,
        local_host=section.get("local_host", values.host, "localhost"),
        local_port=section.need("local_port", values.port, 0, "write the port of the service"),
        description=section.get("description", values.description, ""),
        allow=_allow(section, mode),
        mode=mode,
        compression=_compressed(section, protocol, mode),
        bandwidth_up=up,
        bandwidth_down=down,
        health_check=read_health_check(section, protocol),
        public=read_public(section, protocol),
    )


def _mode(section: Section, protocol: str) -> str:
    udp = protocol == "udp"
    mode = section.get("mode", _service_mode, "link" if udp else DEFAULT_MODE)
    if udp and mode == "raw":
        section.note("mode", f"udp travels over links only: {LINK_OR_NOT} this key")
    return mode


def _compressed(section: Section, protocol: str, mode: str) -> str | None:
    if section.get("compression", _compression, "off") == "off":
        return None
    if protocol == "udp":
        section.note("compression", "datagrams are not compressed: remove this key")
    elif mode == "raw":
        section.note("compression", f"only links are compressed: {LINK_OR_NOT} this key")
    return "zstd"


def _allow(section: Section, mode: str) -> tuple[AllowedVisitor, ...]:
    """Read who may visit; a list that is there but empty is more likely a slip than everyone."""
    if section.empty("allow"):
        section.note("allow", values.NOBODY)
    nobody: dict[str, str | None] = {}
    named = section.get_lines("allow", values.pinned_identifiers, nobody)
    if mode == "raw" and any(named.values()):
        section.note("allow", f"a fingerprint is proven over a link only: {LINK_OR_NOT} it")
    return tuple(AllowedVisitor(client_id, pin) for client_id, pin in named.items())
