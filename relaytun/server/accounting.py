"""
What sessions want of whoever counts the bytes of all of them together.

See L{relaytun.server.accounts} for the one who does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .users import User

if TYPE_CHECKING:
    from .sessions import Session


class Accounting(Protocol):
    """Who counts the bytes of all sessions together, and may limit them."""

    def limit(self, session: Session) -> None:
        """C{session} begins: limit its meter, if need be to nothing."""

    def exhausted(self, session: Session) -> None:
        """It needs more than it was let have: raise the limit, or end it."""

    def ended(self, session: Session) -> None:
        """It moves nothing more."""

    def refusal(self, user: User) -> str | None:
        """Why this user may have no new session, if so."""


class NoAccounting:
    """Nobody counts."""

    def limit(self, session: Session) -> None:
        """It is as it was made."""

    def exhausted(self, session: Session) -> None:
        """It has had what it may."""
        session.machine.exhausted()

    def ended(self, session: Session) -> None:
        """Nothing is kept."""

    def refusal(self, user: User) -> str | None:
        """Everybody may have one."""
        return None
