"""
A channel of a link: TLS on its socket, and frames inside.

TLS works on memory, in blocks of the size of a frame, and the blocks go to and from the socket as a
whole.  (On the socket itself it would make a system call for each record of 16 KiB, two when
reading: that costs the channel no less, and the relay, which is woken for each, twice as much.)
What is to be sent is gathered during a turn of the reactor and written at its end, small frames
together.  A channel whose other side is silent for too long is lost; so is one that ends in
whatever way, because no end of a channel is ever the end of a stream.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..wire import frames
from ..wire.errors import WireError
from ..wire.frames import Kind, Reader
from .handshake import PROTOCOL, HandshakeError, explain
from .parties import Owner
from .pulse import RELAYED, RESTING, Pace, Pulse
from .records import RECORD, RecordConnection, Space

#: Seconds for the handshake.
HANDSHAKE_TIMEOUT = 10.0
#: Bytes after which a fresh one, with fresh keys, should take its place: a tenth of what AES-GCM is
#: good for (RFC 8446, section 5.5: 2^24.5 records of 16 KiB).
WORN = 32 * 1024**3
#: Bytes that may wait to be written before streams have to wait.
ENOUGH = 256 * 1024
#: Bytes that may wait in any case: more than everybody's acks and resets at once.
MOST_WAITING = 4 * 1024 * 1024
#: The most that one channel reads before it hands on.
_TURN = 256 * 1024
#: One for all: what is read is handed on, or copied, before the next channel reads.
_PLAIN = Space(_TURN)
_CIPHER = Space(_TURN + _TURN // 512 + 1024)  # Each record of 16 KiB grows by 22 bytes.


@implementer(IReadWriteDescriptor)
class Channel:
    """
    @ivar secured: fires with C{None} when TLS is up and the other side is who it should be, or
        fails with L{HandshakeError}.
    @ivar slot: which of its link's channels it is.
    @ivar generation: which one of those that had the slot.
    @ivar path: which way it takes, if not that of its session's legs.
    @ivar worn: another one is to take its place, whatever comes on it.
    @ivar waiting: for the link: who wants to send.
    """

    def __init__(
        self,
        reactor: IReactor,
        sock: socket.socket,
        tls: RecordConnection,
        pace: Pace = RELAYED,
        path: str = "",
    ) -> None:
        """@param tls: on no socket, before its handshake."""
        self.path = path
        self.owner: Owner | None = None
        self.slot = 0
        self.generation = 0
        self.waiting: deque[object] = deque()
        self.secured: Deferred[None] = Deferred(lambda _: self.close())
        self.open = True
        self.tls = tls
        self._reactor = reactor
        self._sock = sock
        self._reader = Reader()
        self._shaking = True
        self._queue: deque[memoryview | bytes] = deque()
        self._queued = 0
        self._left = memoryview(b"")  # Of what TLS has made.
        self._blocked = False
        self._moved = 0
        self._flush: IDelayedCall | None = None
        self._began = self._spoke = reactor.seconds()
        self._pulse = Pulse(reactor, self, pace)
        self.worn = False
        self._deadline = reactor.callLater(HANDSHAKE_TIMEOUT, self._overdue)
        reactor.addReader(self)

    def start(self) -> None:
        """Begin the handshake."""
        self._shake()

    @property
    def room(self) -> bool:
        """Whether streams may send."""
        return self._queued < ENOUGH and self.open

    @property
    def handshaking(self) -> bool:
        """Whether TLS is not up yet."""
        return self._shaking

    @property
    def failing(self) -> bool:
        """Whether another one should take its place, if there is one; it may recover."""
        return self.worn or self._pulse.failing

    @property
    def rtt(self) -> float | None:
        """Seconds, of the last PING, or before that of the handshake."""
        return self._pulse.rtt

    def send(self, frame: memoryview | bytes) -> None:
        """
        Write a frame: a large one now, a small one at the end of this turn.

        The caller looks at C{room} first, but for those few that have to be said in any case.
        """
        if self.open and not self._pulse.lively:
            self._pulse.stir()
        self._enqueue(frame)

    def _enqueue(self, frame: memoryview | bytes) -> None:
        if not self.open:
            return
        self._queue.append(frame)
        self._queued += len(frame)
        if self._blocked:
            return
        if len(frame) >= RECORD:
            self.flush()
        elif self._flush is None:
            self._flush = self._reactor.callLater(0, self._turn_over)

    def holds(self, frame: memoryview) -> bool:
        """Whether it was sent and still has to be written."""
        return any(waiting is frame for waiting in self._queue)

    def flush(self) -> None:
        """Write what waits to be written, as far as it goes."""
        try:
            while self.open:
                if self._left:
                    self._left = self._left[self._sock.send(self._left) :]
                elif not self._write_cipher() and not self._encrypt():
                    return
        except BlockingIOError:
            self._block()
        except (SSL.Error, OSError) as error:
            self._lose(explain(error))

    def _encrypt(self) -> bool:
        """Take a block of what waits; @return: whether anything did."""
        queue, size = self._queue, 0
        while queue and size < _TURN:
            frame = queue.popleft()
            if len(frame) < RECORD and queue:
                frame = self._join(frame)
            self.tls.send(frame)
            size += len(frame)
        self._queued -= size
        self._moved += size
        return bool(size)

    def _write_cipher(self) -> bool:
        """Write what TLS has made of it, and keep what does not go; @return: whether it had any."""
        cipher = self.tls.read_cipher(_CIPHER)
        if not cipher:
            return False
        try:
            sent = self._sock.send(cipher)
        except BlockingIOError:
            sent = 0
        if sent < len(cipher):
            self._left = memoryview(bytes(cipher[sent:]))
        return True

    def secret(self, label: bytes, size: int) -> bytes:
        """
        Keying material that its two ends have, and nobody else (RFC 8446 section 7.5).

        @return: C{size} bytes; others in each generation, which it may get once more.
        """
        context = self.generation.to_bytes(8, "big")
        return self.tls.export_keying_material(label, size, context)

    def rest(self) -> None:
        """Carry nothing for now: what waits to be written will go another way."""
        self._queue.clear()
        self._queued = 0
        self._pulse.use(RESTING)

    def wake(self) -> None:
        """Carry again."""
        self._pulse.use(RELAYED)

    def close_with(self, frame: bytes) -> None:
        """Say this last word, as well as that can be done, and close."""
        self.send(frame)
        self.flush()
        if self.open:
            # Its sockets are made to break when they are closed: not this time.
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
            self.close()

    def close(self) -> None:
        """Give it up; its owner knows."""
        if not self.open:
            return
        self.open = False
        self.owner = None
        self._reactor.removeReader(self)
        if self._blocked:
            self._blocked = False
            self._reactor.removeWriter(self)
        self._pulse.stop()
        for call in (self._flush, self._deadline):
            if call is not None and call.active():
                call.cancel()
        self._queue.clear()
        self._queued = 0
        self._left = memoryview(b"")
        self._sock.close()

    # For its pulse.

    def ask(self) -> None:
        """See L{relaytun.link.parties.Asker}."""
        self._enqueue(frames.header(Kind.PING))
        if self._moved >= WORN and self.owner is not None:
            self._moved = 0
            self.worn = True
            self.owner.worn(self)

    def silent(self) -> None:
        """See L{relaytun.link.parties.Asker}."""
        if self.owner is not None:
            self.owner.worn(self)

    def dead(self, why: str) -> None:
        """See L{relaytun.link.parties.Asker}."""
        self._lose(why)

    # For the reactor.

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "channel"

    def doRead(self) -> None:
        if self._queued > MOST_WAITING:
            self._lose("the other side takes nothing")
            return
        try:
            size = self._sock.recv_into(_CIPHER.view)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(explain(error))
            return
        if not size:
            self._lose("the other side closed the channel")
            return
        self._pulse.heard = self._reactor.seconds()
        self._moved += size
        self.tls.bio_write(_CIPHER.view[:size])
        if self._shaking:
            self._shake()
        if not self._shaking and self.open:
            self._decrypt()

    def doWrite(self) -> None:
        if self._blocked:
            self._blocked = False
            self._reactor.removeWriter(self)
            self._turn_over()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw it die."""
        self._lose("the connection broke")

    def _shake(self) -> None:
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            self._send_handshake()
            return
        except SSL.Error as error:
            self._send_handshake()  # The alert.
            self._lose(explain(error))
            return
        self._pulse.rtt = self._reactor.seconds() - self._spoke
        self._send_handshake()
        if self.open and self.tls.get_alpn_proto_negotiated() != PROTOCOL:
            self._lose("the other side speaks another protocol")
        if not self.open:
            return
        self._shaking = False
        self._deadline.cancel()
        self._pulse.start(shortest=self._reactor.seconds() - self._began)
        self.secured.callback(None)

    def _send_handshake(self) -> None:
        try:
            if not self._left and self._write_cipher():
                self._spoke = self._reactor.seconds()
        except OSError as error:
            self._lose(explain(error))
        self.flush()

    def _decrypt(self) -> None:
        error: SSL.Error | None = None
        while error is None and self.open:
            filled, error = self.tls.read_records(_PLAIN)
            if filled:
                self._hand_on(_PLAIN.view[:filled])
        if error is not None and not isinstance(error, SSL.WantReadError):
            self._lose(explain(error))

    def _hand_on(self, data: memoryview) -> None:
        try:
            for frame in self._reader.feed(data):
                if frame.kind == Kind.PING:
                    self._enqueue(frames.pong(frame))
                elif frame.kind == Kind.PONG:
                    self._pulse.ponged()
                elif self.owner is not None:
                    if not self._pulse.lively:
                        self._pulse.stir()
                    self.owner.received(self, frame)
                if not self.open:
                    return
        except WireError as error:
            self._lose(str(error))

    def _join(self, first: memoryview | bytes) -> bytes:
        """@return: C{first} and the small frames behind it in the queue."""
        queue = self._queue
        parts = [first]
        size = len(first)
        while queue and size + len(queue[0]) <= RECORD:
            size += len(queue[0])
            parts.append(queue.popleft())
        return b"".join(parts)

    def _block(self) -> None:
        if not self._blocked:
            self._blocked = True
            self._reactor.addWriter(self)

    def _turn_over(self) -> None:
        self._flush = None
        self.flush()
        if self.open and self.owner is not None and self._queued < ENOUGH and self.waiting:
            self.owner.drained(self)

    def _overdue(self) -> None:
        self._lose("no TLS handshake in time")

    def _lose(self, why: str) -> None:
        if not self.open:
            return
        owner = self.owner
        self.close()
        if self._shaking:
            self._shaking = False
            self.secured.errback(HandshakeError(why))
        elif owner is not None:
            owner.lost(self, why)
