"""
A connection to a service: requests go out, answers come back, one at a time.

It reads answers for a L{User} and keeps the connection's state; what becomes of an answer, and
whether to try again, is the user's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.python.failure import Failure

from ...interfaces import IReactor
from ...plane.pair import End
from ...wire import http1, http1_body
from ...wire.errors import WireError
from .heads import Heads, ResponseHead
from .routes import Route
from .transport import SocketTransport


class User(Protocol):
    """Who awaits an answer."""

    def interim(self, head: ResponseHead, rest: bytes) -> bool:
        """
        An answer that is not the last.

        @param rest: bytes that came after it.
        @return: whether another answer follows; if not, all bytes are payload from here on.
        """

    def answer(self, head: ResponseHead, payload: bytes, over: bool) -> None:
        """
        The answer begins.

        @param payload: bytes of its body.
        @param over: there are no more.
        """

    def payload(self, data: bytes, over: bool) -> None:
        """More of it."""

    def failed(self, complaint: str) -> None:
        """It will not be complete; the connection is closed."""

    def clogged(self) -> None:
        """The service does not read what was sent so far."""

    def free(self) -> None:
        """It does again."""


class Backend:
    """
    @ivar used: it has answered before.
    @ivar heard: something came since the last request.
    @ivar idle_since: when the last answer was complete.
    @ivar trailers: after the body of the answer.
    """

    __slots__ = (
        "_bodiless", "_body", "_heads", "_keep", "_lost", "_unread", "heard", "idle_since",
        "route", "transport", "used", "user",
    )  # fmt: skip

    transport: SocketTransport

    def __init__(
        self,
        reactor: IReactor,
        end: End,
        route: Route,
        heads: Heads,
        lost: Callable[[Backend], None],
    ) -> None:
        """
        @param end: our half of a pair.
        @param route: what it belongs to.
        @param lost: told when it is over while there is no user.
        """
        self.route = route
        self._heads = heads
        self._lost = lost
        self._body: http1_body.Body | None = None
        self._unread = b""
        self._keep = False
        self._bodiless = False
        self.user: User | None = None
        self.used = False
        self.heard = False
        self.idle_since = 0.0
        SocketTransport(reactor, end, self).registerProducer(self, True)

    def makeConnection(self, transport: SocketTransport) -> None:
        self.transport = transport

    # For the user.

    @property
    def trailers(self) -> bytes:
        return self._body.trailers if self._body is not None else b""

    def begin(self, user: User, data: bytes, bodiless: bool) -> bool:
        """
        Send the head of a request, and await the answer.

        @param bodiless: the request is HEAD.
        @return: C{False} if the connection turns out to be over; then nothing has been sent.
        """
        self.user = user
        self.heard = False
        self._body = None
        self._keep = False
        self._bodiless = bodiless
        self.transport.write(data)
        return not self.transport.failed

    def release(self, now: float) -> bool:
        """
        The user has all of its answer.

        @return: whether another one may begin; otherwise this connection is over.
        """
        transport = self.transport
        self.user = None
        self.used = True
        self.idle_since = now
        if not transport.is_flushed:
            transport.abortConnection()  # It has answered what it has not read.
            return False
        if not self._keep or self._unread or transport.disconnected:
            transport.loseConnection()
            return False
        transport.resumeProducing()
        return True

    def abort(self) -> None:
        """Have the service see that something broke."""
        self.user = None
        self.transport.abortConnection()

    # For the transport.

    def dataReceived(self, data: bytes) -> None:
        if self.user is None:
            self._gone()  # Nobody asked.
            self.abort()
            return
        self.heard = True
        try:
            if self._body is None:
                self._read_head(data)
            else:
                self._read_body(data)
        except WireError as error:
            self._fail(f"The answer of the service is not valid HTTP: {error}.")

    def readConnectionLost(self) -> None:
        body = self._body
        if self.user is None:
            self._gone()
            self.transport.loseConnection()
        elif isinstance(body, http1_body.UntilClose):
            body.over = True
            self._keep = False
            self.user.payload(b"", True)
        else:
            self._fail("The service closed the connection before its answer was complete.")

    def writeConnectionLost(self) -> None:
        """What it has written before may still come; if not, its end does."""

    def connectionLost(self, reason: Failure) -> None:
        if self.user is None:
            self._gone()
        else:
            self._fail("The connection to the service broke before its answer was complete.")

    def pauseProducing(self) -> None:
        if self.user is not None:
            self.user.clogged()

    def resumeProducing(self) -> None:
        if self.user is not None:
            self.user.free()

    def _read_head(self, data: bytes) -> None:
        while self.user is not None:
            seen = max(0, len(self._unread) - 3)
            if self._unread:
                data = self._unread + data
                self._unread = b""
            end = data.find(http1.END, seen)
            if end < 0 or end > http1.MAX_HEAD:
                if len(data) > http1.MAX_HEAD:
                    raise WireError("a head that is too large")
                http1.check_partial(data, seen)
                self._unread = data
                return
            head = self._heads.response(data[: end + 4], self._bodiless)
            data = data[end + 4 :]
            if head.status < 200:
                if not self.user.interim(head, data):
                    self._body = http1_body.UntilClose()
                    return
                if not data:
                    return
                continue
            self._keep = head.keep
            if len(data) == head.length:  # As it mostly is.
                self.user.answer(head, data, True)
                return
            self._body = http1_body.body(head.length)
            payload, self._unread = self._body.feed(data)
            self.user.answer(head, payload, self._body.over)
            return

    def _read_body(self, data: bytes) -> None:
        assert self._body is not None and self.user is not None
        if self._body.over:
            self._unread += data
            return
        payload, self._unread = self._body.feed(data)
        if payload or self._body.over:
            self.user.payload(payload, self._body.over)

    def _fail(self, complaint: str) -> None:
        user, self.user = self.user, None
        self.transport.abortConnection()
        if user is not None:
            user.failed(complaint)

    def _gone(self) -> None:
        lost, self._lost = self._lost, _nobody
        lost(self)


def _nobody(backend: Backend) -> None:
    """It has been told."""
