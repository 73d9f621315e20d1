"""
A byte pipe over a path on which only UDP passes.

The path is punched already, and datagrams come and go through two functions; on the other side
stands one half of a pair of sockets, so that a link's channel sees a socket here as anywhere.
aioquic makes a reliable stream of it, without any I/O of its own.  The library is an extra:
without it there is no L{QuicPipe} to be had (L{AVAILABLE}), and QUIC is not offered.

What proves the other side is the link's own TLS, with its pinned identities, which runs inside the
pipe as inside every channel.  QUIC's handshake is bound to the two clients by a key that both know
from the link (L{quicconnection}): a stranger who gets packets onto the path cannot finish it.

Back-pressure goes both ways.  The pair is read only while little waits to be sent; what the pair
does not take is not granted to the other side anew, which so may have a window of bytes on its
way, and no more.  The end of a stream and a broken one stay what they are.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ..interfaces import IReactor
from ..wire.text import printable
from .pipeend import PipeEnd

try:
    from aioquic.quic import events

    from .quicconnection import LARGEST, Connection, destination_of
except ImportError:
    #: Whether there is a library.
    AVAILABLE = False
else:
    AVAILABLE = True

#: What a user can do if there is none.
INSTALL = "pip install relaytun[quic]"
#: Seconds for the handshake, and of silence after which a pipe is broken.
HANDSHAKE_TIMEOUT = 10.0
IDLE_TIMEOUT = 20.0
#: Bytes of a datagram that every path takes (RFC 9000, section 14).
SAFE_SIZE = 1200
#: Seconds by which a sum of floats may be too early: the timer would ring in vain, again and again.
_ROUNDING = 1e-5
#: Codes with which a side ends the connection.
_IN_ORDER = 0
_BROKEN = 1


class QuicError(Exception):
    """No pipe came about; the text says why."""


class QuicPipe:
    """
    One side of it.  It takes C{end} over, and closes it.

    @ivar connected: fires with C{None} when the handshake is done, or fails with L{QuicError};
        cancelling it closes the pipe.
    @ivar closed: fires with C{None} when it is over, in whatever way: the path is free.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        send: Callable[[bytes], object],
        end: socket.socket,
        *,
        client: bool,
        key: bytes,
        close_in_order: Callable[[socket.socket], None],
        reset: Callable[[socket.socket], None],
        is_broken: Callable[[socket.socket], bool],
        datagram_size: int = SAFE_SIZE,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        """
        @param send: takes a datagram for the path; what it cannot send is lost, without an error.
        @param end: non-blocking.
        @param client: which side; there has to be one of each.
        @param key: a secret that only the two sides know, the same on both; 32 bytes.
        @param close_in_order: closes C{end} after its last byte.
        @param reset: closes it as broken.
        @param is_broken: whether an end of the stream that was read at C{end} is none.
        @param datagram_size: the most bytes that a datagram may have, if the path is known to take
            more than L{SAFE_SIZE}; otherwise that is found out.
        """
        if not AVAILABLE:
            raise QuicError(f"there is no aioquic: {INSTALL}")
        self.connected: Deferred[None] = Deferred(lambda _: self.close())
        self.closed: Deferred[None] = Deferred(lambda _: self.close())
        self._reactor = reactor
        self._send = send
        self._end = PipeEnd(reactor, end, self._readable, self._taken, self._program_broke)
        self._client = client
        self._key = key
        self._close_in_order = close_in_order
        self._reset = reset
        self._is_broken = is_broken
        self._datagram_size = datagram_size
        self._idle_timeout = idle_timeout
        self._connection: Connection | None = None
        self._shaking = True
        self._over = False  # The connection is; the end may still have to take something.
        self._finished = False  # Our program wrote its last byte.
        self._finishing = False  # The other side did.
        self._turn: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0
        self._limit: IDelayedCall | None = reactor.callLater(HANDSHAKE_TIMEOUT, self._overdue)

    def start(self) -> None:
        """A client begins; a server waits for it."""
        if self._client and self._connection is None and not self._over:
            self._connection = self._make(None)
            self._connection.begin(self._reactor.seconds())
            self._soon()

    def received(self, datagram: bytes) -> None:
        """A datagram came over the path, from whomever."""
        if self._over:
            return
        connection = self._connection
        if connection is None:
            destination = None if self._client else destination_of(datagram)
            if destination is None:
                return
            connection = self._connection = self._make(destination)
        try:
            connection.hear(datagram, self._reactor.seconds())
        except Exception:  # What a stranger sent must not cost the caller's reader.
            self._log.failure("QUIC tripped over a datagram")
            self._break("QUIC tripped over a datagram")
            return
        if self._turn is None:
            self._soon()

    def close(self) -> None:
        """Break it: the other side sees a reset."""
        self._break("it was closed")

    # The program.

    def _readable(self) -> None:
        connection = self._connection
        if connection is None:
            return
        room = connection.room
        if room <= 0:
            self._end.pause()
            return
        data = self._end.read(room)
        if data is None:
            return
        if data:
            connection.write(data)
        elif self._is_broken(self._end.sock):
            self._program_broke()
            return
        else:
            self._finished = True
            self._end.pause()
            connection.write(b"", True)
        self._soon()

    def _taken(self, size: int) -> None:
        """The program took so many bytes, and takes no more now."""
        if size and self._connection is not None:
            self._connection.taken += size
            self._soon()
        self._end_if_over()

    def _program_broke(self) -> None:
        self._break("its program broke it")

    def _end_if_over(self) -> None:
        if self._end.pending or not self._finishing or self._end.is_closed:
            return
        if self._over:
            self._finish(self._close_in_order)
        else:
            self._end.shut()

    # The connection.

    def _make(self, destination: bytes | None) -> Connection:
        return Connection(
            client=self._client,
            key=self._key,
            idle_timeout=self._idle_timeout,
            datagram_size=self._datagram_size,
            destination=destination,
        )

    def _soon(self) -> None:
        """Look at what came, and send, when all datagrams of this turn are in."""
        if self._turn is None and not self._over:
            self._turn = self._reactor.callLater(0, self._go_round)

    def _go_round(self) -> None:
        self._turn = None
        connection = self._connection
        if connection is None or self._over:
            return
        if not self._take_events(connection):
            return
        if self._finished and self._finishing and connection.all_arrived:
            self._hang_up(_IN_ORDER)
            self._end_connection()
            return
        for datagram in connection.to_send(self._reactor.seconds()):
            self._send(datagram)
        if connection.room > 0 and not (self._shaking or self._finished):
            self._end.read_on()
        self._arm(connection.get_timer())

    def _take_events(self, connection: Connection) -> bool:
        """@return: whether it goes on."""
        arrived = False
        event = connection.next_event()
        while event is not None and not self._over:
            if isinstance(event, events.StreamDataReceived):
                if event.data:
                    self._end.pending.append(event.data)
                self._finishing = self._finishing or event.end_stream
                arrived = True
            elif isinstance(event, events.HandshakeCompleted):
                self._secured(connection, event.session_resumed)
            elif isinstance(event, events.DatagramFrameReceived):
                connection.probed(event.data)
            elif isinstance(event, events.StreamReset | events.StopSendingReceived):
                self._break("the other side broke it")
            event = connection.next_event()
        if arrived:
            self._end.deliver_soon()
        end = connection.end
        if end is not None and not self._over:
            self._ended(*end)
        return not self._over and self._connection is connection

    def _secured(self, connection: Connection, knows_key: bool) -> None:
        if not knows_key:
            connection.close(_BROKEN)
            return
        self._shaking = False
        self._cancel_limit()
        if self._datagram_size < LARGEST:
            for datagram in connection.probe(LARGEST, self._reactor.seconds()):
                self._send(datagram)
        self.connected.callback(None)

    def _ended(self, code: int, why: str) -> None:
        """The connection is over, by the other side's word or because that broke a rule."""
        if self._shaking and not self._client:
            self._connection = None  # It was a stranger, who gets no answer; the other may come.
        elif code == _IN_ORDER and self._finished and self._finishing:
            self._end_connection()
        else:
            self._break(printable(why) or "the other side broke it")

    def _overdue(self) -> None:
        self._limit = None
        self._break("no QUIC handshake in time")

    def _arm(self, at: float | None) -> None:
        """Have L{_ring} called at that time, or earlier, by a timer that is not moved each time."""
        if at is None:
            return
        timer = self._timer
        if timer is not None:
            if self._timer_at <= at:
                return
            timer.cancel()
        self._timer_at = at
        delay = max(at - self._reactor.seconds(), 0) + _ROUNDING
        self._timer = self._reactor.callLater(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        connection = self._connection
        if connection is None or self._over:
            return
        now = self._reactor.seconds()
        at = connection.get_timer()
        if at is not None and at <= now:
            connection.handle_timer(now)
            self._go_round()
        else:
            self._arm(at)

    # The end.

    def _hang_up(self, code: int, why: str = "") -> None:
        """Tell the other side, twice, because nobody sends it again when it is lost."""
        connection = self._connection
        if connection is None:
            return
        connection.close(error_code=code, reason_phrase=why)
        for datagram in connection.to_send(self._reactor.seconds()):
            self._send(datagram)
            self._send(datagram)

    def _end_connection(self) -> None:
        """It did all that it was for."""
        self._over = True
        self._stop()
        self._end_if_over()

    def _break(self, why: str) -> None:
        if self._end.is_closed:
            return
        if not self._over:
            self._over = True
            self._hang_up(_BROKEN)
            self._stop()
        self._end.pending.clear()
        self._finish(self._reset)
        if self._shaking:
            self._shaking = False
            self.connected.errback(QuicError(why))

    def _stop(self) -> None:
        self._connection = None
        self._end.pause()
        self._cancel_limit()
        for call in (self._turn, self._timer):
            if call is not None and call.active():
                call.cancel()
        self._turn = self._timer = None

    def _cancel_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _finish(self, close: Callable[[socket.socket], None]) -> None:
        self._end.finish(close)
        self.closed.callback(None)
