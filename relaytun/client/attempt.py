"""
How two clients meet on the network: by TCP and by UDP at once, the better way first.

TCP is tried from the very port that the reflectors have seen, UDP from the very socket, and both
over IPv6 where both clients have it.  What UDP finds carries QUIC, and the datagrams of a udp
service.  Which of the connections leads to the other client only the link's TLS tells.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from ..ends.directdatagrams import PunchedPath
from ..ends.directpath import Found
from ..errors import UserError
from ..interfaces import IReactor
from ..nat import quic
from ..nat.candidates import TIMEOUT, NoPath, first_hops
from ..nat.classify import NatKind
from ..nat.families import FirstPunch
from ..nat.guessing import Hard, weaker
from ..nat.interfaces import is_local, local_address_towards
from ..nat.path import UdpPath
from ..nat.punching import UdpPunch
from ..nat.sharing import Share, SharedPath
from ..nat.tcpopen import TcpOpen
from ..plane.accept import close_in_order, prepare, reset
from ..plane.pair import is_broken, pair
from ..wire.messages import MeetingAnswer, MeetingOffer
from ..wire.punch import session_of
from .gathering import MOST, Offer, only_ipv6
from .roaming import Way

#: Seconds that a UDP path waits for a TCP connection, which is the better one.
TCP_FIRST = 0.3


class NoDirectPath(UserError):
    """The text says why there is none."""


class Attempt:
    """
    One attempt of one side.

    @ivar lan_only: only the other client's own addresses within this network are tried.
    @ivar datagrams: gets a punched path, if it wants one: then it is punched for until the end,
        whatever carries the channel.
    """

    lan_only = False
    datagrams: Callable[[PunchedPath], None] | None = None

    def __init__(
        self,
        reactor: IReactor,
        ours: Offer,
        theirs: MeetingOffer | MeetingAnswer,
        key: bytes,
        visitor: bool,
        found: Found,
        use: Callable[[Way], None],
    ) -> None:
        self._reactor = reactor
        self._ours = ours
        self._theirs = theirs
        self._key = key
        self._visitor = visitor
        self._found = found
        self._use = use
        self._done: Deferred[None] = Deferred(lambda _: self._stop())
        self._openings: list[TcpOpen] = []
        self._punch: FirstPunch | None = None
        self._path: UdpPath | Share | None = None
        self._with_quic = theirs.quic and quic.AVAILABLE
        self._punching = self._handed = False
        self._timers: list[IDelayedCall] = []
        self._tcp_time_up = False
        self._proving: list[Way] = []
        self._left = 1
        self._whys: list[str] = []
        self._over = False
        self._won = False

    def start(self) -> Deferred[None]:
        """Begin."""
        # First, while the next ports of a hard NAT are those that were predicted.
        self._start_udp(self._of("udp"))
        self._start_tcp(self._of("tcp"))
        self._way_over(None)
        return self._done

    def _of(self, protocol: str) -> list[tuple[str, int]]:
        """Where the other client may be reached."""
        return [
            (each.address, each.port)
            for each in self._theirs.candidates
            if each.protocol == protocol
            and each.kind != "predicted"
            and (not self.lan_only or (each.kind == "host" and is_local(each.address)))
        ][:MOST]

    def _hard(self) -> Hard | None:
        """What is to be guessed, if exactly one side is behind a hard NAT."""
        hard = NatKind.HARD.value
        mine, other = self._ours.nat == hard, self._theirs.nat == hard
        reflexive = [
            (each.address, each.port)
            for each in self._theirs.candidates
            if each.protocol == "udp" and each.kind == "reflexive"
        ]
        policy = weaker(self._ours.hard_nat, self._theirs.hard_nat)
        if mine == other or not reflexive or policy == "no":
            return None
        predicted = tuple(
            (each.address, each.port)
            for each in (self._ours if mine else self._theirs).candidates
            if each.kind == "predicted"
        )
        return Hard(mine, reflexive[-1], predicted, policy)

    # --- TCP ------------------------------------------------------------------------------------

    def _start_tcp(self, candidates: list[tuple[str, int]]) -> None:
        if candidates and self._ours.tcp_port:
            self._open("0.0.0.0", self._ours.tcp_port, candidates)
        if self._ours.tcp6_port and any(":" in host for host, _ in candidates):
            self._open("::", self._ours.tcp6_port, candidates, only_ipv6)
        self._later(TIMEOUT + TCP_FIRST, self._tcp_is_over)

    def _open(
        self,
        host: str,
        port: int,
        candidates: list[tuple[str, int]],
        make_socket: Callable[[int], socket.socket] | None = None,
    ) -> None:
        self._left += 1
        opening = TcpOpen(
            self._reactor, (host, port), candidates, self._connected, make_socket=make_socket
        )
        self._openings.append(opening)
        opening.start().addBoth(self._way_over)

    def _connected(self, sock: socket.socket) -> None:
        """A TCP connection to somebody."""
        try:
            local, remote = sock.getsockname()[0], sock.getpeername()[0]
        except OSError:
            sock.close()  # It was reset meanwhile.
            return
        prepare(sock)

        def end() -> None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        name = "lan" if is_local(remote, local) else "tcp-direct"
        self._prove(name, Way(sock, "tcp", local, end))

    def _tcp_is_over(self) -> None:
        """Nothing will connect any more; what did, and is being proven, has time for that."""
        self._tcp_time_up = True
        if not self._proving:
            for opening in self._openings:
                opening.stop()

    # --- UDP ------------------------------------------------------------------------------------

    def _start_udp(self, candidates: list[tuple[str, int]]) -> None:
        punches = []
        for sock in self._ours.take_udp():
            ipv6 = sock.family == socket.AF_INET6
            places = [place for place in candidates if (":" in place[0]) == ipv6]
            if places and (self._with_quic or self.datagrams is not None):
                punches.append(self._punch_over_one(sock, places, ipv6))
            else:
                sock.close()
        if punches:
            self._left += 1
            self._punching = True
            self._punch = FirstPunch(punches)
            self._punch.start().addCallbacks(self._punched, self._not_punched)

    def _punch_over_one(
        self, sock: socket.socket, places: list[tuple[str, int]], ipv6: bool
    ) -> UdpPunch:
        attempt = self._theirs.attempt
        # Other ones for the two, so that a packet of one is nothing for the other.
        words = [bytes.fromhex(self._theirs.session_id), attempt.to_bytes(8, "big")]
        return UdpPunch(
            self._reactor,
            sock,
            self._key,
            session_of(*words, *([b"6"] if ipv6 else [])),
            self._visitor,
            places,
            hard=None if ipv6 else self._hard(),
            first_hops=first_hops(attempt),
        )

    def _punched(self, path: UdpPath) -> None:
        self._punching = False
        if self.datagrams is None:
            self._path = path
        else:
            mapping = self._ours.take_mapping("udp")
            shared = SharedPath(path, (lambda: None) if mapping is None else mapping.release)
            self._path = shared.quic
            self._handed = True
            self.datagrams(shared.sealed)
        if self._with_quic and not self._won:
            self._later(TCP_FIRST, self._carry, self._path)
        else:
            self._path.close()
            self._path = None
            self._punch_over(None)

    def _not_punched(self, failure: Failure) -> None:
        self._punching = False
        self._punch_over(failure)

    def _punch_over(self, result: object) -> None:
        self._way_over(result)
        if self._won and not self._done.called:
            self._done.callback(None)

    def _carry(self, path: UdpPath | Share) -> None:
        """A UDP path is there, and no TCP connection."""
        self._path = None
        try:
            near, far = pair()
        except OSError as error:
            path.close()
            self._whys.append(str(error))
            self._way_over(None)
            return
        pipe = quic.QuicPipe(
            self._reactor,
            path.send,
            far,
            client=self._visitor,
            key=self._key,
            close_in_order=close_in_order,
            reset=reset,
            is_broken=is_broken,
        )
        path.received = pipe.received
        path.lost = pipe.close
        pipe.connected.addErrback(lambda failure: self._whys.append(failure.getErrorMessage()))
        pipe.closed.addBoth(lambda _: path.close())
        pipe.start()
        local = local_address_towards(path.address[0]) or "0.0.0.0"
        self._prove("quic", Way(near, "udp", local, pipe.close))
        self._way_over(None)

    # --- The end --------------------------------------------------------------------------------

    def _later(self, seconds: float, what: Callable[..., None], *arguments: object) -> None:
        self._timers.append(self._reactor.callLater(seconds, what, *arguments))

    def _prove(self, name: str, way: Way) -> None:
        self._proving.append(way)
        self._found(way.sock, name).addBoth(self._proved, way)

    def _proved(self, result: Any, way: Way) -> None:
        self._proving.remove(way)
        if self._over:
            return
        if result is True:
            way.mapping = self._ours.take_mapping(way.protocol)
            self._use(way)
            self._won = True
            goes_on = self._punching and self.datagrams is not None
            self._stop(way.sock, goes_on)
            if not (goes_on or self._done.called):
                self._done.callback(None)
            return
        if self._tcp_time_up:
            self._tcp_is_over()
        self._end_if_over()

    def _way_over(self, result: Any) -> None:
        self._left -= 1
        error = getattr(result, "value", None)
        if isinstance(error, NoPath) and str(error) not in self._whys:
            self._whys.append(str(error))
        self._end_if_over()

    def _end_if_over(self) -> None:
        if not (self._left or self._proving or self._over):
            self._stop()
            if self._handed and not (self._openings or self._with_quic):
                self._done.callback(None)  # Nothing else was wanted.
            else:
                self._done.errback(NoDirectPath(self._why()))

    def _why(self) -> str:
        """In words for people."""
        if self.lan_only:
            where = "with direct = lan: the other client is not in this network"
            return f"{where} ({', and '.join(self._whys) or 'it names no address in one'})"
        mine, other = self._ours.nat, self._theirs.nat
        hard, blocked = NatKind.HARD.value, NatKind.BLOCKED.value
        if mine == other == hard:
            known = "both are behind hard NATs: "
        elif hard in (mine, other):
            known = f"{'this' if mine == hard else 'the other'} client is behind a hard NAT: "
        elif mine == blocked and self._ours.asked:
            known = "UDP seems to be blocked here: "
        elif other == blocked and self._ours.asked:
            known = "UDP seems to be blocked at the other client: "
        else:
            known = ""
        if not (self._with_quic or self._punch):
            where = "at the other client" if quic.AVAILABLE else "here"
            self._whys.append(f"UDP was not tried, because aioquic is missing {where}")
        return known + (", and ".join(self._whys) or "there is no address to try")

    def _stop(self, winner: socket.socket | None = None, but_punching: bool = False) -> None:
        self._over = True
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        for opening in self._openings:
            opening.stop(winner)
        for way in list(self._proving):
            way.end()
        if self._punch is not None and not but_punching:
            self._punch.stop()
        if self._path is not None:
            self._path.close()
            self._path = None
