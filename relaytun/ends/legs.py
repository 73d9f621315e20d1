"""
A client's legs: dial the relay, send the preamble, wait for the verdict.

What is written before the verdict goes out behind the preamble, so that a visitor's first bytes
need no round trip of their own; after it the socket is for splicing.
"""

from __future__ import annotations

import base64
import itertools
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, TypeVar

from msgspec import UnsetType
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..link.link import Link
from ..plane.meter import Meter
from ..wire import messages, preamble
from ..wire.preamble import Refusal, Role
from .machinery import Machinery

#: Seconds that the relay may take for its verdict: it gives the provider's leg 10.
VERDICT_TIMEOUT = 15.0
#: After these the same leg may succeed in a new session.
_SESSION_OVER = {Refusal.NOT_LIVE, Refusal.UNAUTHORIZED}

_Given = TypeVar("_Given", int, str)


#: Why there is no way without the relay, where there never is one.
WHY_RAW = "only clients that encrypt (mode = link) meet directly"
WHY_PUBLIC = "visitors of a public service come through the server"


class LegRefused(Exception):
    """
    The relay turned a leg away.

    @ivar refusal: why, as far as it is known.
    """

    def __init__(self, refusal: Refusal | None, why: str = "the relay hung up") -> None:
        super().__init__(refusal.name.lower() if refusal is not None else why)
        self.refusal = refusal

    @property
    def session_over(self) -> bool:
        """Whether the leg may be taken in a new session."""
        return self.refusal in _SESSION_OVER


class LegDialer(Protocol):
    """
    How the legs of a session get to the relay: there is one way for each server, and each session
    has its server's.
    """

    def dial(self, session: ClientSession) -> Deferred[socket.socket]:
        """
        A connection for one leg of C{session}: it wants a preamble.

        Tells the session by which path it goes.

        @raise OSError: (in the Deferred) if the relay cannot be reached; also Twisted's
            C{ConnectError} and C{DNSLookupError}.
        """

    def better_in(self, session: ClientSession) -> float | None:
        """
        @return: seconds until it is worth while to try another way than the one that the last leg
            of C{session} had to take; C{None} if that was the best.
        """


@dataclass(eq=False)
class ClientSession:
    """
    A session as one of its clients sees it.

    @ivar meter: of its streams; forward is from the visitor's program to the service.
    @ivar streams: those that run.
    @ivar live: whether new legs may be dialled.
    @ivar channels: the numbers of a visitor's next ones.
    @ivar mode: C{raw} or C{link}.
    @ivar protocol: of the service.
    @ivar datagram_session: its number on the relay's UDP port, if the service is udp.
    @ivar peer_fingerprint: whose identity the other side of a link must have.
    @ivar compressed: of a visitor's: whether the provider compresses the streams of its link.
    @ivar peer_process: what the provider calls its process, as a visitor is told.
    @ivar link: what its channels carry, if it is not raw.
    @ivar public: the visitor is the server itself, for somebody on the Internet.
    @ivar dialer: how its legs get to the relay; C{None}: straight to the relay port.
    @ivar tell: says something to the server that granted it.
    @ivar path: how the last of them got there, C{relay} (to the relay port) or C{ws}.
    """

    id: str
    peer: str
    service: str
    role: Role
    channel_key: bytes
    relay: messages.RelayAddress
    since: float
    meter: Meter = field(default_factory=Meter)
    streams: set[Any] = field(default_factory=set)
    live: bool = True
    channels: Iterator[int] = field(default_factory=itertools.count)
    mode: str = "raw"
    protocol: str = "tcp"
    datagram_session: int | None = None
    peer_fingerprint: str = ""
    peer_process: str | None = None
    compressed: bool = False
    link: Link | None = None
    dialer: LegDialer | None = None
    tell: Callable[[messages.Message], None] | None = None
    path: str = "relay"
    public: bool = False

    @classmethod
    def granted(cls, granted: messages.CreateSession) -> ClientSession:
        """
        The visitor's, as a server grants it.

        @raise ValueError: if there is no channel key in it.
        """
        return cls(
            id=granted.session_id,
            peer=granted.peer_client_id,
            service=granted.service.id,
            role=Role.VISITOR,
            channel_key=channel_key(granted.channel_key),
            relay=granted.relay_addr,
            since=time.time(),
            mode=granted.mode,
            protocol=granted.service.protocol,
            datagram_session=given(granted.datagram_session),
            peer_fingerprint=given(granted.peer_fingerprint) or "",
            peer_process=given(granted.peer_process),
            compressed=granted.service.compression == "zstd",
        )

    @property
    def about(self) -> dict[str, str]:
        """What every event says of it."""
        return {
            "session": self.id,
            "peer": self.peer,
            "service": self.service,
            "role": self.role.name.lower(),
            "mode": self.mode,
        }

    def preamble(self, channel: int, spare: bool = False) -> bytes:
        """The 64 bytes of a leg of this session."""
        return preamble.encode(
            self.channel_key,
            self.role,
            bytes.fromhex(self.id),
            channel,
            secrets.token_bytes(preamble.NONCE_SIZE),
            spare,
        )

    def report(self, rtt: float | None) -> dict[str, Any]:
        """Its line of C{relaytun status --json}; a flow of datagrams counts as a stream."""
        visiting = self.role is Role.VISITOR
        received, sent = self.meter.backward, self.meter.forward
        streams = len(self.streams)
        more: dict[str, Any] = {}
        path = self.path
        why: str | None = WHY_RAW
        if not visiting:
            received, sent = sent, received
        if self.link is not None:
            received, sent = self.link.bytes_in, self.link.bytes_out
            streams, rtt = self.link.users, self.link.rtt
            path = self.link.path or path
            if self.link.path:
                why = None
            elif self.public:
                why = WHY_PUBLIC
            else:
                why = self.link.why_not_direct()
            if self.link.datagrams is not None:
                more = {"datagrams": self.link.datagrams.report()}
        return {
            "id": self.id,
            "peer": self.peer,
            "service": self.service,
            "role": "visitor" if visiting else "provider",
            "mode": self.mode,
            "path": path,
            "rtt": rtt,
            "streams": streams,
            "bytesIn": received,
            "bytesOut": sent,
            "since": self.since,
            "whyNotDirect": why,
            **more,
        }


def given(value: _Given | UnsetType) -> _Given | None:
    """A value of a message that may have been left out."""
    return None if isinstance(value, UnsetType) else value


def channel_key(text: str) -> bytes:
    """
    @param text: base64, as in C{create_session} and C{connect_request}.
    @raise ValueError: if it is not.
    """
    key = base64.b64decode(text, validate=True)
    if len(key) != preamble.KEY_SIZE:
        raise ValueError(f"a channel key has {preamble.KEY_SIZE} bytes")
    return key


async def dial_leg(machinery: Machinery, session: ClientSession) -> Leg:
    """
    A visitor's next leg of C{session}, with a deadline for its verdict.

    @raise OSError: if the relay cannot be reached; also Twisted's C{ConnectError} and
        C{DNSLookupError}.
    """
    sock = await dial_relay(machinery, session)
    leg = Leg(machinery.reactor, sock, session.preamble(next(session.channels)))
    leg.verdict.addTimeout(VERDICT_TIMEOUT, machinery.reactor, _no_verdict)
    return leg


def dial_relay(machinery: Machinery, session: ClientSession) -> Deferred[socket.socket]:
    """A connection for one leg of C{session}; fails as L{dial_leg} does."""
    if session.dialer is not None:
        return session.dialer.dial(session)
    return machinery.dialer.dial(session.relay.host, session.relay.port)


def _no_verdict(result: object, timeout: float) -> NoReturn:
    raise LegRefused(None, f"the relay did not answer in {timeout:.0f} s")


@implementer(IReadWriteDescriptor)
class Leg:
    """
    A connection to the relay port that waits for its partner.

    @ivar verdict: fires with the socket when both legs are there (it is the caller's then), or
        fails with L{LegRefused}; the socket is closed then.
    """

    __slots__ = ("_outgoing", "_paired", "_reactor", "_sock", "_writing", "verdict")

    def __init__(self, reactor: IReactor, sock: socket.socket, opening: bytes) -> None:
        self.verdict: Deferred[socket.socket] = Deferred(lambda _: self._close())
        self._reactor = reactor
        self._sock = sock
        self._outgoing = b""
        self._paired = False
        self._writing = False
        self.write(opening)
        reactor.addReader(self)

    def write(self, data: bytes) -> None:
        """Send what belongs to the channel, before the verdict."""
        self._outgoing += data
        self.doWrite()

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "leg"

    def doRead(self) -> None:
        if self._paired:
            return  # What comes now is the channel's.
        try:
            answer = self._sock.recv(1)
            if answer == preamble.PAIRED:
                self._paired = True
                self._reactor.removeReader(self)
                self._hand_over()
                return
            code = self._sock.recv(1) if answer == preamble.REFUSED else b""
        except BlockingIOError:
            return
        except OSError:
            code = b""
        try:
            self._fail(Refusal(code[0]) if code else None)
        except ValueError:
            self._fail(None)

    def doWrite(self) -> None:
        try:
            sent = self._sock.send(self._outgoing) if self._outgoing else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # Reading tells why.
        self._outgoing = self._outgoing[sent:]
        if self._outgoing:
            self._writing = True
            self._reactor.addWriter(self)
        elif self._writing:
            self._writing = False
            self._reactor.removeWriter(self)
            if self._paired:
                self._hand_over()

    def connectionLost(self, reason: Failure) -> None:
        if not self.verdict.called:
            self._fail(None)

    def _hand_over(self) -> None:
        if not self._outgoing and not self.verdict.called:
            self.verdict.callback(self._sock)

    def _fail(self, refusal: Refusal | None) -> None:
        self._close()
        self.verdict.errback(LegRefused(refusal))

    def _close(self) -> None:
        self._reactor.removeReader(self)
        if self._writing:
            self._reactor.removeWriter(self)
        self._sock.close()
