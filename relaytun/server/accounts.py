"""
What sessions move, put into the L{Ledger} now and then, and the monthly quotas of users.

A session of a user with a quota begins with a limit of nothing.  Each time that it has used up
what it was let have, it gets half of what nobody has been let have yet; so however many sessions
a user has and however fast they are, together they move what is left of the quota and hardly a
byte more, and as long as there is plenty nobody has to ask often.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..errors import UserError
from .granted import Session
from .ledger import Entry, Ledger
from .sessions import Sessions
from .users import User, Users

#: Seconds between two writes.
INTERVAL = 10.0
#: The least that a session is let have at once, as long as there is as much.  A batch of
#: datagrams, which pass together or not at all, is no larger.
LEAST_GRANT = 64 * 1024
#: What traffic can be shown by, and what of an entry that needs.
SHOWN_BY = {
    "day": ("day",),
    "client": ("client",),
    "service": ("client", "service"),
    "user": ("user", "visitor"),
}
#: Days that can be asked for.
MOST_DAYS = 400


class Accounts(Service):
    """Counts as long as it runs, and then until the last session has ended: see L{close}."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, sessions: Sessions, users: Users, ledger: Ledger
    ) -> None:
        self.ledger = ledger
        self._sessions = sessions
        self._users = users
        self._grants: WeakKeyDictionary[Session, int] = WeakKeyDictionary()
        self._granted: WeakKeyDictionary[User, int] = WeakKeyDictionary()
        self._collecting = LoopingCall(self._collect_again)
        self._collecting.clock = clock
        sessions.accounts = self

    def startService(self) -> None:
        super().startService()
        self._collecting.start(INTERVAL, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._collecting.running:
            self._collecting.stop()

    def close(self) -> None:
        """All sessions have ended: write what there is."""
        self.ledger.close()

    def collect(self) -> None:
        """Count what has moved since the last time, write it, and end what is over a quota."""
        for session in self._sessions:
            self.note(session)
        self.ledger.flush()
        for user in {user for session in self._sessions for user in _limited(session)}:
            if self._left(user) <= 0:
                self._end(user)

    def _collect_again(self) -> None:
        try:
            self.collect()
        except Exception:  # It must not be the last time.
            self._log.failure("traffic cannot be counted")

    def quotas_changed(self) -> None:
        """Users may have other quotas than before."""
        for session in self._sessions:
            self.note(session)
        self._grants.clear()
        self._granted.clear()
        for session in self._sessions:
            self.limit(session)
        self.collect()

    def note(self, session: Session) -> None:
        """Count what C{session} has moved."""
        moved = self.ledger.note(session)
        if session in self._grants:
            self._change_grant(session, -moved)

    # Accounting

    def limit(self, session: Session) -> None:
        session.meter.limit = session.meter.total if _limited(session) else session.most

    def ended(self, session: Session) -> None:
        self.note(session)
        self._take_back(session)

    def exhausted(self, session: Session) -> None:
        self.note(session)
        users = _limited(session)
        if not users:
            self.limit(session)
            return
        for user in users:
            if self._left(user) <= 0:
                self._end(user)
                return
        if min(map(self._free, users)) < 2 * LEAST_GRANT:
            for other in self._sessions:
                if not users.isdisjoint(_limited(other)):
                    self.note(other)
                    self._take_back(other)
        free = min(map(self._free, users))
        grant = max(free // 2, min(free, LEAST_GRANT))
        if session.datagram_session is not None:
            grant = max(grant, LEAST_GRANT)
        self._change_grant(session, grant)
        session.meter.limit = min(session.most, session.meter.total + grant)

    def refusal(self, user: User) -> str | None:
        if not user.quota or self._left(user) > 0:
            return None
        first = date.fromisoformat(f"{self.ledger.month}-01")
        anew = (first + timedelta(days=31)).replace(day=1)
        return (
            f"user {user.name} has used up the quota of this month ({_size(user.quota)}); "
            f"it starts anew on {anew} (UTC)"
        )

    # For people

    def stats(self, days: Any = 30, by: Any = "client") -> dict[str, Any]:
        """
        What C{relaytun stats --json} prints.

        @param days: so many, of which the last is today.
        @param by: one of L{SHOWN_BY}.
        @raise UserError: if they are not.
        """
        if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= MOST_DAYS:
            raise UserError(f"days: a whole number from 1 to {MOST_DAYS}")
        if not isinstance(by, str) or by not in SHOWN_BY:
            raise UserError(f"by: one of {', '.join(SHOWN_BY)}")
        self.collect()
        fields = SHOWN_BY[by]
        counts: dict[tuple[str, ...], list[int]] = {}
        total = [0, 0]
        for entry, *count in self.ledger.entries(days, fields):
            total = [old + new for old, new in zip(total, count, strict=True)]
            for key in _keys(entry, by):
                counts[key] = [
                    old + new for old, new in zip(counts.get(key, (0, 0)), count, strict=True)
                ]
        names = ("user",) if by == "user" else fields
        rows = [
            {**dict(zip(names, key, strict=True)), "bytesIn": count[0], "bytesOut": count[1]}
            for key, count in sorted(counts.items())
        ]
        if by == "user":
            for row in rows:
                self._add_quota(row)
        return {
            "days": days,
            "by": by,
            "rows": rows,
            "bytesIn": total[0],
            "bytesOut": total[1],
            "notWritten": self.ledger.failures,
        }

    def _add_quota(self, row: dict[str, Any]) -> None:
        user = self._users.find(row["user"])
        row["quota"] = user.quota if user else 0
        row["usedThisMonth"] = self.ledger.used(row["user"])

    # Quotas

    def _left(self, user: User) -> int:
        """What the user may still move this month."""
        return user.quota - self.ledger.used(user.name)

    def _free(self, user: User) -> int:
        """What of it no session has been let have."""
        return self._left(user) - self._granted.get(user, 0)

    def _change_grant(self, session: Session, change: int) -> None:
        self._grants[session] = self._grants.get(session, 0) + change
        for user in _limited(session):
            self._granted[user] = self._granted.get(user, 0) + change

    def _take_back(self, session: Session) -> None:
        """It may not move any more, until it asks."""
        if session in self._grants:
            self._change_grant(session, -self._grants[session])
            session.meter.limit = min(session.most, session.meter.total)

    def _end(self, user: User) -> None:
        for session in list(self._sessions):
            if user in _limited(session):
                session.machine.exhausted()


def _size(count: int) -> str:
    """A number of bytes as the configuration has it."""
    for unit, size in (("GB", 1024**3), ("MB", 1024**2), ("KB", 1024)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"


def _limited(session: Session) -> set[User]:
    """The users of its two sides, as far as they have quotas."""
    return {user for user in (session.visitor.user, session.provider.user) if user.quota}


def _keys(entry: Entry, by: str) -> Iterable[tuple[str, ...]]:
    if by == "user":
        return [(user,) for user in entry.users()]
    return [tuple(getattr(entry, field) for field in SHOWN_BY[by])]
