"""
Whom a visitor asks for: the target that it has, or, without one, any client that will do.

Streams of a link cannot move to another client, so that one is asked for by name as long as there
are any; but not for ever, if it is away and others could have the streams to come.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from ..ends.visitorlink import VisitorLink

#: Seconds that streams wait for a client that is away, while another one could have new streams.
FAITHFUL = 15.0


class Whom:
    """
    One visitor's choice.

    @ivar target: L{None}: any client that offers the service.
    """

    def __init__(self, clock: IReactorTime, target: str | None) -> None:
        self.target = target
        self._clock = clock
        self._away_since: float | None = None
        self._came: VisitorLink | None = None

    def bound_to(self, link: VisitorLink | None) -> str | None:
        """The client that has streams of C{link}, where any would do."""
        if self.target is None and link is not None and _has_streams(link):
            return link.session.peer
        return None

    def waits(self) -> bool:
        """That client is away; @return: whether it may still come back."""
        now = self._clock.seconds()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since < FAITHFUL

    def granted(self) -> None:
        """There is a session."""
        self._away_since = None

    def came(self, link: VisitorLink) -> None:
        """C{link} has a channel."""
        self._came = link

    def leaves(self, link: VisitorLink) -> bool:
        """Whether C{link} has lost its client, or so it seems, and a new program need not wait."""
        return (
            self.target is None
            and link is self._came
            and not link.link.connected
            and not _has_streams(link)
        )


def _has_streams(link: VisitorLink) -> bool:
    """Whether the other side knows of any: those that it does not can as well begin elsewhere."""
    return any(not stream.is_untold for stream in link.link.streams.values())
