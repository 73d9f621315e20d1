"""
Two connected sockets made one: what comes out of one goes into the other, both ways.

A L{Splice} reads only what it can pass on (the back-pressure), passes an end of stream on as a
half-close and a reset as a reset, counts and limits by a L{Meter}, keeps to the meter's rates, and
ends with one mood.  It
takes the sockets over: they are closed when it ends.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..wire.moods import Mood
from .accept import close_in_order, reset
from .carriers import BufferCarrier, CarrierPool, PipeCarrier
from .meter import Meter
from .pair import is_broken, tell_when_broken
from .rates import Rate, Turn

#: The most that one stream moves before the reactor turns to the next.
_TURN = 1024 * 1024


class Splice:
    """
    @ivar meter: where this stream's bytes are counted.
    """

    __slots__ = ("_ended", "left", "meter", "pool", "reactor", "right")

    def __init__(
        self,
        reactor: IReactor,
        pool: CarrierPool,
        left: socket.socket,
        right: socket.socket,
        meter: Meter,
        ended: Callable[[Splice, Mood], None],
    ) -> None:
        """
        Start to move bytes.

        @param left: non-blocking and connected, as is C{right}.
        @param ended: called once, with the mood, when the stream is over and both are closed.
        """
        self.reactor = reactor
        self.pool = pool
        self.meter = meter
        self._ended: Callable[[Splice, Mood], None] | None = ended
        self.left = _Side(self, left)
        self.right = _Side(self, right)
        self.left.other, self.right.other = self.right, self.left
        for sock in (left, right):
            tell_when_broken(sock, self._breaks)
        self.left.read_on()
        self.right.read_on()

    def read_now(self, side: _Side) -> None:
        """
        Look for bytes at C{side} (C{left} or C{right}) without waiting for the reactor: for
        one that has most likely spoken already.
        """
        if side.reading:
            side.doRead()

    def cut(self, mood: Mood) -> None:
        """End it now, with a reset both ways; nothing happens if it has ended."""
        self._end(mood, reset)

    def _breaks(self) -> None:
        """In the midst of somebody else's work."""
        self.reactor.callLater(0, self.cut, Mood.ERRORY)

    def _end(self, mood: Mood, close: Callable[[socket.socket], None]) -> None:
        ended, self._ended = self._ended, None
        if ended is None:
            return
        for side in (self.left, self.right):
            side.stop()
            if side.carrier is not None:
                self.pool.give_back(side.carrier)
                side.carrier = None
            close(side.sock)
        ended(self, mood)


@implementer(IReadWriteDescriptor)
class _Side:
    """
    One of the two sockets, as the reactor knows it.

    @ivar carrier: what holds bytes that were read here and that the other side has not taken
        yet; while there is one, nothing more is read.
    @ivar finished: the end of its stream has been passed on.
    @ivar reading: the reactor watches it for bytes.
    @ivar turn: its wait for its rates; while there is one, nothing is read.
    @ivar writing: the reactor watches it for room.
    """

    __slots__ = (
        "carrier", "finished", "other", "reading", "sock", "splice", "spliceable", "turn",
        "writing",
    )  # fmt: skip

    other: _Side

    def __init__(self, splice: Splice, sock: socket.socket) -> None:
        self.splice = splice
        self.sock = sock
        self.carrier: PipeCarrier | BufferCarrier | None = None
        self.finished = False
        self.reading = False
        self.writing = False
        self.spliceable = True
        self.turn: Turn | None = None

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "splice"

    def doRead(self) -> None:
        if not self.reading:
            return  # The reactor's news are older than what happened in this turn.
        meter = self.splice.meter
        allowance = meter.limit - meter.forward - meter.backward
        if allowance <= 0:
            self._read_at_the_limit()
            return
        rates = self._rates()
        if not rates:
            self._move(min(allowance, _TURN))
            return
        room = min(rate.room() for rate in rates)
        if not room:
            self._pause()
            self.turn = Turn(rates, partial(self._take_turn, rates))
            return
        moved = self._move(min(allowance, room, _TURN))
        for rate in rates:
            rate.take(moved)

    def _rates(self) -> tuple[Rate, ...]:
        meter = self.splice.meter
        return meter.forward_rates if self is self.splice.left else meter.backward_rates

    def _take_turn(self, rates: tuple[Rate, ...], portion: int) -> None:
        """The rates have waited for: C{portion} bytes are taken from each of them."""
        self.turn = None
        self.read_on()
        meter = self.splice.meter
        allowance = min(portion, meter.limit - meter.forward - meter.backward)
        moved = self._move(allowance) if allowance > 0 else 0
        for rate in rates:
            rate.take(moved - portion)

    def _move(self, most: int) -> int:
        """
        Read, and pass it on.

        @return: how many bytes were read.
        """
        splice = self.splice
        meter = splice.meter
        carrier = splice.pool.take(self.spliceable)
        self.carrier = carrier
        moved = 0
        try:
            moved = carrier.fill(self.sock, most)
        except BlockingIOError:
            self._release()
        except OSError as error:
            if error.errno == errno.EINVAL and self.spliceable:
                self.spliceable = self.other.spliceable = False
                self._release()
            else:
                splice.cut(Mood.ERRORY)
        else:
            if moved:
                if self is splice.left:
                    meter.forward += moved
                else:
                    meter.backward += moved
                self.pass_on()
                if self.carrier is not None:
                    self._pause()
                    self.other.writing = True
                    splice.reactor.addWriter(self.other)
            else:
                self._release()
                self._pause()
                self._finish()
        return moved

    def doWrite(self) -> None:
        if not self.writing:
            return  # As when the same event was one of reading, and that ended the splice.
        source = self.other
        source.pass_on()
        if source.carrier is None and self.writing:
            self.writing = False
            self.splice.reactor.removeWriter(self)
            source.read_on()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw the connection die."""
        self.splice.cut(Mood.ERRORY)

    def read_on(self) -> None:
        """Have the reactor watch it for bytes."""
        self.reading = True
        self.splice.reactor.addReader(self)

    def stop(self) -> None:
        """Have the reactor forget it."""
        self._pause()
        if self.turn is not None:
            self.turn.cancel()
            self.turn = None
        if self.writing:
            self.writing = False
            self.splice.reactor.removeWriter(self)

    def pass_on(self) -> None:
        """Give the other side what was read here."""
        carrier = self.carrier
        assert carrier is not None
        try:
            carrier.drain(self.other.sock)
        except OSError:
            self.splice.cut(Mood.ERRORY)
        else:
            if not carrier.pending:
                self._release()

    def _pause(self) -> None:
        if self.reading:
            self.reading = False
            self.splice.reactor.removeReader(self)

    def _release(self) -> None:
        assert self.carrier is not None
        self.splice.pool.give_back(self.carrier)
        self.carrier = None

    def _finish(self) -> None:
        if is_broken(self.sock):
            self.splice.cut(Mood.ERRORY)
            return
        self.finished = True
        if self.other.finished:
            self.splice._end(Mood.HAPPY, close_in_order)
            return
        try:
            self.other.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self.splice.cut(Mood.ERRORY)

    def _read_at_the_limit(self) -> None:
        """The end of the stream may still come; a byte may not."""
        try:
            more = self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self.splice.cut(Mood.ERRORY)
            return
        if more:
            self.splice.meter.exhausted()
        else:
            self._pause()
            self._finish()
