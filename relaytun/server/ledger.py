"""
How much traffic there was: by day, client, service and user, in SQLite.

What has moved is noted in memory and written now and then, all at once.  When that fails (the
disk is full, somebody locks the file) it stays in memory and is written later: relaying does not
wait for the disk.  What was not written yet when the process is killed is lost: some seconds.

Days and months are those of UTC.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

from twisted.logger import Logger

from ..errors import UserError
from .database import opened, unusable
from .granted import Session

#: Days that are kept.
KEPT_DAYS = 400
#: Entries that wait to be written; beyond, clients and services are not told apart.
MOST_PENDING = 10_000
#: What they are called then; no client can have this name.
OTHERS = "(others)"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS traffic (
    day TEXT NOT NULL, client TEXT NOT NULL, service TEXT NOT NULL,
    user TEXT NOT NULL, visitor TEXT NOT NULL,
    bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
    PRIMARY KEY (day, client, service, user, visitor)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO traffic VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET bytes_in = bytes_in + excluded.bytes_in, bytes_out = bytes_out + excluded.bytes_out
"""


class Entry(NamedTuple):
    """
    What traffic is counted by.

    @ivar day: as C{2026-01-31}.
    @ivar client: the C{clientId} of the provider.
    @ivar user: the provider's user; empty: the server's own token.
    @ivar visitor: the visitor's user, likewise.
    """

    day: str
    client: str
    service: str
    user: str
    visitor: str

    def users(self) -> set[str]:
        """Whose traffic it is: of the users who have a name, if there are any."""
        return {self.user, self.visitor} - {""} or {""}


class Ledger:
    """
    The database, and what is to be written to it.

    @ivar failures: how many times writing has failed.
    """

    _log = Logger()

    def __init__(self, path: Path | str, now: Callable[[], float] = time.time) -> None:
        """
        @param now: seconds since 1970.
        @raise UserError: if the file cannot be used.
        """
        self.failures = 0
        self._now = now
        self._pending: dict[Entry, tuple[int, int]] = {}
        self._seen: WeakKeyDictionary[Session, tuple[int, int]] = WeakKeyDictionary()
        self._used: Counter[str] = Counter()
        self._month = ""
        self._pruned = ""
        self._failing = False
        # Nobody waits for a lock: it is tried again.
        self._database = opened(path, _SCHEMA, patience=0)
        try:
            self._turn_month(self.month)
        except sqlite3.Error as error:
            raise unusable(path, error) from None

    def note(self, session: Session) -> int:
        """
        Count what C{session} has moved since this was last asked.

        @return: how many bytes that is.
        """
        meter = session.meter
        forward, backward = self._seen.get(session, (0, 0))
        bytes_in, bytes_out = meter.forward - forward, meter.backward - backward
        if not bytes_in and not bytes_out:
            return 0
        self._seen[session] = meter.forward, meter.backward
        entry = Entry(
            self._today(),
            session.provider.name,
            session.service.id,
            session.provider.user.name,
            session.visitor.user.name,
        )
        if entry not in self._pending and len(self._pending) >= MOST_PENDING:
            entry = entry._replace(client=OTHERS, service=OTHERS)
        pending_in, pending_out = self._pending.get(entry, (0, 0))
        self._pending[entry] = pending_in + bytes_in, pending_out + bytes_out
        self._follow_month(entry.day[:7])
        for user in entry.users():
            self._used[user] += bytes_in + bytes_out
        return bytes_in + bytes_out

    @property
    def month(self) -> str:
        """The month that it is, as C{2026-01}."""
        return self._today()[:7]

    def used(self, user: str) -> int:
        """
        The bytes of this month, both ways, also those that are not written yet.

        @param user: a name; what somebody visits and what he provides count alike, and once.
        """
        self._follow_month(self.month)
        return self._used[user]

    def flush(self) -> None:
        """Write what has been noted, and forget what is too old."""
        today = self._today()
        try:
            with self._database:
                self._database.executemany(
                    _ADD, ((*entry, *count) for entry, count in self._pending.items())
                )
                if today != self._pruned:
                    self._database.execute(
                        "DELETE FROM traffic WHERE day < ?", (self._days_ago(KEPT_DAYS),)
                    )
        except sqlite3.Error as error:
            self.failures += 1
            if not self._failing:
                self._failing = True
                self._log.error(
                    "cannot write traffic.db: {error}; what moves is counted and written later",
                    error=error,
                )
            return
        if self._failing:
            self._failing = False
            self._log.info("traffic.db is written again")
        self._pruned = today
        self._pending.clear()

    def entries(self, days: int, by: Collection[str]) -> Iterator[tuple[Entry, int, int]]:
        """
        The last days' traffic: bytes to and from services, by entry, in no order.

        @param days: 1 is today.
        @param by: the fields that are asked for; the others are empty.  An entry may come twice,
            when a part of it is not written yet.
        @raise UserError: if it cannot be read now.
        """
        since = self._days_ago(days - 1)
        columns = [name if name in by else "''" for name in Entry._fields]
        groups = [name for name in Entry._fields if name in by]
        query = (
            f"SELECT {', '.join(columns)}, SUM(bytes_in), SUM(bytes_out) FROM traffic "
            f"WHERE day >= ? GROUP BY {', '.join(groups)}"
        )
        try:
            for *entry, bytes_in, bytes_out in self._database.execute(query, (since,)):
                yield Entry(*entry), bytes_in, bytes_out
        except sqlite3.Error as error:
            raise UserError(f"cannot read traffic.db: {error}") from None
        for pending, (bytes_in, bytes_out) in self._pending.items():
            if pending.day >= since:
                shown = (value if name in by else "" for name, value in pending._asdict().items())
                yield Entry(*shown), bytes_in, bytes_out

    def close(self) -> None:
        """Write what there is; nothing is noted afterwards."""
        self.flush()
        self._database.close()

    def _today(self) -> str:
        return self._date().isoformat()[:10]

    def _days_ago(self, days: int) -> str:
        return (self._date() - timedelta(days=days)).isoformat()[:10]

    def _date(self) -> datetime:
        return datetime.fromtimestamp(self._now(), timezone.utc)

    def _follow_month(self, month: str) -> None:
        if month != self._month:
            try:
                self._turn_month(month)
            except sqlite3.Error as error:
                self._log.error("cannot read traffic.db: {error}; quotas start anew", error=error)

    def _turn_month(self, month: str) -> None:
        self._month = month
        self._used.clear()
        rows = self._database.execute(
            "SELECT user, visitor, SUM(bytes_in + bytes_out) FROM traffic "
            "WHERE day BETWEEN ? AND ? GROUP BY user, visitor",
            (f"{month}-01", f"{month}-31"),
        )
        for user, visitor, count in rows:
            for name in Entry("", "", "", user, visitor).users():
                self._used[name] += count
        for entry, (bytes_in, bytes_out) in self._pending.items():
            if entry.day.startswith(month):
                for name in entry.users():
                    self._used[name] += bytes_in + bytes_out
