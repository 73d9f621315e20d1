"""
Hole punching: two clients behind NATs find a UDP path between them.

Both call C{start} at the same moment, and send pings to each other's candidates.  The first packet
to each has few hops to live: it opens our own NAT, without getting to the peer's.  A ping is
answered to wherever it came from (which may be no candidate), with a ping of one's own.

An address is I{valid} once a pong came from where its ping went.  The initiator chooses a valid
one, has a full-size packet echoed there, and says C{USE}; the other side agrees once it is valid
there, too.  So a path is proven by pongs both ways and full-size packets both ways, and both sides
end up on the same one.

Nothing answers a packet that is not authentic, and new, and the peer's.  Ports that no candidate
names are guessed by L{guessing}.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from ..interfaces import IReactor
from ..wire.punch import TRANSACTION_SIZE, Kind, Punch, Speech
from .allowance import Allowance
from .candidates import FIRST_HOPS, TIMEOUT, NoPath, schedule, usable
from .guessing import Guessing, Hard
from .path import IDLE, UdpPath
from .udpsocket import UdpSocket

#: Addresses of the peer in all, guessed and discovered ones too.
MOST_ADDRESSES = 48
#: Answers a second.
_ANSWERS = 200
#: Seconds between two pings to an address that has just pinged us.
_CLOSEST = 0.02
#: Seconds between two echoes, and for the choice to be answered by at least.
_INSISTING = 0.1
_PATIENCE = 0.4

_QUESTIONS = {Kind.PING, Kind.ECHO, Kind.USE}


class Attempt:
    """
    An address that is tried from one socket of ours.

    @ivar round_trip: seconds; none until the address is valid.
    @ivar chosen_at: when it was last chosen; none if never.
    @ivar proven: whether a full-size packet came back.
    """

    def __init__(self, socket: UdpSocket, address: tuple[str, int], found: str) -> None:
        self.socket = socket
        self.address = address
        self.found = found
        self.round_trip: float | None = None
        self.chosen_at: float | None = None
        self.proven = False
        self.pinged: float | None = None
        self.timer: IDelayedCall | None = None


class UdpPunch:
    """
    One attempt.  It owns the socket: it closes it, or the path that it finds does.

    @ivar heard: whether any packet of the peer's arrived.
    """

    def __init__(
        self,
        reactor: IReactor,
        sock: socket.socket,
        key: bytes,
        session: bytes,
        initiator: bool,
        candidates: Iterable[tuple[str, int]],
        *,
        hard: Hard | None = None,
        timeout: float = TIMEOUT,
        first_hops: int = FIRST_HOPS,
        idle: float = IDLE,
        loopback: bool = False,
        make_socket: Callable[[], socket.socket] | None = None,
    ) -> None:
        """
        @param sock: a bound UDP socket: the one whose mapping the peer was told.
        @param key: 32 bytes that both clients have, and nobody else.
        @param session: 16 bytes, other ones for each attempt: L{relaytun.wire.punch.session_of}.
        @param initiator: exactly one of the two is.
        @param candidates: the peer's addresses, literal ones, private and public.
        @param hard: what is to be guessed, if exactly one side is behind a hard NAT.
        @param timeout: seconds until it is given up; C{hard} may ask for more.
        @param first_hops: for the first packet to each address.
        @param idle: of the path, see L{UdpPath}.
        @param loopback: whether addresses of this machine's loopback may be tried.
        @param make_socket: makes another bound UDP socket, in the place of C{sock}'s family's own.
        """
        self.heard = False
        self._reactor = reactor
        self._speech = Speech(key, session, initiator)
        self._initiator = initiator
        self._ipv6 = sock.family == socket.AF_INET6
        self._loopback = loopback
        self._candidates = usable(candidates, self._ipv6, loopback)
        self._timeout = timeout
        self._first_hops = first_hops
        self._idle = idle
        self._make_socket = make_socket or (lambda: _like(sock))
        self._main = UdpSocket(reactor, sock, self._arrived)
        self._sockets = [self._main]
        self._attempts: dict[tuple[UdpSocket, tuple[str, int]], Attempt] = {}
        self._asked: dict[bytes, tuple[Attempt, Kind, float]] = {}
        self._answers = Allowance(reactor, _ANSWERS)
        self._choice: Attempt | None = None
        self._sent = False
        self._timers: list[IDelayedCall] = []
        self._hard = hard
        self._guessing: Guessing | None = None
        self._done: Deferred[UdpPath] = Deferred(lambda _: self._stop())
        self._started = False
        self._over = False

    def start(self) -> Deferred[UdpPath]:
        """
        To be called at "go".

        @return: fires with the path; fails with L{NoPath}.  Cancelling it ends the attempt.
        """
        self._started = True
        timeout = self._timeout
        if self._hard is not None:
            self._guessing = Guessing(self._reactor, self._hard, self)
            timeout += self._guessing.extra
        self._timers.append(self._reactor.callLater(timeout, self._fail))
        for address in self._candidates:
            self.try_address(self._main, address, "candidate")
        if self._guessing is not None:
            self._guessing.start()
        return self._done

    def stop(self) -> None:
        """Give up, without a word, and close everything.  A second time does no harm."""
        self._stop()
        if self._started:
            self._done.cancel()

    # --- For guessing ---------------------------------------------------------------------------

    @property
    def main(self) -> UdpSocket:
        """The socket whose mapping the peer was told."""
        return self._main

    def usable(self, address: tuple[str, int]) -> bool:
        """Whether a packet may be sent there."""
        return bool(usable([address], self._ipv6, self._loopback))

    def open_socket(self) -> UdpSocket | None:
        """One more socket, or none if there is no descriptor left."""
        try:
            sock = self._make_socket()
        except OSError:
            return None
        opened = UdpSocket(self._reactor, sock, self._arrived)
        self._sockets.append(opened)
        return opened

    def try_address(self, socket: UdpSocket, address: tuple[str, int], found: str) -> None:
        """Ping an address again and again, unless there are too many already."""
        if (socket, address) not in self._attempts and len(self._attempts) < MOST_ADDRESSES:
            attempt = Attempt(socket, address, found)
            self._attempts[socket, address] = attempt
            self._keep_trying(attempt)

    def knock(self, socket: UdpSocket, address: tuple[str, int], low: bool = False) -> None:
        """
        A single ping that is forgotten: its answer is a packet from a new address.

        @param low: with few hops, so that it only opens our own NAT.
        """
        ping = self._speech.question(Kind.PING, os.urandom(TRANSACTION_SIZE))
        socket.send(ping, address, self._first_hops if low else None)

    # --- Pinging --------------------------------------------------------------------------------

    def _keep_trying(self, attempt: Attempt) -> None:
        began = self._reactor.seconds()
        times = schedule()

        def next_one() -> None:
            # Where the peer's packet came from is no secret to its NAT.
            named = attempt.found in ("candidate", "predicted")
            self._ask(
                attempt, Kind.PING, self._first_hops if named and attempt.pinged is None else None
            )
            due = began + next(times) - self._reactor.seconds()
            attempt.timer = self._reactor.callLater(max(0, due), next_one)

        next(times)
        next_one()

    def _ask(self, attempt: Attempt, kind: Kind, hops: int | None = None) -> None:
        transaction = os.urandom(TRANSACTION_SIZE)
        now = self._reactor.seconds()
        if kind is Kind.PING:
            attempt.pinged = now
        self._asked[transaction] = attempt, kind, now
        question = self._speech.question(kind, transaction)
        self._sent |= attempt.socket.send(question, attempt.address, hops)

    # --- What arrives ---------------------------------------------------------------------------

    def _arrived(self, data: bytes, address: tuple[str, int], socket: UdpSocket) -> None:
        punch = self._speech.understand(data)
        if punch is None:
            return
        self.heard = True
        attempt = self._attempts.get((socket, address))
        if attempt is None:
            if self._guessing is not None and self._guessing.probing:
                found = "birthday"
            else:
                found = "reflexive" if socket is self._main else "predicted"
            self.try_address(socket, address, found)
            attempt = self._attempts.get((socket, address))
            if attempt is None:
                return
        if punch.kind in _QUESTIONS:
            self._asked_by_peer(punch, attempt)
        else:
            self._answered(punch, attempt)

    def _asked_by_peer(self, punch: Punch, attempt: Attempt) -> None:
        if punch.kind is Kind.USE and self._initiator:
            return
        agreed = punch.kind is not Kind.USE or attempt.round_trip is not None
        if agreed and self._answers.take():
            attempt.socket.send(self._speech.answer(punch), attempt.address)
        if punch.kind is Kind.USE and agreed:
            self._succeed(attempt)
            return
        pinged = attempt.pinged
        if attempt.round_trip is None and (
            pinged is None or self._reactor.seconds() - pinged >= _CLOSEST
        ):
            self._ask(attempt, Kind.PING)

    def _answered(self, punch: Punch, attempt: Attempt) -> None:
        asked, kind, at = self._asked.get(punch.transaction, (None, Kind.PING, 0.0))
        if asked is not attempt or punch.kind != kind + 1:
            return
        del self._asked[punch.transaction]
        if kind is Kind.PING:
            if attempt.round_trip is None:
                attempt.round_trip = self._reactor.seconds() - at
            if self._initiator and self._choice is None:
                self._choose(attempt)
                self._insist()
        elif kind is Kind.ECHO:
            if self._choice is not None and not self._choice.proven:
                attempt.proven = True
                self._choose(attempt)
                self._ask(attempt, Kind.USE)
        else:
            self._succeed(attempt)

    # --- Choosing -------------------------------------------------------------------------------

    def _choose(self, attempt: Attempt) -> None:
        self._choice = attempt
        attempt.chosen_at = self._reactor.seconds()

    def _insist(self) -> None:
        """Have the chosen address echoed, or another one, if its echo does not come."""
        choice = self._choice
        assert choice is not None and choice.chosen_at is not None
        patience = max(_PATIENCE, 3 * (choice.round_trip or 0))
        if not choice.proven and self._reactor.seconds() - choice.chosen_at >= patience:
            valid = [a for a in self._attempts.values() if a.round_trip is not None]
            choice = min(valid, key=lambda attempt: attempt.chosen_at or 0)
            self._choose(choice)
        self._ask(choice, Kind.USE if choice.proven else Kind.ECHO)
        self._timers[1:] = [self._reactor.callLater(_INSISTING, self._insist)]

    # --- The end --------------------------------------------------------------------------------

    def _succeed(self, attempt: Attempt) -> None:
        self._stop(attempt.socket)
        path = UdpPath(
            self._reactor,
            attempt.socket,
            self._speech,
            attempt.address,
            attempt.round_trip or 0.0,
            attempt.found,
            self._idle,
        )
        self._done.callback(path)

    def _fail(self) -> None:
        valid = [a for a in self._attempts.values() if a.round_trip is not None]
        if not self._sent:
            reason = "this host cannot send to any address of the peer"
        elif not self.heard:
            reason = "no packet of the peer arrived"
        elif not valid:
            reason = "packets of the peer arrived, but no answers to ours"
        elif self._initiator and not any(attempt.proven for attempt in valid):
            reason = "small packets pass, but none of 1200 bytes"
        else:
            reason = "the two sides did not agree on a path"
        self._stop()
        self._done.errback(NoPath(reason))

    def _stop(self, kept: UdpSocket | None = None) -> None:
        if self._over:
            return
        self._over = True
        if self._guessing is not None:
            self._guessing.stop()
        for timer in [*self._timers, *(attempt.timer for attempt in self._attempts.values())]:
            if timer is not None and timer.active():
                timer.cancel()
        for opened in self._sockets:
            if opened is not kept:
                opened.close()


def _like(sock: socket.socket) -> socket.socket:
    made = socket.socket(sock.family, socket.SOCK_DGRAM)
    try:
        made.bind((sock.getsockname()[0], 0))
    except OSError:
        made.close()
        raise
    return made
