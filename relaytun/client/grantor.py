"""
A server, as a visitor sees it: it may know the provider, and what it grants ends with its word.
"""

from __future__ import annotations

from typing import Protocol

from ..ends.legs import ClientSession
from ..ends.visitorlink import VisitorLink
from ..wire import messages
from ..wire.messages import Message
from .connection import ServerConnection
from .signalling import Control


class Granted(Protocol):
    """
    The visitor.

    @ivar sessions: those that live or still have streams, by id.
    @ivar link: what carries the streams, if they are not raw.
    """

    sessions: dict[str, ClientSession]
    link: VisitorLink | None

    def over(self, session: ClientSession) -> None:
        """No new streams, or channels, for C{session}."""

    def meeting(self, message: messages.MeetingAnswer | messages.Go) -> None:
        """The provider, or the server, says something of a way without the relay."""


class Grantor:
    """
    @ivar ids: of the sessions that it granted.
    """

    def __init__(self, visitor: Granted, connection: ServerConnection) -> None:
        self.connection = connection
        self.ids: set[str] = set()
        self._visitor = visitor
        connection.add_listener(self)

    def granted(self, session: ClientSession) -> bool:
        """Whether C{session} is of this server."""
        return session.id in self.ids

    def control_up(self, control: Control) -> None:
        """The next stream asks for a session; the link may need one at once."""
        link = self._visitor.link
        if link is not None:
            link.renew_session()

    def control_down(self) -> None:
        """No new streams for the sessions of this login; those that run go on."""
        for name in list(self.ids):
            self._over(name)

    def received(self, message: Message) -> None:
        """The server said this."""
        if isinstance(message, messages.SessionClosed) and message.session_id in self.ids:
            self._over(message.session_id)
        elif isinstance(message, (messages.MeetingAnswer, messages.Go)):
            self._visitor.meeting(message)
        elif isinstance(message, messages.GoingAway):
            self.control_down()

    def _over(self, name: str) -> None:
        session = self._visitor.sessions.get(name)
        if session is not None:
            self._visitor.over(session)
