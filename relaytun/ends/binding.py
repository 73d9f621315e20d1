"""
Keeps a client's UDP address bound at the relay.

::

    asking --cookie--> asking, with the cookie --bound--> bound --keep-alive--> asking ...

The keep-alive is a bind packet like any other: it holds the NAT's mapping, and when the mapping
has changed all the same, its answer is a cookie for the new address instead of the confirmation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ..wire import datagram
from ..wire.datagram import NO_COOKIE, Kind
from ..wire.errors import WireError
from ..wire.preamble import Role

#: Seconds between keep-alives: some NATs forget a UDP mapping after 30 (RFC 4787 asks for 120).
KEEPALIVE = 15.0
#: Seconds until an unanswered question is asked again, the first time and at most.
FIRST_RETRY = 0.5
LAST_RETRY = 60.0
#: When that is due, a bound address is given up: about 4 s after the first question.
ENOUGH = 4.0
#: Cookies that are brought back at once, in one round.
MOST_COOKIES = 3


@dataclass(frozen=True)
class DatagramSession:
    """
    What signalling tells of a session's datagrams.

    @ivar relay_host, relay_port: C{relayAddr}, of which the port is UDP's, too.
    @ivar number: C{datagramSession}.
    @ivar channel_key: this role's.
    """

    relay_host: str
    relay_port: int
    number: int
    role: Role
    channel_key: bytes


class Binding:
    """
    One address of ours at the relay.

    @ivar bound: whether the relay has confirmed it, and has not been silent since.
    """

    def __init__(
        self,
        clock: IReactorTime,
        session: DatagramSession,
        send: Callable[[bytes], object],
        confirmed: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        """
        @param confirmed: called when C{bound} becomes true.
        @param lost: called when it becomes false.
        """
        self.bound = False
        self._clock = clock
        self._session = session
        self._send = send
        self._confirmed = confirmed
        self._lost = lost
        self._cookie = NO_COOKIE
        # A session may be bound again by a later object of this process: by then it is later.
        self._counter = int(clock.seconds() * 1e6)
        self._retry = FIRST_RETRY
        self._cookies = 0
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Ask, until L{stop}."""
        self._retry = FIRST_RETRY
        self._round()

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def confirm(self) -> None:
        """There is reason to doubt that the address is still bound: ask now."""
        if self.bound and self._retry == FIRST_RETRY:
            self._round()

    def received(self, packet: bytes | memoryview) -> None:
        """The relay's word, or somebody else's."""
        try:
            answer = datagram.decode_bind(packet)
        except WireError:
            return
        session = self._session
        if (
            self._timer is None
            or answer.session != session.number
            or answer.role is not session.role
            or answer.counter != self._counter
            or answer.kind is Kind.ASK
            or not answer.is_authentic(session.channel_key)
        ):
            return
        self._cookie = answer.cookie
        if answer.kind is Kind.BOUND:
            self._retry = FIRST_RETRY
            self._again_in(KEEPALIVE)
            if not self.bound:
                self.bound = True
                self._confirmed()
        elif self._cookies < MOST_COOKIES:
            self._cookies += 1
            self._ask()

    def _round(self) -> None:
        self._cookies = 0
        self._ask()
        self._again_in(self._retry)
        self._retry = min(LAST_RETRY, self._retry * 2)
        if self.bound and self._retry > ENOUGH:
            self.bound = False
            self._lost()

    def _ask(self) -> None:
        session = self._session
        self._counter += 1
        self._send(
            datagram.encode_bind(
                session.channel_key,
                session.number,
                session.role,
                Kind.ASK,
                self._counter,
                self._cookie,
            )
        )

    def _again_in(self, seconds: float) -> None:
        self.stop()
        self._timer = self._clock.callLater(seconds, self._round)
