"""
How a UDP socket is seen from outside: ask the server's reflectors, by STUN.

The answers hold for that very socket: a router may give another one of the same machine another
port.  So the socket is the caller's, before and after, and what comes in on it stays his: an
L{Asking} gets the packets that may be STUN.  L{ask} is for who wants to know nothing else: it
reads the socket until the answers are there.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..wire import stun
from ..wire.errors import WireError

#: What C{socket} has as an address, the host of which is literal.
Address: TypeAlias = tuple[Any, ...]

#: Seconds until a question is asked again, doubled each time; and how often it is asked.  RFC 8489
#: (section 6.2.1) has 0.5 s and 7 times: but here somebody waits, and there is the relay.
RETRY = 0.2
TRIES = 3

#: Reads in one turn of the reactor.
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Reflection:
    """
    How a socket is seen.

    @ivar external: host and port, in the order of the reflectors that answered.
    @ivar rtt: seconds there and back, the best of the answers; C{None} if there was none.
    """

    external: tuple[tuple[str, int], ...] = ()
    rtt: float | None = None


class Asking:
    """
    One round of questions.

    @ivar done: fires with a L{Reflection} when all have answered, or have had time enough; it
        does not fail.  Cancel it to stop.
    """

    def __init__(
        self,
        clock: IReactorTime,
        send: Callable[[bytes, Address], None],
        reflectors: Sequence[Address],
    ) -> None:
        """
        @param send: sends one packet from the socket; what cannot be sent is lost, as on any way.
        @param reflectors: in the order in which they are asked, which is that of the ports that a
            router gives one after the other.
        """
        self.done: Deferred[Reflection] = Deferred(lambda _: self._stop())
        self._clock = clock
        self._send = send
        self._reflectors = reflectors
        self._sent: dict[bytes, tuple[int, float]] = {}
        self._external: dict[int, tuple[str, int]] = {}
        self._over: set[int] = set()
        self._rtt: float | None = None
        self._timer: IDelayedCall | None = None
        self._try(0)

    def received(self, packet: bytes | memoryview) -> bool:
        """
        @param packet: one that has come to the socket, from anybody: who knows the transaction has
            seen the question.
        @return: whether it was an answer to this.
        """
        if not stun.may_be_message(packet):
            return False
        try:
            answer = stun.decode(packet)
        except WireError:
            return False
        which, then = self._sent.get(answer.transaction, (-1, 0.0))
        if which < 0 or isinstance(answer, stun.Request):
            return False
        if which not in self._over:
            self._over.add(which)
            if isinstance(answer, stun.Answer):
                self._external[which] = answer.host, answer.port
                rtt = self._clock.seconds() - then
                self._rtt = rtt if self._rtt is None else min(rtt, self._rtt)
            if len(self._over) == len(self._reflectors):
                self._finish()
        return True

    def _try(self, count: int) -> None:
        self._timer = None
        if count == TRIES or not self._reflectors:
            self._finish()
            return
        self._timer = self._clock.callLater(RETRY * 2**count, self._try, count + 1)
        for which, address in enumerate(self._reflectors):
            if which not in self._over:
                # Another one each time, so that the answer tells how long it took.
                transaction = secrets.token_bytes(stun.TRANSACTION_SIZE)
                self._sent[transaction] = which, self._clock.seconds()
                self._send(stun.encode_request(transaction), address)

    def _finish(self) -> None:
        self._stop()
        external = tuple(self._external[which] for which in sorted(self._external))
        self.done.callback(Reflection(external, self._rtt))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sent.clear()


def ask(
    reactor: IReactor, sock: socket.socket, reflectors: Sequence[Address]
) -> Deferred[Reflection]:
    """
    @param sock: a non-blocking UDP socket, bound or not, of the reflectors' family; nobody else
        reads it meanwhile, and packets that are no answers are lost.
    @return: see L{Asking.done}.
    """

    def send(packet: bytes, address: Address) -> None:
        with contextlib.suppress(OSError):  # It is asked again.
            sock.sendto(packet, address)

    asking = Asking(reactor, send, reflectors)
    if not asking.done.called:
        reader = _Reader(sock, asking.received)
        reactor.addReader(reader)

        def over(result: Any) -> Any:
            reactor.removeReader(reader)
            return result

        asking.done.addBoth(over)
    return asking.done


@implementer(IReadDescriptor)
class _Reader:
    """Reads a socket that it does not own."""

    def __init__(self, sock: socket.socket, received: Callable[[bytes], Any]) -> None:
        self._sock = sock
        self._received = received

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "reflection"

    def doRead(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                packet = self._sock.recv(2048)
            except BlockingIOError:
                return
            except OSError:
                continue  # News of an earlier packet: that nobody is there, for instance.
            self._received(packet)

    def doWrite(self) -> None:
        """An older socket of this number could have written."""

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw an error; the timer is still there."""
