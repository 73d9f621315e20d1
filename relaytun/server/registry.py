"""
Who is there: the clients that are registered, and whose each C{clientId} is.

A C{clientId} belongs to the identity that first registered it, for ever (C{Owners} keeps that
over a restart).  Of one identity the newest login wins at once; logins are told apart by an
epoch that rises with every control connection, so that an old one that arrives late is fenced.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from twisted.logger import Logger

from ..wire.messages import Code
from .database import opened, unusable
from .peer import Peer

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS owners (client_id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL)"
)


class Refused(Exception):
    """
    A registration that is not to be.

    @ivar code: for the client's program; the text is for its user.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Owners:
    """
    Which identity owns which C{clientId}; kept in SQLite.

    When the disk fails the answer still holds until the server ends, and the log says so.
    """

    _log = Logger()

    def __init__(self, path: Path | str) -> None:
        """@raise UserError: if the file cannot be read."""
        self._database = opened(path, _SCHEMA)
        try:
            self._owners: dict[str, str] = dict(
                self._database.execute("SELECT client_id, fingerprint FROM owners")
            )
        except sqlite3.Error as error:
            raise unusable(path, error) from None

    def get(self, client_id: str) -> str | None:
        """The owner's fingerprint."""
        return self._owners.get(client_id)

    def claim(self, client_id: str, fingerprint: str) -> None:
        """Remember the first owner."""
        self._owners[client_id] = fingerprint
        try:
            with self._database:
                self._database.execute("INSERT INTO owners VALUES (?, ?)", (client_id, fingerprint))
        except sqlite3.Error as error:
            self._log.error(
                "cannot keep that {client_id} belongs to {fingerprint}: {error}; "
                "it holds until the server ends",
                client_id=client_id,
                fingerprint=fingerprint,
                error=error,
            )

    def close(self) -> None:
        """Nothing is asked afterwards."""
        self._database.close()


class Registry:
    """The clients that are registered now."""

    def __init__(self, owners: Owners, max_clients: int) -> None:
        self._owners = owners
        self._max_clients = max_clients
        self._online: dict[str, Peer] = {}
        self._passing: set[Peer] = set()

    def __len__(self) -> int:
        return len(self._online)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._online.values())

    def everyone(self) -> list[Peer]:
        """All of them, those of short life too."""
        return [*self._online.values(), *self._passing]

    def limit(self, max_clients: int) -> None:
        """So many may be registered from now on; who is, stays."""
        self._max_clients = max_clients

    def find(self, client_id: str) -> Peer | None:
        """The registered client of this name."""
        return self._online.get(client_id)

    def is_known(self, client_id: str) -> bool:
        """Whether there ever was a client of this name that had an identity."""
        return self._owners.get(client_id) is not None

    def admit(self, peer: Peer, wanted: str, transient: bool) -> tuple[str, Peer | None]:
        """
        Register C{peer}.

        @param wanted: the C{clientId} it asks for; empty: it gets one.
        @param transient: a login beside the main one; not listed.
        @return: its C{clientId}, and the peer whose place it took, if any.
        @raise Refused: if it cannot have that name.
        """
        client_id = wanted or self._make_id(peer.fingerprint, transient)
        owner = self._owners.get(client_id)
        if owner is not None and owner != peer.fingerprint:
            raise Refused(
                Code.ID_IN_USE,
                f"{client_id} belongs to another identity; choose another client_id, or "
                "register from the state directory that it was first registered from",
            )
        current = self._online.get(client_id)
        if current is peer:
            return client_id, None
        if current is not None:
            if peer.fingerprint is None or current.fingerprint != peer.fingerprint:
                raise Refused(Code.ID_IN_USE, f"{client_id} is registered; choose another clientId")
            if not transient and current.epoch > peer.epoch:
                raise Refused(Code.ID_IN_USE, f"there is a newer login of {client_id}")
        crowd = self._passing - {peer} if transient else self._online
        if current is None and len(crowd) >= self._max_clients:
            raise Refused(
                Code.SESSION_LIMIT,
                f"the server has its max_clients = {self._max_clients}; try again later",
            )
        # A name that the server made for a passing guest is nobody's.
        guest = transient and wanted in ("", peer.client_id)
        if owner is None and peer.fingerprint is not None and not guest:
            self._owners.claim(client_id, peer.fingerprint)
        if transient:
            self._passing.add(peer)
            return client_id, None
        self._online[client_id] = peer
        return client_id, current

    def remove(self, peer: Peer) -> None:
        """C{peer} is gone; nothing happens if another has its place."""
        self._passing.discard(peer)
        if peer.client_id is not None and self._online.get(peer.client_id) is peer:
            del self._online[peer.client_id]

    @staticmethod
    def _make_id(fingerprint: str | None, transient: bool) -> str:
        if transient:
            return f"guest-{secrets.token_hex(4)}"
        if fingerprint is None:
            return f"client-{secrets.token_hex(4)}"
        return f"client-{fingerprint.partition(':')[2][:8]}"
