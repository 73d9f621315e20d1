"""
Questions to a router: sent again if need be, and answered by nobody else.

What they mean is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import DatagramProtocol

from ..interfaces import IReactor
from ..wire.errors import WireError

#: Seconds for which an answer is waited for; in the middle of them the question is repeated.
PATIENCE = 0.5

T = TypeVar("T")


class Conversation(DatagramProtocol):
    """
    Questions to a router, one at a time; packets of anybody else are thrown away.

    The socket is not connected: the reactor would take the router's ICMP for its end.

    @ivar own_address: this host's, as the router sees it.
    """

    noisy = False

    def __init__(self, reactor: IReactor, host: str, port: int, own_address: str) -> None:
        """@raise CannotListenError: if this host has not that address."""
        self.own_address = own_address
        self._reactor = reactor
        self._place = host, port
        self._take: Callable[[bytes], None] | None = None
        self._listening = cast(Any, reactor.listenUDP(0, self, own_address, 8192))

    def ask(
        self, packets: Sequence[bytes], read: Callable[[bytes], T | None]
    ) -> Deferred[T | None]:
        """
        Send these, twice if need be.

        @param read: what to make of an answer; C{None}: it is none, wait for another.  It may
            raise L{WireError}, which means the same.
        @return: what it made, or C{None} if nobody answers.
        """
        done: Deferred[T | None] = Deferred()

        def take(data: bytes) -> None:
            try:
                answer = read(data)
            except WireError:
                return
            if answer is not None:
                done.callback(answer)

        def over(result: Any) -> Any:
            self._take = None
            for timer in timers:
                if timer.active():
                    timer.cancel()
            return result

        self._take = take
        timers = [
            self._reactor.callLater(PATIENCE / 2, self.tell, packets),
            self._reactor.callLater(PATIENCE, done.callback, None),
        ]
        done.addBoth(over)
        self.tell(packets)
        return done

    def tell(self, packets: Sequence[bytes]) -> None:
        """Send these, and wait for nothing."""
        for packet in packets:
            try:
                self._listening.write(packet, self._place)
            except OSError:
                return  # The network is not there, as if nobody answered.

    def close(self) -> Deferred[None]:
        """Fires when the socket is closed."""
        stopped = self._listening.stopListening()
        return stopped if isinstance(stopped, Deferred) else succeed(None)

    # --- DatagramProtocol -----------------------------------------------------------------------

    def datagramReceived(self, data: bytes, place: Any) -> None:
        if self._take is not None and tuple(place[:2]) == self._place:
            self._take(data)
