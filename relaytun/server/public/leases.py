"""
Whose each public port and host name is; kept in SQLite, so that it comes back to its holder.

A lease is held as long as its holder is online, and for L{KEPT} seconds after that (after a start
of the server, too): whoever comes in the meantime is told that it is taken.  Seconds are those of
the reactor: no wall clock ends a lease.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ..database import opened, unusable

#: Seconds that a lease is kept for a holder who is away.
KEPT = 3600.0

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS leases (kind TEXT, value TEXT, holder TEXT NOT NULL, "
    "service TEXT NOT NULL, PRIMARY KEY (kind, value))"
)


@dataclass
class Lease:
    """
    @ivar holder: who has it, in whatever words tell holders apart.
    @ivar service: for which of the holder's services it is.
    @ivar left: since when the holder is away; C{None} while it is online.
    """

    holder: str
    service: str
    left: float | None


class Leases:
    """
    All of them, by kind (C{tcp}, C{udp}, C{http}, C{tls}) and value.

    When the disk fails a lease still holds until the server ends, and the log says so.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, path: Path | str) -> None:
        """@raise UserError: if the file cannot be read."""
        self._clock = clock
        self._leases: dict[tuple[str, str], Lease] = {}
        self._database = opened(path, _SCHEMA)
        try:
            rows = self._database.execute("SELECT kind, value, holder, service FROM leases")
            for kind, value, holder, service in rows:
                self._leases[kind, value] = Lease(holder, service, clock.seconds())
        except sqlite3.Error as error:
            raise unusable(path, error) from None

    def is_taken(self, kind: str, value: str, holder: str) -> bool:
        """Whether somebody else has it."""
        lease = self._leases.get((kind, value))
        if lease is None or lease.holder == holder:
            return False
        if lease.left is not None and self._clock.seconds() - lease.left > KEPT:
            self.end(kind, value)
            return False
        return True

    def take(self, kind: str, value: str, holder: str, service: str) -> None:
        """C{holder} has it from now on; to be asked L{is_taken} first."""
        lease = self._leases.get((kind, value))
        if lease is not None and (lease.holder, lease.service) == (holder, service):
            lease.left = None
            return
        self._leases[kind, value] = Lease(holder, service, None)
        self._write(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", kind, value, holder, service
        )

    def leave(self, kind: str, value: str) -> None:
        """Its holder is away."""
        lease = self._leases.get((kind, value))
        if lease is not None:
            lease.left = self._clock.seconds()

    def end(self, kind: str, value: str) -> None:
        """It is free."""
        if self._leases.pop((kind, value), None) is not None:
            self._write("DELETE FROM leases WHERE kind = ? AND value = ?", kind, value)

    def of(self, kind: str, holder: str, service: str) -> str | None:
        """@return: what C{holder} has, or had, for this service."""
        for (each, value), lease in self._leases.items():
            if (each, lease.holder, lease.service) == (kind, holder, service):
                return value
        return None

    def close(self) -> None:
        """Nothing is asked afterwards."""
        self._database.close()

    def _write(self, statement: str, *values: str) -> None:
        try:
            with self._database:
                self._database.execute(statement, values)
        except sqlite3.Error as error:
            self._log.error(
                "cannot keep whose {kind} {value} is: {error}; it holds until the server ends",
                kind=values[0],
                value=values[1],
                error=error,
            )
