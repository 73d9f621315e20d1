"""
A WebSocket and one end of a L{pair<relaytun.plane.pair.pair>} made one: whoever holds the pair's
other end has a leg like any other.

Reads only what the other side takes (both ways), passes an end of stream on as a message without
a byte and a break as close code 1011.  A peer that has died is found by the keep-alives of its
TCP connection, and by what runs in the leg.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet.interfaces import IPushProducer, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..wire import websocket
from ..wire.websocket import (
    Close,
    CloseCode,
    Data,
    End as LastMessage,
    FrameError,
    FrameReader,
    Opcode,
    Ping,
)
from .accept import reset
from .pair import End

#: Payload of one message.
_CHUNK = 64 * 1024
#: Messages in one turn of the reactor.
_AT_ONCE = 4
#: Frames without payload that are taken in a second.
MAX_IDLE_FRAMES = 200
#: Seconds between looks at an end that is not read: did its other end go?
LOOK_INTERVAL = 10.0
#: Seconds for the last bytes to go out after this side has closed.
CLOSE_TIMEOUT = 5.0


@implementer(IReadWriteDescriptor, IPushProducer)
class WebSocketBridge:
    """
    Both are its own from now on.

    The protocol that did the opening handshake passes on what it hears: L{received} and L{lost}.
    """

    def __init__(self, reactor: IReactor, transport: Any, end: End, client: bool) -> None:
        """
        @param transport: a Twisted transport of a WebSocket that is open, plain or TLS.
        @param client: whether this side opened it.
        """
        self._reactor = reactor
        self._transport = transport
        self._end = end
        self._client = client
        self._reader = FrameReader(masked=not client)
        self._pending = b""  # What the end has not taken yet.
        self._finished = False  # Everything of the end has been said.
        self._finishing = False  # The other side has said everything.
        self._over = False
        self._lost = False  # The connection is.
        self._paused = False  # The other side does not read.
        self._reading = False
        self._writing = False
        self._moved = True  # Since the last look.
        self._pong: bytes | None = None
        self._window = reactor.seconds()
        self._idle = 0
        self._look_again = reactor.callLater(LOOK_INTERVAL, self._look)
        self._deadline: Any = None
        self._read_on()
        transport.registerProducer(self, True)

    # For the protocol.

    def received(self, data: bytes) -> None:
        """Bytes of the WebSocket."""
        if self._over:
            return
        parts = []
        close: CloseCode | None = None
        try:
            for event in self._reader.feed(data):
                if isinstance(event, Data | LastMessage) and self._finishing:
                    raise FrameError("a message came behind the last one")
                if isinstance(event, Data):
                    parts.append(event.data)
                elif isinstance(event, LastMessage):
                    self._finishing = True
                elif isinstance(event, Ping):
                    self._answer(event.payload)
                elif isinstance(event, Close):
                    close = CloseCode.NORMAL
            self._judge_idle()
        except FrameError as error:
            close = error.code
        if parts and not self._deliver(b"".join(parts)):
            return
        if close is not None and not (self._finished and self._finishing):
            self._break(close)
        elif self._finishing and not self._pending:
            self._shut()

    def lost(self) -> None:
        """The connection is gone."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._lost = True
        if not (self._over or (self._finished and self._finishing)):
            self._let_go()
            reset(self._end)

    # For the transport.

    def pauseProducing(self) -> None:
        self._paused = True
        self._read_no_more()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._pong is not None:
            payload, self._pong = self._pong, None
            self._say(Opcode.PONG, payload)
        if not self._paused:
            self._read_on()

    def stopProducing(self) -> None:
        """The connection is lost, which the protocol hears as well."""

    # For the reactor: the end.

    def fileno(self) -> int:
        return self._end.fileno()

    def logPrefix(self) -> str:
        return "websocket"

    def doRead(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._reading:
                return
            try:
                data = self._end.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self._break(CloseCode.BROKEN)
                return
            if not data:
                self._read_to_the_end()
                return
            self._moved = True
            self._say(Opcode.BINARY, data)

    def doWrite(self) -> None:
        if not self._writing:
            return
        pending, self._pending = self._pending, b""
        self._deliver(pending)
        if self._writing and not self._pending:
            self._writing = False
            self._reactor.removeWriter(self)
            self._transport.resumeProducing()
            if self._finishing:
                self._shut()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw the end break."""
        self._break(CloseCode.BROKEN)

    def _say(self, opcode: Opcode, payload: bytes = b"") -> None:
        self._transport.write(websocket.frame(opcode, payload, self._client))

    def _answer(self, payload: bytes) -> None:
        if self._paused:
            self._pong = payload  # Of several pings the last one is worth an answer (5.5.3).
        else:
            self._say(Opcode.PONG, payload)

    def _judge_idle(self) -> None:
        now = self._reactor.seconds()
        if now - self._window >= 1.0:
            self._window = now
            self._idle = 0
        self._idle += self._reader.take_idle()
        if self._idle > MAX_IDLE_FRAMES:
            raise FrameError("too many frames that carry nothing", CloseCode.POLICY)

    def _deliver(self, data: bytes) -> bool:
        """@return: whether the end lives on."""
        if self._pending:
            self._pending += data
            return True
        try:
            sent = self._end.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._break(CloseCode.BROKEN)
            return False
        self._pending = data[sent:]
        if self._pending and not self._writing:
            self._writing = True
            self._transport.pauseProducing()
            self._reactor.addWriter(self)
        return True

    def _read_to_the_end(self) -> None:
        self._read_no_more()
        if self._end.broken:
            self._break(CloseCode.BROKEN)
            return
        self._finished = True
        self._say(Opcode.BINARY)
        self._close_if_over()

    def _shut(self) -> None:
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            self._break(CloseCode.BROKEN)
        else:
            self._close_if_over()

    def _close_if_over(self) -> None:
        if self._finished and self._finishing and not (self._pending or self._over):
            self._let_go()
            self._end.close()
            self._close(CloseCode.NORMAL)

    def _break(self, code: CloseCode) -> None:
        """What has gone through is not all of it."""
        if not self._over:
            self._let_go()
            reset(self._end)
            self._close(code)

    def _close(self, code: CloseCode) -> None:
        if self._lost:
            return
        transport = self._transport
        transport.write(websocket.close_frame(code, self._client))
        transport.unregisterProducer()  # A TLS transport does not close before that.
        transport.resumeProducing()  # It has to see the other side close.
        self._deadline = self._reactor.callLater(CLOSE_TIMEOUT, transport.abortConnection)
        transport.loseConnection()

    def _let_go(self) -> None:
        self._over = True
        self._read_no_more()
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)
        self._pending = b""
        self._look_again.cancel()

    def _read_on(self) -> None:
        if not (self._reading or self._finished or self._over):
            self._reading = True
            self._reactor.addReader(self)

    def _read_no_more(self) -> None:
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)

    def _look(self) -> None:
        """
        Find out what reading would have told: the other end of the pair was reset, or it is
        closed and the peer neither takes what is left nor says its last word.
        """
        moved, self._moved = self._moved, False
        self._look_again = self._reactor.callLater(LOOK_INTERVAL, self._look)
        if self._end.broken or (not self._reading and not moved and _hung_up(self._end)):
            self._break(CloseCode.BROKEN)


def _hung_up(sock: socket.socket) -> bool:
    """Whether its peer is closed both ways."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
