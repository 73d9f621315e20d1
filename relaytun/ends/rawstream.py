"""
A raw stream of a visitor: a leg of its own, spliced to the program's connection.

A stream's first bytes travel behind its leg's preamble; they are kept until the relay's verdict,
so that a session that turns out to be over costs the program nothing but the time for a new one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..plane.oneway import ReadOnly
from ..plane.splice import Splice
from ..wire.moods import Mood
from .legs import ClientSession, Leg, LegRefused, dial_leg
from .machinery import Machinery

#: Bytes of a stream that are sent, and kept, before the verdict.
FIRST_FLIGHT = 16 * 1024


async def carry(
    machinery: Machinery,
    local: socket.socket,
    session: ClientSession,
    over: Callable[[ClientSession], None],
    renew: Callable[[], Deferred[ClientSession]],
) -> None:
    """
    From a program's connection to a running stream.

    @param over: called with a session that takes no new streams (any more), and when one of its
        streams has ended.
    @param renew: gets another session.
    @raise LegRefused: if the relay does not take it.
    """
    reactor = machinery.reactor
    flight = b""
    renewed = False
    while True:
        leg = await dial_leg(machinery, session)
        first = _FirstFlight(reactor, local, leg, flight)
        try:
            sock = await leg.verdict.addBoth(first.over)
        except LegRefused as error:
            if not error.session_over:
                raise  # The session may be as good as ever: its other streams are.
            session.live = False
            over(session)
            if renewed:
                raise
            # The server forgot the session, or was started anew: ask for another one.
            flight = first.sent
            renewed = True
            session = await renew()
        else:
            session.meter.forward += len(first.sent)
            ended = _forgetting(session, over)
            session.streams.add(Splice(reactor, machinery.pool, local, sock, session.meter, ended))
            return


def _forgetting(
    session: ClientSession, over: Callable[[ClientSession], None]
) -> Callable[[Splice, Mood], None]:
    def ended(stream: Splice, mood: Mood) -> None:
        session.streams.discard(stream)
        over(session)

    return ended


@implementer(IReadDescriptor)
class _FirstFlight(ReadOnly):
    """
    What a program says before its leg has a partner.

    @ivar sent: all of it; for another leg, if this one is refused.
    """

    __slots__ = ("_leg", "_local", "_reactor", "_reading", "sent")

    def __init__(self, reactor: IReactor, local: socket.socket, leg: Leg, already: bytes) -> None:
        self.sent = already
        self._reactor = reactor
        self._local = local
        self._leg = leg
        self._reading = True
        if already:
            leg.write(already)
        self.doRead()
        if self._reading and not self.sent:  # What a program says later can wait a moment.
            reactor.addReader(self)
        else:
            self._reading = False

    def over(self, result: Any) -> Any:
        """The verdict is there: leave the rest to others."""
        self.stop()
        return result

    def stop(self) -> None:
        """Read no more."""
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)

    def fileno(self) -> int:
        return self._local.fileno()

    def logPrefix(self) -> str:
        return "visitor"

    def doRead(self) -> None:
        try:
            data = self._local.recv(FIRST_FLIGHT - len(self.sent))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.sent += data
            self._leg.write(data)
        if not data or len(self.sent) >= FIRST_FLIGHT:
            self.stop()  # An end of stream is found again by the splice.

    def connectionLost(self, reason: Failure) -> None:
        self.stop()
