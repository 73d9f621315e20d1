"""
Who may have which port or name: what an exposure asks for becomes titles, or a clear no.

Rules in their order: is it allowed at all, is it somebody else's, can it be opened.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice

from msgspec import UNSET
from twisted.logger import Logger

from ...errors import UserError
from ...wire.messages import Code, Exposure, Service
from ...wire.text import printable
from ..peer import Peer
from .leases import Leases
from .ports import ranges
from .title import Member, Title

#: Free numbers that are tried before one gives up: other programs may have them.
_MOST_TRIED = 256
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_LOCATION = re.compile(r"/[!-~]*")


class Denied(Exception):
    """
    An exposure that is not to be.

    @ivar code: for the client's program.
    @ivar why: a sentence for its user.
    """

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class Claims:
    """All titles that are open."""

    _log = Logger()

    def __init__(
        self,
        leases: Leases,
        open_title: Callable[[str, str, str, Exposure], Title],
        *,
        allow_ports: tuple[tuple[int, int], ...],
        max_ports_per_client: int = 0,
        own_ports: Callable[[], set[int]] = set,
        own_hosts: Callable[[], set[str]] = set,
        subdomain_host: str | None = None,
        serves_http: bool = False,
        serves_tls: bool = False,
    ) -> None:
        """
        @param open_title: makes a title of a kind, a value and a holder.
        @param allow_ports: first and last of each range of numbers that may be had.
        @param max_ports_per_client: 0 for no limit.
        @param own_ports: those that the server itself listens on.
        @param own_hosts: names under which clients reach it.
        @param serves_http, serves_tls: whether there are ports for host names.
        """
        self.allow_ports = allow_ports
        self.max_ports_per_client = max_ports_per_client
        self._leases = leases
        self._open_title = open_title
        self._own_ports = own_ports
        self._own_hosts = own_hosts
        self._subdomain_host = subdomain_host
        self._serves_http = serves_http
        self._serves_tls = serves_tls
        self._titles: dict[tuple[str, str], Title] = {}
        #: Told when names of http services come or go.
        self.names_changed: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Title]:
        return iter(self._titles.values())

    def claim(self, peer: Peer, service: Service, member: Member, held: int) -> list[Title]:
        """
        All that an exposure asks for.

        @param held: how many ports the client has already.
        @raise Denied: if it cannot have all of it; then it has nothing.
        """
        exposure = member.exposure
        holder = _holder(peer, exposure)
        titles: list[Title] = []
        try:
            if exposure.remote_port is not UNSET:
                if 0 < self.max_ports_per_client <= held:
                    raise Denied(
                        Code.FORBIDDEN,
                        f"the server's max_ports_per_client = {self.max_ports_per_client} is "
                        "reached: give another port up first",
                    )
                kind = "udp" if service.protocol == "udp" else "tcp"
                titles.append(self._port(peer, kind, holder, member, exposure))
            for kind, value in self._names(service, exposure):
                titles.append(self._name(peer, kind, value, holder, member, exposure))
            if not titles:
                raise Denied(
                    Code.BAD_MESSAGE,
                    f"{service.id} asks for nothing: give it a remote_port, custom_domains or a "
                    "subdomain",
                )
        except Denied:
            self.release(titles, member, ended=True)
            raise
        return titles

    def release(self, titles: list[Title], member: Member | None, ended: bool) -> None:
        """
        C{member} has them no more.

        @param ended: it gave them up; otherwise they are kept for it for a while.
        """
        for title in titles:
            if member in title.members:
                title.members.remove(member)
            if title.members:
                title.changed()
                continue
            title.close()
            del self._titles[title.kind, title.value]
            if ended:
                self._leases.end(title.kind, title.value)
            else:
                self._leases.leave(title.kind, title.value)
            if title.kind == "http":
                self.names_changed()
        titles.clear()

    def may_keep(self, peer: Peer, titles: list[Title]) -> bool:
        """Whether C{peer} has, and still may have, all of them."""
        return all(
            self._titles.get((title.kind, title.value)) is title
            and self._is_allowed(peer, title.kind, title.value)
            for title in titles
        ) and bool(titles)

    def close(self) -> None:
        """Nothing is asked afterwards."""
        for title in list(self._titles.values()):
            title.close()
        self._titles.clear()
        self._leases.close()

    def _port(
        self, peer: Peer, kind: str, holder: str, member: Member, exposure: Exposure
    ) -> Title:
        asked = int(str(exposure.remote_port))
        if asked:
            if not peer.user.may_open_port(asked):
                raise Denied(
                    Code.FORBIDDEN, f"user {peer.user.name} may not have {kind} port {asked}"
                )
            if not self._is_allowed(peer, kind, str(asked)):
                raise Denied(
                    Code.FORBIDDEN,
                    f"{kind} port {asked} may not be had here: the server's allow_ports are "
                    f"{ranges(self.allow_ports)}",
                )
            return self._take(kind, str(asked), holder, member, exposure)
        had = self._leases.of(kind, holder, exposure.service)
        if had is not None and self._is_allowed(peer, kind, had):
            try:
                return self._take(kind, had, holder, member, exposure)
            except Denied:
                pass
        for number in islice(self._free(peer, kind, holder), _MOST_TRIED):
            try:
                return self._take(kind, str(number), holder, member, exposure)
            except Denied:  # Another program has it.
                continue
        whose = f" for user {peer.user.name}" if peer.user.name else ""
        raise Denied(
            Code.FORBIDDEN,
            f"there is no free {kind} port{whose}: the server's allow_ports are "
            f"{ranges(self.allow_ports)}",
        )

    def _free(self, peer: Peer, kind: str, holder: str) -> Iterator[int]:
        """
        Numbers that C{peer} may be given, from somewhere on.

        There can be tens of thousands, and hundreds of services that want one: hence no list.
        """
        own = self._own_ports()
        numbers = [range(first, last + 1) for first, last in self.allow_ports]
        start = random.randrange(sum(map(len, numbers)) or 1)
        for number in islice(cycle(chain(*numbers)), start, start + sum(map(len, numbers))):
            value = str(number)
            if (
                (kind, value) not in self._titles
                and number not in own
                and peer.user.may_open_port(number)
                and not self._leases.is_taken(kind, value, holder)
            ):
                yield number

    def _names(self, service: Service, exposure: Exposure) -> Iterator[tuple[str, str]]:
        hosts = list(dict.fromkeys(host.lower() for host in exposure.custom_domains))
        under = self._subdomain_host
        for host in hosts:
            if under is not None and (host.endswith("." + under) or _includes(host, under)):
                raise Denied(
                    Code.FORBIDDEN,
                    f"{host} is under the server's subdomain_host {under}: ask for it with "
                    "subdomain",
                )
        if exposure.subdomain:
            if under is None:
                raise Denied(
                    Code.FORBIDDEN,
                    "the server has no subdomain_host: use custom_domains",
                )
            if not {".", "*"}.isdisjoint(exposure.subdomain):
                raise Denied(Code.BAD_MESSAGE, "a subdomain is one label, without dots and *")
            hosts.append(f"{exposure.subdomain.lower()}.{under}")
        for host in hosts:
            if not _HOST.fullmatch(host) or len(host) > 253:
                raise Denied(Code.BAD_MESSAGE, f"{printable(host)} is no host name")
            for own in self._own_hosts():
                if host == own:
                    raise Denied(Code.FORBIDDEN, f"{host} is the server's own name")
                if _includes(host, own):
                    raise Denied(Code.FORBIDDEN, f"{host} includes the server's own name {own}")
        if bool(exposure.http_user) != bool(exposure.http_password) or ":" in exposure.http_user:
            raise Denied(
                Code.BAD_MESSAGE,
                "http_user and http_password go together, and the user has no colon",
            )
        if not all(_LOCATION.fullmatch(location) for location in exposure.locations):
            raise Denied(Code.BAD_MESSAGE, "a location begins with / and has no blanks")
        if not hosts:
            return
        if service.protocol == "udp":
            raise Denied(Code.BAD_MESSAGE, "a udp service has a remote_port only")
        if service.protocol in ("http", "ws"):
            if not self._serves_http:
                raise Denied(
                    Code.FORBIDDEN,
                    "the server has no vhost_http_port and no vhost_https_port: use remote_port",
                )
            for host in hosts:
                for location in dict.fromkeys(exposure.locations or ("/",)):
                    yield "http", host + location
        else:
            if not self._serves_tls:
                raise Denied(Code.FORBIDDEN, "the server has no vhost_https_port: use remote_port")
            for host in hosts:
                yield "tls", host

    def _name(
        self, peer: Peer, kind: str, value: str, holder: str, member: Member, exposure: Exposure
    ) -> Title:
        host = value.partition("/")[0]
        if not self._is_allowed(peer, kind, value):
            raise Denied(Code.FORBIDDEN, f"user {peer.user.name} may not have the host name {host}")
        title = self._take(kind, value, holder, member, exposure)
        if kind == "http":
            self.names_changed()
        return title

    def _is_allowed(self, peer: Peer, kind: str, value: str) -> bool:
        if kind in ("http", "tls"):
            return peer.user.may_use_host(value.partition("/")[0])
        number = int(value)
        return (
            peer.user.may_open_port(number)
            and any(first <= number <= last for first, last in self.allow_ports)
            and number not in self._own_ports()
        )

    def _take(
        self, kind: str, value: str, holder: str, member: Member, exposure: Exposure
    ) -> Title:
        what = f"{kind} port {value}" if kind in ("tcp", "udp") else value.removesuffix("/")
        title = self._titles.get((kind, value))
        if title is not None and (title.holder != holder or not exposure.group):
            same = title.holder == holder
            raise Denied(
                Code.ID_IN_USE,
                f"{what} is another service's of the same client: choose another one"
                if same
                else f"{what} is taken: it belongs to another client; choose another one",
            )
        if self._leases.is_taken(kind, value, holder):
            raise Denied(
                Code.ID_IN_USE,
                f"{what} is taken: it is kept for a client that is away; choose another one",
            )
        if title is None:
            title = self._open_title(kind, value, holder, exposure)
            title.members.append(member)
            try:
                title.open()
            except UserError as error:
                raise Denied(Code.ID_IN_USE, f"{what} cannot be had: {error}") from None
            self._titles[kind, value] = title
        else:
            title.members.append(member)
            title.changed()
        self._leases.take(kind, value, holder, exposure.service)
        return title


def _includes(host: str, name: str) -> bool:
    """Whether C{name} is C{host}, or under it if that is a wildcard."""
    return host == name or (host.startswith("*.") and name.endswith(host[1:]))


def _holder(peer: Peer, exposure: Exposure) -> str:
    """Who holds what the exposure gets: an identity, a client without one, or a group."""
    if exposure.group:
        key = hashlib.sha256(exposure.group_key.encode()).hexdigest()
        return f"group:{exposure.group}:{key}"
    return peer.fingerprint or f"client:{peer.name}"
