"""
A visitor's connection: requests come in, one after the other, and each finds its way.

Whatever is wrong with a request is answered here; what is right becomes an L{Exchange}.  It works
on Twisted's transports (TLS) and on L{relaytun.server.http.transport.SocketTransport} alike.
"""

from __future__ import annotations

import math

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ...wire import http1
from ...wire.errors import WireError
from . import answers
from .backend import Backend
from .compose import Peer
from .exchange import Exchange
from .heads import RequestHead
from .parties import Conversation, House
from .pool import Pool
from .routes import Route, Unreachable

#: Bytes of further requests that are taken in while one is being answered.
_AHEAD = 64 * 1024
#: For how long to listen after the last answer, so that it is not lost by a reset; seconds.
_LINGER = 5.0


@implementer(IHalfCloseableProtocol, IPushProducer)
class Frontend(Protocol):
    """
    @ivar address: the visitor's, if it is not that of the transport.
    @ivar deadline: when L{timed_out} is to be called.
    @ivar is_clogged: the visitor does not read what is written.
    """

    def __init__(self, factory: House) -> None:
        self.address: tuple[str, int] | None = None
        self.deadline = math.inf
        self.is_clogged = False
        self._factory = factory
        self._exchange: Conversation | None = None
        self._head: RequestHead | None = None
        self._peer: Peer | None = None
        self._private: Pool | None = None
        self._unread = bytearray()
        self._scanned = 0  # Up to here there is no end of a head.
        self._head_begun = True  # There is a head to come in time.
        self._advancing = False
        self._closing = False
        self._visitor_ended = False
        self._held = False  # Not reading: the service is slower.
        self._reading = True

    def connectionMade(self) -> None:
        self.deadline = self.seconds() + self._factory.head_timeout
        self._factory.opened(self)
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]

    # For exchanges.

    @property
    def peer(self) -> Peer:
        if self._peer is None:
            self._peer = self._factory.peer(self._visitor()[0])
        return self._peer

    @property
    def may_keep(self) -> bool:
        return not self._factory.draining

    def seconds(self) -> float:
        return self._factory.seconds()

    def pool(self, route: Route) -> Pool:
        """Where idle connections to a service are, of all visitors or of this one."""
        if route.may_reuse:
            return self._factory.pool
        if self._private is None:
            self._private = Pool(1)
        return self._private

    def connect(self, route: Route) -> Backend:
        """@raise Unreachable, OSError: if it cannot."""
        end = route.open(self._visitor())
        return Backend(
            self._factory.reactor, end, route, self._factory.heads, self.pool(route).forget
        )

    def write(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]

    def answering(self, status: int) -> None:
        """
        The answer begins: from now on it takes its time.

        @param status: of a service's answer.
        """
        self._factory.observe(status)
        self.deadline = math.inf

    def upgraded(self, upgraded: Conversation, data: bytes) -> None:
        """HTTP is over; C{data} is the first for the visitor."""
        self._factory.observe(101)
        self._exchange = upgraded
        self.deadline = math.inf
        self.write(data)
        if self._unread:
            data = bytes(self._unread)
            self._unread.clear()
            upgraded.visitor_sent(data)
        if self._visitor_ended:
            upgraded.visitor_ended()
        self._read_or_not()

    def answered(self, keep: bool) -> None:
        """
        The answer is complete.

        @param keep: another one may follow.
        """
        exchange, self._exchange = self._exchange, None
        if not (keep and self.may_keep):
            self._close(linger=bool(self._unread) or (exchange is not None and exchange.wants_body))
            return
        self._held = False
        self._head_begun = False
        self.deadline = self.seconds() + self._factory.idle_timeout
        if not self._advancing:
            self._advance()

    def answer(self, status: int, text: str) -> None:
        """Answer the request that is being read with a page of the server's own."""
        head, exchange = self._head, self._exchange
        assert head is not None
        complete = not exchange.wants_body if exchange is not None else head.length == 0
        keep = head.keep and complete and self.may_keep
        self._factory.observe(status)
        self.write(answers.page(status, text, head, keep=keep))
        if keep:
            self.answered(keep=True)
        else:
            self._exchange = None
            self._close(linger=True)

    def refuse(self, status: int, text: str) -> None:
        """Answer what is no good request, and read nothing more."""
        self._factory.observe(status)
        self.write(answers.page(status, text, None, keep=False))
        self._exchange = None
        self._close(linger=True)

    def hold_input(self) -> None:
        """The service does not read."""
        self._held = True
        self._read_or_not()

    def release_input(self) -> None:
        self._held = False
        self._read_or_not()

    def end_output(self) -> None:
        """Nothing more will be written."""
        transport = self.transport
        transport.unregisterProducer()  # type: ignore[union-attr]
        if ISSLTransport.providedBy(transport):  # TLS has no half of an end.
            self.deadline = self.seconds() + self._factory.idle_timeout
            transport.loseConnection()
        else:
            self.deadline = math.inf
            transport.loseWriteConnection()  # type: ignore[union-attr]

    def abort(self) -> None:
        """Have the visitor see that something broke, and the service, too."""
        self._closing = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
        self.transport.abortConnection()  # type: ignore[union-attr]

    # For the factory.

    def timed_out(self) -> None:
        self.deadline = math.inf
        if self._closing:
            self.abort()
        elif self._exchange is not None:
            self._exchange.timed_out()
        elif self._head_begun and self._unread:
            self.refuse(408, "The request did not come in time.")
        else:
            self._close()

    def drain(self) -> None:
        """End as soon as no request is being read or answered."""
        if self._exchange is None and not self._unread and not self._closing:
            self._close()

    # For the transport.

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        exchange = self._exchange
        if exchange is not None and exchange.wants_body:
            if not exchange.answering:
                self.deadline = self.seconds() + self._factory.response_timeout
            data = exchange.visitor_sent(data)
            if not data or self._closing:
                return
        self._unread += data
        if self._exchange is None:
            self._advance()
        elif len(self._unread) > _AHEAD:
            self._read_or_not()

    def readConnectionLost(self) -> None:
        self._visitor_ended = True
        if self._closing:
            self.transport.loseConnection()  # type: ignore[union-attr]
        elif self._exchange is not None:
            self._exchange.visitor_ended()
        else:
            self._close()

    def writeConnectionLost(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closing = True
        self.deadline = math.inf
        self._factory.closed(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
        if self._private is not None:
            self._private.drop_all()

    def pauseProducing(self) -> None:
        self.is_clogged = True
        if self._exchange is not None:
            self.deadline = self.seconds() + self._factory.stall_timeout
            self._exchange.pause()

    def resumeProducing(self) -> None:
        self.is_clogged = False
        if self._exchange is not None:
            self.deadline = math.inf
            self._exchange.resume()

    def stopProducing(self) -> None:
        """The connection is over; C{connectionLost} says so."""

    # One request after the other.

    def _advance(self) -> None:
        self._advancing = True
        unread = self._unread
        while unread and self._exchange is None and not self._closing:
            end = unread.find(http1.END, self._scanned)
            if end < 0 or end > http1.MAX_HEAD:
                self._partial()
                break
            raw = bytes(unread[: end + 4])
            del unread[: end + 4]
            self._scanned = 0
            self._request(raw)
        self._advancing = False
        if self._exchange is None and self._visitor_ended and not self._closing:
            self._close()
        elif not self._reading:
            self._read_or_not()

    def _partial(self) -> None:
        """What there is of a head is not all of it."""
        if len(self._unread) > http1.MAX_HEAD:
            self.refuse(431, "The head of the request is too large.")
            return
        try:
            http1.check_partial(self._unread, self._scanned)
        except WireError as error:
            self.refuse(400, f"The request cannot be read: {error}.")
            return
        self._scanned = max(0, len(self._unread) - 3)
        if not self._head_begun:
            self._head_begun = True
            self.deadline = self.seconds() + self._factory.head_timeout

    def _request(self, raw: bytes) -> None:
        factory = self._factory
        try:
            head = self._head = factory.heads.request(raw)
        except WireError as error:
            self.refuse(400, f"The request cannot be read: {error}.")
            return
        if self._is_own_page(factory.own_page(head.path)):
            return
        route = factory.routes.find(head.host, head.path)
        if route is None:
            known = factory.routes.has_host(head.host)
            where = f"for this path of {head.host}" if known else f"with the name {head.host}"
            self.answer(404, f"There is no service {where}.")
            return
        if route.choose is not None:
            try:
                route = route.choose()
            except Unreachable as error:
                self.answer(503, str(error))
                return
        if not route.authorises(head.authorization):
            self.answer(401, "This service asks for a user name and a password.")
            return
        exchange = self._exchange = Exchange(self, head, route)
        self.deadline = self.seconds() + factory.response_timeout
        exchange.start()
        if self._unread and self._exchange is exchange and exchange.wants_body:
            data = bytes(self._unread)
            self._unread.clear()
            self._unread += exchange.visitor_sent(data)
        if self._visitor_ended and self._exchange is exchange:
            exchange.visitor_ended()

    def _is_own_page(self, body: bytes | None) -> bool:
        if body is None:
            return False
        head = self._head
        assert head is not None
        keep = head.keep and head.length == 0 and self.may_keep
        self._factory.observe(200)
        self.write(answers.whole(200, body, "application/octet-stream", head, keep=keep))
        if keep:
            self.answered(keep=True)
        else:
            self._close(linger=True)
        return True

    def _visitor(self) -> tuple[str, int]:
        if self.address is None:
            peer = self.transport.getPeer()  # type: ignore[union-attr]
            self.address = (getattr(peer, "host", ""), getattr(peer, "port", 0))
        return self.address

    def _read_or_not(self) -> None:
        wanted = self._closing or not (self._held or len(self._unread) > _AHEAD)
        if wanted != self._reading:
            self._reading = wanted
            transport = self.transport
            if wanted:
                transport.resumeProducing()  # type: ignore[union-attr]
            else:
                transport.pauseProducing()  # type: ignore[union-attr]

    def _close(self, linger: bool = False) -> None:
        """
        @param linger: the visitor may still be sending: a close at once would be a reset, and what
            was written last be lost.
        """
        if self._closing:
            return
        self._closing = True
        self._unread.clear()
        transport = self.transport
        transport.unregisterProducer()  # type: ignore[union-attr]
        self._read_or_not()
        if linger and not self._visitor_ended and not ISSLTransport.providedBy(transport):
            # Who reads slowly may need longer for what was written.
            patience = self._factory.idle_timeout if self.is_clogged else _LINGER
            self.deadline = self.seconds() + patience
            transport.loseWriteConnection()  # type: ignore[union-attr]
        else:
            self.deadline = self.seconds() + self._factory.idle_timeout
            transport.loseConnection()  # type: ignore[union-attr]
