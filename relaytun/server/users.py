"""
Who may use the server, and for what.

Whoever shows the server's own token may do everything; each L{User} has a token of his own and
what the configuration gives him.  Rights are asked at each thing that is opened, so that what
L{Users.replace} changes holds at once; it ends nothing by itself.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

from msgspec import UNSET, UnsetType
from twisted.internet.interfaces import IReactorTime

from ..plane.rates import Bandwidth


class UserSettings(Protocol):
    """What the configuration says of a user; L{None} where it says nothing: anything."""

    @property
    def name(self) -> str: ...
    @property
    def token(self) -> str: ...
    @property
    def client_ids(self) -> tuple[str, ...] | None: ...
    @property
    def ports(self) -> tuple[tuple[int, int], ...] | None: ...
    @property
    def domains(self) -> tuple[str, ...] | None: ...
    @property
    def visit(self) -> tuple[str, ...] | None: ...
    @property
    def bandwidth_up(self) -> int: ...
    @property
    def bandwidth_down(self) -> int: ...
    @property
    def quota(self) -> int: ...


class User:
    """
    Somebody with a token.

    @ivar name: empty for whoever has the server's own token.
    @ivar token: what he shows; empty if an open server asks for none.
    @ivar quota: bytes a month, both ways together; 0 for no limit.
    @ivar bandwidth: up is what his clients send, all together.
    @ivar revoked: he is a user no more.
    """

    def __init__(
        self, clock: IReactorTime, token: str = "", settings: UserSettings | None = None
    ) -> None:
        """@param settings: L{None}: he may do everything."""
        self.name = settings.name if settings else ""
        self.token = settings.token if settings else token
        self.quota = 0
        self.bandwidth = Bandwidth(clock)
        self.revoked = False
        self._settings: UserSettings | None = None
        if settings is not None:
            self.change(settings)

    def __repr__(self) -> str:
        """Never with the token."""
        return f"<User {self.name or '(of the server)'}>"

    def change(self, settings: UserSettings) -> None:
        """From now on he may do this."""
        self._settings = settings
        self.quota = settings.quota
        self.bandwidth.change(settings.bandwidth_up, settings.bandwidth_down)

    @property
    def client_ids(self) -> str:
        """The clientIds that his clients may have, for a message about it."""
        return ", ".join((self._settings and self._settings.client_ids) or ("*",))

    def may_use_client_id(self, client_id: str) -> bool:
        """Whether a client of his may have this name."""
        return self._settings is None or _allowed(self._settings.client_ids, client_id)

    def may_open_port(self, port: int) -> bool:
        """Whether a client of his may have this public port, TCP or UDP."""
        ports = self._settings.ports if self._settings else None
        return ports is None or any(first <= port <= last for first, last in ports)

    def may_use_host(self, host: str) -> bool:
        """
        Whether a client of his may have this host name.

        @param host: its first label may be C{*}.
        """
        return self._settings is None or _allowed(self._settings.domains, host.lower())

    def may_visit(self, client_id: str, service_id: str) -> bool:
        """Whether a client of his may open sessions to this service."""
        visit = self._settings.visit if self._settings else None
        if visit is None:
            return True
        for pattern in visit:
            client, slash, service = pattern.rpartition("/")
            if _matches(service, service_id) and (not slash or _matches(client, client_id)):
                return True
        return False


class Users:
    """
    All of them.

    @ivar token: the server's own.
    @ivar main: whoever has the server's own token, or comes to an open server.
    """

    def __init__(
        self, clock: IReactorTime, configured: Iterable[UserSettings], token: str | None
    ) -> None:
        """
        @param configured: no two of them with the same name or token.
        @param token: the server's own; L{None} for an open server.
        """
        self._clock = clock
        self.token = token
        self.main = User(clock, token or "")
        self._users = {settings.name: User(clock, settings=settings) for settings in configured}

    def use_token(self, token: str | None) -> None:
        """
        From now on this is the server's own, for those who come.

        @param token: as at the start.
        """
        before, self.token = self.token, token
        if not _same(before or "", token or ""):
            self.main = User(self._clock, token or "")

    def by_token(self, given: str | UnsetType) -> User | None:
        """
        Whose token C{given} is, if anybody's.

        All are compared, each in a time that does not depend on C{given}.
        """
        found = self.main if self.token is None else None
        if given is UNSET:
            return found
        shown = str(given).encode("utf-8", "replace")
        known = [self.main, *self._users.values()] if self.token else self._users.values()
        for user in known:
            if hmac.compare_digest(shown, user.token.encode()):
                found = user
        return found

    def find(self, name: str) -> User | None:
        """The user of this name; the empty one is L{main}'s."""
        return self._users.get(name) if name else self.main

    def replace(self, configured: Iterable[UserSettings]) -> None:
        """
        From now on there are these.

        Who keeps name and token is the same L{User} still, with what he may do now; the others
        of before are C{revoked}.
        """
        before, self._users = self._users, {}
        for settings in configured:
            user = before.pop(settings.name, None)
            if user is not None and not _same(user.token, settings.token):
                user.revoked = True
                user = None
            if user is None:
                user = User(self._clock, settings=settings)
            else:
                user.change(settings)
            self._users[settings.name] = user
        for user in before.values():
            user.revoked = True


def _allowed(patterns: tuple[str, ...] | None, name: str) -> bool:
    return patterns is None or any(_matches(pattern, name) for pattern in patterns)


def _matches(pattern: str, name: str) -> bool:
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """C{*} stands for any number of characters, and nothing else for anything but itself."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _same(token: str, other: str) -> bool:
    return hmac.compare_digest(token.encode(), other.encode())
