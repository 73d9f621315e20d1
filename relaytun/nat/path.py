"""
A UDP path between two clients that was proven, and is kept open.

It carries the datagrams of others (QUIC, sealed datagrams) beside its own punch packets, told apart
by their magic and tag: whatever is no authentic packet of ours and comes from the peer's address is
handed on.  Who reads it has to authenticate it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall

from ..interfaces import IReactor
from ..wire.punch import TRANSACTION_SIZE, Kind, Punch, Speech
from .allowance import Allowance
from .udpsocket import UdpSocket

#: Seconds between two pings while something flows.
ACTIVE = 2.0
#: And while nothing does.
IDLE = 15.0
#: Seconds without a datagram from the others after which nothing flows.
IDLE_AFTER = 10.0
#: Seconds without anything from the peer after which the path is lost.
DEAD = 6.0
#: For so much of it a question of ours has to be open: two pings, and the time for an answer.
_UNANSWERED = 4.0
_TICK = 1.0
#: Answers a second.
_ANSWERS = 100
#: Questions that are remembered.
_QUESTIONS = 8

_ANSWERED = {Kind.PING, Kind.ECHO, Kind.USE}


class UdpPath:
    """
    It owns its socket.

    @ivar received: set it: gets each datagram of the peer's that is no punch packet.
    @ivar lost: set it: called once, with nothing, when the path is dead; it is closed then.
    @ivar address: the peer's, as seen from here.
    @ivar round_trip: seconds, of the last ping.
    @ivar found: C{candidate}, C{reflexive} (the peer's packets came from there), C{predicted} or
        C{birthday}.
    """

    def __init__(
        self,
        reactor: IReactor,
        socket: UdpSocket,
        speech: Speech,
        address: tuple[str, int],
        round_trip: float,
        found: str = "candidate",
        idle: float = IDLE,
    ) -> None:
        """
        @param speech: of the attempt that found the path.
        @param idle: seconds between two pings while nothing flows; less than the NATs' memory.
        """
        self.received: Callable[[bytes], None] = _nobody
        self.lost: Callable[[], None] = _nobody
        self.address = address
        self.round_trip = round_trip
        self.found = found
        self._reactor = reactor
        self._socket = socket
        self._speech = speech
        self._idle = idle
        self._answers = Allowance(reactor, _ANSWERS)
        self._questions: dict[bytes, tuple[tuple[str, int], float]] = {}
        now = reactor.seconds()
        self._heard = self._pinged = self._flowed = now
        self._unanswered: float | None = None
        self._timer: IDelayedCall | None = reactor.callLater(_TICK, self._tick)
        socket.widen()
        socket.received = self._arrived

    def send(self, data: bytes) -> bool:
        """
        Send a datagram to the peer.

        @return: whether the kernel took it; what it did not take is lost.
        """
        self._flowed = self._reactor.seconds()
        return self._timer is not None and self._socket.send(data, self.address)

    def close(self) -> None:
        """Close the socket; nobody is told.  A second time does no harm."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._socket.close()

    def _arrived(self, data: bytes, address: tuple[str, int], socket: UdpSocket) -> None:
        punch = self._speech.understand(data)
        if punch is not None:
            self._hear(punch, address)
        elif address == self.address:
            self._flowed = self._reactor.seconds()
            self._alive()
            self.received(data)

    def _hear(self, punch: Punch, address: tuple[str, int]) -> None:
        if punch.kind in _ANSWERED:
            if not self._answers.take():
                return
            self._socket.send(self._speech.answer(punch), address)
            if address != self.address and self._reactor.seconds() - self._heard >= ACTIVE:
                # The peer's NAT forgot its mapping and made another one, perhaps.
                self._ask(Kind.ECHO, address)
        else:
            asked, at = self._questions.pop(punch.transaction, (None, 0.0))
            if asked == address:
                self.address = address
                self.round_trip = self._reactor.seconds() - at
        if address == self.address:
            self._alive()

    def _alive(self) -> None:
        self._heard = self._reactor.seconds()
        self._unanswered = None

    def _ask(self, kind: Kind, address: tuple[str, int]) -> None:
        transaction = os.urandom(TRANSACTION_SIZE)
        self._questions[transaction] = address, self._reactor.seconds()
        while len(self._questions) > _QUESTIONS:
            del self._questions[next(iter(self._questions))]
        self._socket.send(self._speech.question(kind, transaction), address)

    def _tick(self) -> None:
        now = self._reactor.seconds()
        waiting = self._unanswered is not None
        if waiting and now - self._heard >= DEAD and now - (self._unanswered or 0) >= _UNANSWERED:
            self._timer = None
            self.close()
            self.lost()
            return
        flows = now - self._flowed < IDLE_AFTER
        if now - self._pinged >= (ACTIVE if flows or waiting else self._idle):
            self._pinged = now
            if self._unanswered is None:
                self._unanswered = now
            self._ask(Kind.PING, self.address)
        self._timer = self._reactor.callLater(_TICK, self._tick)


def _nobody(*_: bytes) -> None:
    """Nobody listens yet."""
