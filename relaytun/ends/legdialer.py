"""
How the legs of a session get to the relay: there is one way for each server, and each session has
its server's.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from .legs import ClientSession


class LegDialer(Protocol):
    """Connects legs."""

    def dial(self, session: ClientSession) -> Deferred[socket.socket]:
        """
        A connection for one leg of C{session}: it wants a preamble.

        Tells the session by which path it goes.

        @raise OSError: (in the Deferred) if the relay cannot be reached; also Twisted's
            C{ConnectError} and C{DNSLookupError}.
        """

    def better_in(self, session: ClientSession) -> float | None:
        """
        @return: seconds until it is worth while to try another way than the one that the last leg
            of C{session} had to take; C{None} if that was the best.
        """
