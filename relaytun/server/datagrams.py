"""
The relay of datagrams, on the UDP port of the relay port's number.

A client proves where it is by a bind packet with its key's tag, in two steps: the first is
answered with a cookie that only somebody at that address can read, the second brings it back.
From then on its datagrams go to the other side's address, a whole batch after one look at each
header; what is in them is sealed.

Strangers cost nothing but the look: nothing is kept of them, and nothing is sent to an address
that has not proven itself but a cookie, for a packet of the same size with a right tag and a
fresh counter.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

from twisted.application.service import Service

from ..interfaces import IReactor
from ..plane.datagrams import Address, DatagramSocket, ReceiveBuffer
from ..wire import datagram, stun
from ..wire.datagram import COOKIE_SIZE, HEADER, Kind
from ..wire.errors import WireError
from ..wire.preamble import Role
from .granted import Session
from .port import ListeningPort, udp_beside

#: Seconds in which a cookie is made; it is good in these and in the next ones.
COOKIE_SLOT = 30.0
#: Answers to one side of a session at once, and for each second.
ANSWERS_AT_ONCE = 8
ANSWERS_PER_SECOND = 1.0


class NumberedSessions(Protocol):
    """Where the relay finds a session."""

    def by_datagram(self, number: int) -> Session | None:
        """@param number: what stands in front of its datagrams."""


class _End:
    """
    One side of a session.

    @ivar address: where it has proven to be.
    @ivar counter: of its last bind packet.
    """

    __slots__ = ("_answers", "_since", "address", "counter")

    def __init__(self, now: float) -> None:
        self.address: Address | None = None
        self.counter = -1
        self._answers = float(ANSWERS_AT_ONCE)
        self._since = now

    def may_be_answered(self, now: float) -> bool:
        """Whether one more answer is within the rate; counts it."""
        more = (now - self._since) * ANSWERS_PER_SECOND
        self._answers = min(ANSWERS_AT_ONCE, self._answers + more)
        self._since = now
        if self._answers < 1:
            return False
        self._answers -= 1
        return True


class _Ends:
    """Both sides of a session."""

    __slots__ = ("provider", "visitor")

    def __init__(self, now: float) -> None:
        self.visitor = _End(now)
        self.provider = _End(now)


class DatagramRelay(Service):
    """
    @ivar dropped: datagrams that were not passed on: of unknown sessions, from addresses that
        are not bound, for a side that is not there, over a rate or a limit, or malformed.
    @ivar reflect: gets each packet that is no datagram of a session but may be STUN, and who sent
        it; gives the answer, if there is one.
    """

    def __init__(self, reactor: IReactor, sessions: NumberedSessions, tcp: ListeningPort) -> None:
        """@param tcp: the port whose number this one is to have; it has to listen first."""
        self.dropped = 0
        self._reactor = reactor
        self._sessions = sessions
        self._tcp = tcp
        self.reflect: Callable[[memoryview, Address], bytes | None] | None = None
        self._secret = secrets.token_bytes(32)
        self._ends: WeakKeyDictionary[Session, _Ends] = WeakKeyDictionary()
        self._socket: DatagramSocket | None = None

    @property
    def address(self) -> Address | None:
        """Where it listens, if it does."""
        return self._socket.address if self._socket is not None else None

    def privilegedStartService(self) -> None:
        """@raise UserError: if the port cannot be had."""
        sock = udp_beside(self._tcp, "relay port")
        if sock is None:
            return  # A UNIX socket has no number.
        self._socket = DatagramSocket(self._reactor, sock, ReceiveBuffer(), self.received)

    def stopService(self) -> None:
        super().stopService()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def received(self, run: memoryview, size: int, address: Address) -> None:
        """Datagrams came in, see L{DatagramSocket}."""
        if datagram.may_hold_bind(run, size) or not self._forward(run, size, address):
            for packet in datagram.split(run, size):
                if datagram.may_hold_bind(packet, len(packet)):
                    self._bind(packet, address)
                elif self.reflect is not None and stun.may_be_message(packet):
                    answer = self.reflect(packet, address)
                    if answer is not None:
                        self._send(memoryview(answer), len(answer), address)
                elif not self._forward(packet, len(packet), address):
                    self.dropped += 1

    def _forward(self, run: memoryview, size: int, address: Address) -> bool:
        """
        @return: whether that was all; otherwise the packets of the run are not of one session.
        """
        try:
            number = datagram.session_of_run(run, size)
        except WireError:
            return False
        count = -(-len(run) // size)
        session = self._sessions.by_datagram(number)
        ends = self._ends.get(session) if session is not None else None
        if session is None or ends is None:
            self.dropped += count
            return True
        from_visitor = address == ends.visitor.address
        to = ends.provider.address if from_visitor else ends.visitor.address
        if to is None or not (from_visitor or address == ends.provider.address):
            self.dropped += count
            return True
        meter = session.meter
        moved = len(run) - count * HEADER.size
        if meter.total + moved > meter.limit:
            meter.exhausted()
        rates = meter.forward_rates if from_visitor else meter.backward_rates
        if meter.total + moved > meter.limit or any(rate.level < moved for rate in rates):
            self.dropped += count
            return True
        for rate in rates:
            rate.take(moved)
        if from_visitor:
            meter.forward += moved
        else:
            meter.backward += moved
        self._send(run, size, to)
        return True

    def _bind(self, packet: memoryview, address: Address) -> None:
        try:
            asked = datagram.decode_bind(packet)
        except WireError:
            return
        session = self._sessions.by_datagram(asked.session)
        if session is None or asked.kind is not Kind.ASK:
            return
        key = session.channel_keys[asked.role]
        if not asked.is_authentic(key):
            return
        now = self._reactor.seconds()
        ends = self._ends.get(session)
        if ends is None:
            ends = self._ends[session] = _Ends(now)
        end = ends.visitor if asked.role is Role.VISITOR else ends.provider
        if asked.counter <= end.counter:
            return
        if end.address is None and not session.welcomes(asked.role):
            return
        end.counter = asked.counter
        slot = int(now / COOKIE_SLOT)
        cookies = [self._cookie(asked, address, slot - age) for age in range(2)]
        kind = Kind.COOKIE
        if any(hmac.compare_digest(asked.cookie, cookie) for cookie in cookies):
            kind = Kind.BOUND
            end.address = address
        if end.may_be_answered(now):
            answer = datagram.encode_bind(
                key, asked.session, asked.role, kind, asked.counter, cookies[0]
            )
            self._send(memoryview(answer), len(answer), address)

    def _cookie(self, asked: datagram.Bind, address: Address, slot: int) -> bytes:
        """Nothing is kept of an address that asks for it."""
        about = repr((address, asked.session, int(asked.role), slot)).encode()
        return hmac.digest(self._secret, about, "sha256")[:COOKIE_SIZE]

    def _send(self, run: memoryview, size: int, address: Address) -> None:
        if self._socket is not None:
            self._socket.send_run(run, size, address)
