"""
The reflector: tells whoever asks by STUN from which address and port he is seen.

A client behind NAT asks twice, at two ports: on the relay port, UDP and TCP, whose owners hand
over what is STUN, and on a second port of the reflector's own (at a second address, if the machine
has one).  What the answers have in common is what its router does with it.

Nothing is kept of who asks but how often.  An answer is never larger than its question, and what
is no well-formed Binding request gets none, so that nobody is reached through here who did not ask.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..errors import UserError
from ..interfaces import IReactor
from ..plane.accept import close_in_order
from ..plane.datagrams import Address, DatagramSocket, ReceiveBuffer
from ..plane.oneway import ReadOnly
from ..wire import stun
from ..wire.datagram import split
from ..wire.errors import WireError
from .admission import Admission, Bucket, Place, address_key
from .port import ListeningPort, udp_beside

#: Answers a second to one address (a carrier has many clients behind one), and in all.
PER_ADDRESS = 50.0
IN_ALL = 2000.0
#: Addresses that are counted at the same time; whoever has not asked for longest is forgotten.
MOST_ADDRESSES = 4096

#: A connection that asks nothing for so long is closed, seconds.  It holds the mapping in the
#: router while its client connects from the same port to somebody else.
SILENCE = 60.0
#: Connections from one address, and in all; beyond that the oldest has to go.
CONNECTIONS_PER_ADDRESS = 32
CONNECTIONS_IN_ALL = 256


class Answering:
    """
    What is answered, whatever it came by.

    @ivar answered, unanswered: how many requests were, and how many packets were not.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.answered = 0
        self.unanswered = 0
        self._clock = clock
        self._in_all = Bucket(IN_ALL, clock.seconds())
        self._by_address: dict[str, Bucket] = {}

    def answer(self, packet: bytes | memoryview, address: Address) -> bytes | None:
        """
        @param packet: one that may be STUN.
        @param address: who sent it: a literal host and a port in front.
        @return: what is to be sent back.
        """
        answer = self._answer(packet, address)
        if answer is None or len(answer) > len(packet) or not self._may_ask(address[0]):
            self.unanswered += 1
            return None
        self.answered += 1
        return answer

    def _answer(self, packet: bytes | memoryview, address: Address) -> bytes | None:
        try:
            asked = stun.decode(packet)
        except WireError:
            return None
        if not isinstance(asked, stun.Request):
            return None
        if asked.unknown:
            code = stun.UNKNOWN_ATTRIBUTE
            return stun.encode_refusal(asked.transaction, code, asked.unknown)
        return stun.encode_answer(asked.transaction, address[0], address[1])

    def _may_ask(self, host: str) -> bool:
        now = self._clock.seconds()
        key = address_key(host)
        bucket = self._by_address.pop(key, None)
        if bucket is None:
            bucket = Bucket(PER_ADDRESS, now)
            if len(self._by_address) >= MOST_ADDRESSES:
                del self._by_address[next(iter(self._by_address))]
        self._by_address[key] = bucket
        return bucket.allow(now) and self._in_all.allow(now)


class StreamReflector:
    """Answers on connections that are handed to it."""

    def __init__(self, reactor: IReactor, answering: Answering) -> None:
        self.reactor = reactor
        self.answering = answering
        self.admission = Admission(CONNECTIONS_PER_ADDRESS, CONNECTIONS_IN_ALL)
        self.connections: set[Connection] = set()

    def accepted(self, sock: socket.socket, address: Any, begun: bytes = b"") -> None:
        """
        Take over a connection.

        @param sock: non-blocking.
        @param begun: what has been read of it.
        """
        connection = Connection(self, sock, address)
        self.connections.add(connection)
        connection.begin(begun)

    def stop(self) -> None:
        """Close all of them."""
        for connection in list(self.connections):
            connection.close()


@implementer(IReadDescriptor)
class Connection(ReadOnly):
    """One of them: a request, its answer, and so on until there is a silence."""

    def __init__(self, owner: StreamReflector, sock: socket.socket, address: Any) -> None:
        self._owner = owner
        self._sock = sock
        self._address = address
        self._buffer = b""
        self._place: Place | None = None
        self._deadline: IDelayedCall | None = None

    def begin(self, begun: bytes) -> None:
        """@param begun: its first bytes, if they have been read."""
        self._place = self._owner.admission.enter(str(self._address[0]), self.close)
        self._deadline = self._owner.reactor.callLater(SILENCE, self.close)
        self._owner.reactor.addReader(self)
        self._take(begun)

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "reflector"

    def doRead(self) -> None:
        try:
            data = self._sock.recv(stun.LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(data)
        else:
            self.close()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw it die."""
        self.close()

    def close(self) -> None:
        """Let it go; nothing happens if it is gone."""
        if self._place is None or self._deadline is None:
            return
        self._place.leave()
        self._place = None
        if self._deadline.active():
            self._deadline.cancel()
        self._owner.reactor.removeReader(self)
        self._owner.connections.discard(self)
        close_in_order(self._sock)

    def _take(self, data: bytes) -> None:
        self._buffer += data
        try:
            while (size := stun.message_size(self._buffer)) is not None:
                packet = self._buffer[:size]
                if len(packet) < size:
                    return
                self._buffer = self._buffer[size:]
                self._answer(packet)
        except (WireError, OSError):
            self.close()

    def _answer(self, packet: bytes) -> None:
        """
        @raise WireError: if it gets none: on a connection nobody waits for an answer in vain.
        @raise OSError: if it does not read its answers, or is gone.
        """
        answer = self._owner.answering.answer(packet, self._address)
        if answer is None:
            raise WireError("no answer")
        if self._sock.send(answer) < len(answer):
            raise OSError("no room for a whole answer")
        if self._deadline is not None:
            self._deadline.reset(SILENCE)


class Reflector(Service):
    """
    The port of its own, UDP and TCP on one number.

    @ivar streams: takes connections over; also those that begin on another port.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        answering: Answering,
        host: str,
        port: int | None,
        relay: ListeningPort,
    ) -> None:
        """
        @param answering: for what comes over UDP.
        @param host: the address to listen on.
        @param port: 0 for any; C{None} for the one after C{relay}'s if that is free, and any if
            it is not.
        """
        # Counted by itself: whoever lies about his address over UDP takes nothing from these.
        self.streams = StreamReflector(reactor, Answering(reactor))
        self._reactor = reactor
        self._answering = answering
        self._host = host
        self._port = port
        self._relay = relay
        self._tcp: ListeningPort | None = None
        self._udp: DatagramSocket | None = None

    @property
    def number(self) -> int:
        """The port number, 0 while it does not listen."""
        return self._tcp.number if self._tcp is not None else 0

    @property
    def address(self) -> dict[str, Any]:
        """Where it listens."""
        return {"host": self._host, "port": self.number}

    def privilegedStartService(self) -> None:
        """@raise UserError: if the port cannot be had."""
        numbers = self._numbers()
        for number in numbers[:-1]:
            with contextlib.suppress(UserError):
                self._listen(number)
                return
            self._log.info(
                "port {number} is busy, the reflector takes another one: where a firewall has to "
                "let it in, set reflector_port",
                number=number,
            )
        self._listen(numbers[-1])

    def _numbers(self) -> Sequence[int]:
        """@return: what to try, one after the other."""
        if self._port is not None:
            return [self._port]
        after = self._relay.number + 1
        return [after, 0] if 1 < after <= 65535 else [0]

    def _listen(self, number: int) -> None:
        """@raise UserError: if that cannot be."""
        tcp = ListeningPort(self._reactor, str(number), self._host, self.streams.accepted)
        tcp.privilegedStartService()
        try:
            sock = udp_beside(tcp, "reflector port")
        except UserError:
            tcp.stopService()
            raise
        assert sock is not None  # What has a port number has one for UDP.
        self._tcp = tcp
        self._udp = DatagramSocket(self._reactor, sock, ReceiveBuffer(), self._received)

    def stopService(self) -> Deferred[Any] | None:
        super().stopService()
        self.streams.stop()
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        tcp, self._tcp = self._tcp, None
        return None if tcp is None else tcp.stopService()

    def _received(self, run: memoryview, size: int, address: Address) -> None:
        for packet in split(run, size):
            answer = self._answering.answer(packet, address)
            if answer is not None and self._udp is not None:
                self._udp.send_run(answer, len(answer), address)
