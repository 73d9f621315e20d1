"""
What the reactor watches for one thing only, for bytes or for room, and may tell of the other.

Twisted's reactors take many events in one turn.  A socket that is closed by the first of them can
give its number to a new one, which is then told of a later event that was meant for the old one:
of an event, too, that it was never watched for.  That has to be no news to it.  So whoever reads
or connects also finds out by itself whether there is something to be done.
"""

from __future__ import annotations


class ReadOnly:
    """Watched for bytes alone: room is no news."""

    __slots__ = ()

    def doWrite(self) -> None:
        """An older socket of this number could have written."""


class WriteOnly:
    """Watched for room alone: bytes are no news."""

    __slots__ = ()

    def doRead(self) -> None:
        """An older socket of this number could have been read from."""
