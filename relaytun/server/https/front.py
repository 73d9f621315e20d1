"""
The HTTPS port: looks at the first message of each connection and hands it to whom it is for.

Nothing is consumed by looking, so that whoever gets the socket finds it untouched: the service
that holds its certificate itself, the control port that shares this port, or TLS as it is ended
here, for the host names that this server has a certificate for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocolFactory, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ...interfaces import IReactor
from ...plane.accept import close_in_order
from ...plane.oneway import ReadOnly
from ...wire import clienthello
from ...wire.clienthello import ClientHello
from ...wire.errors import WireError
from ..admission import Admission, Place
from .ending import Ending
from .proof import ACME_TLS

#: Seconds for the whole ClientHello.
HELLO_TIMEOUT = 10.0
#: Seconds between two looks at a ClientHello that has begun: the first pause, and the longest.
#: What has come stays in the kernel's queue, so the reactor would call again at once, for ever.
SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.25

#: Fatal alerts (RFC 8446, section 6).
DECODE_ERROR = b"\x15\x03\x01\0\x02\x02\x32"
UNRECOGNIZED_NAME = b"\x15\x03\x01\0\x02\x02\x70"
#: To whoever speaks no TLS at all: most likely a browser, with http:// before the name.
NO_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
    b"This port takes HTTPS only: use https://, not http://\n"
)

Serve = Callable[[socket.socket, Any], None]


class Known(Protocol):
    """What the front wants of L{relaytun.server.https.certificates.Certificates}."""

    challenges: dict[str, SSL.Context]

    def find(self, name: str) -> SSL.Context | None:
        """What ends TLS for a host name."""


class HttpsFront:
    """Give its L{accepted} to a listening port."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        *,
        passthrough: Callable[[str], Serve | None],
        certificates: Known,
        http: IProtocolFactory,
        other: Serve | None,
        admission: Admission,
        admitted: Callable[[Serve], Serve] = lambda serve: serve,
        is_public: Callable[[str], bool] = lambda name: True,
    ) -> None:
        """
        @param passthrough: for a host name in lower case: who takes over the connection as it
            is, C{None} if nobody does.
        @param http: speaks to those whose TLS is ended here, from before the handshake on, so it
            also limits its time; its protocols get the attribute C{address}, which is the one
            that was given to L{accepted}.
        @param admitted: puts in front of those who serve host names what connections pass first;
            what is for C{other} does not.
        @param is_public: whether a name, in lower case, can be a host name of somebody's at all.
        @param other: takes over what is for no host name of ours; without it, that is refused.
        """
        self.reactor = reactor
        self.admission = admission
        self._passthrough = passthrough
        self._admitted = admitted
        self._is_public = is_public
        self._certificates = certificates
        self._ending = Ending(reactor, http)
        self._other = other
        self._arrivals: set[_Arrival] = set()

    def accepted(self, sock: socket.socket, address: Any) -> None:
        """A connection to the port."""
        arrival = _Arrival(self, sock, address)
        self._arrivals.add(arrival)
        arrival.doRead()

    def stop(self) -> None:
        """Close those that have not said yet what they want."""
        for arrival in list(self._arrivals):
            arrival.close()

    def said(self, sock: socket.socket, address: Any, hello: ClientHello) -> None:
        """This is what it wants."""
        name = hello.server_name
        if name is not None:
            challenge = self._certificates.challenges.get(name)
            if challenge is not None and ACME_TLS in hello.alpn:
                self._ending.prove(sock, challenge)
                return
        if name is not None and self._is_public(name):
            serve = self._passthrough(name)
            if serve is not None:
                self._admitted(serve)(sock, address)
                return
            context = self._certificates.find(name)
            if context is not None:
                end = partial(self._ending.end, context=context)
                self._admitted(end)(sock, address)
                return
        self.strange(sock, address, UNRECOGNIZED_NAME)

    def strange(self, sock: socket.socket, address: Any, answer: bytes) -> None:
        """
        It is for no host name of ours.

        @param answer: why, for those whom nobody else takes.
        """
        if self._other is not None:
            self._other(sock, address)
        else:
            _refuse(sock, answer)

    def forget(self, arrival: _Arrival) -> None:
        """It has been handed on, or is closed."""
        self._arrivals.discard(arrival)

    def failed(self, sock: socket.socket) -> None:
        """One connection that goes wrong must not cost the others."""
        self._log.failure("a connection was dropped")
        sock.close()


def _refuse(sock: socket.socket, answer: bytes) -> None:
    """Say why, and close."""
    try:
        # What is left unread when a socket is closed makes for a reset, which overtakes the answer.
        sock.recv(clienthello.MAX_SIZE)
        sock.send(answer)
    except OSError:
        sock.close()
    else:
        close_in_order(sock)


@implementer(IReadDescriptor)
class _Arrival(ReadOnly):
    """A connection that has not said yet what it wants."""

    __slots__ = (
        "_address",
        "_deadline",
        "_front",
        "_look",
        "_pause",
        "_place",
        "_reading",
        "_sock",
    )

    def __init__(self, front: HttpsFront, sock: socket.socket, address: Any) -> None:
        self._front = front
        self._sock = sock
        self._address = address
        self._place: Place | None = None
        self._deadline: Any = None
        self._look: Any = None
        self._pause = SHORTEST_PAUSE
        self._reading = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "https"

    def doRead(self) -> None:
        """Look at what has come."""
        try:
            data = self._sock.recv(clienthello.MAX_SIZE, socket.MSG_PEEK)
        except BlockingIOError:
            self._wait_for_more(begun=False)
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        front = self._front
        try:
            hello = clienthello.peek(data)
        except WireError:
            answer = DECODE_ERROR if data[0] == clienthello.HANDSHAKE else NO_TLS
            self._hand_on(front.strange, answer)
        else:
            if hello is None:
                self._wait_for_more(begun=True)
            else:
                self._hand_on(front.said, hello)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw it die."""
        self.close()

    def close(self) -> None:
        """Let it go."""
        self._leave()
        self._sock.close()

    def _hand_on(self, take: Callable[[socket.socket, Any, Any], None], word: Any) -> None:
        self._leave()
        try:
            take(self._sock, self._address, word)
        except Exception:
            self._front.failed(self._sock)

    def _wait_for_more(self, begun: bool) -> None:
        reactor = self._front.reactor
        if self._place is None:
            address = self._address[0] if isinstance(self._address, tuple) else ""
            self._place = self._front.admission.enter(address, self.close)
            self._deadline = reactor.callLater(HELLO_TIMEOUT, self.close)
        if begun:
            self._stop_reading()
            self._look = reactor.callLater(self._pause, self._look_again)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        elif not self._reading:
            self._reading = True
            reactor.addReader(self)

    def _look_again(self) -> None:
        self._look = None
        self.doRead()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._front.reactor.removeReader(self)

    def _leave(self) -> None:
        self._front.forget(self)
        self._stop_reading()
        if self._place is not None:
            self._place.leave()
            self._place = None
        for call in (self._deadline, self._look):
            if call is not None and call.active():
                call.cancel()
        self._deadline = self._look = None
