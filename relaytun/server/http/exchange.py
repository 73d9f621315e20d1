"""
One request and its answer, from a visitor's connection to one to a service and back.

A whole message is never in memory: who writes faster than the other side reads is paused.
"""

from __future__ import annotations

from ...wire import http1_body
from ...wire.errors import WireError
from ...wire.http1 import CHUNKED
from . import compose
from .backend import Backend
from .heads import RequestHead, ResponseHead
from .parties import Visitor
from .routes import Route, Unreachable
from .upgrade import Upgraded


class Exchange:
    """
    @ivar wants_body: the request's body is not complete.
    @ivar answering: the head of the answer has gone out; it is too late for a page of ours.
    """

    __slots__ = (
        "_backend", "_body", "_body_begun", "_chunked", "_clogged", "_frontend", "_head",
        "_keep", "_route", "answering", "wants_body",
    )  # fmt: skip

    _backend: Backend

    def __init__(self, frontend: Visitor, head: RequestHead, route: Route) -> None:
        self._frontend = frontend
        self._head = head
        self._route = route
        self._body: http1_body.Body | None = None
        if head.length:
            self._body = http1_body.body(head.length)
        self.wants_body = self._body is not None
        self._body_begun = False
        self._chunked = False
        self._clogged = False  # The service does not read.
        self._keep = False
        self.answering = False

    def start(self, may_be_used: bool = True) -> None:
        """
        Send the request.

        @param may_be_used: on a connection that is there already.
        """
        frontend, head = self._frontend, self._head
        data = compose.request(head, self._route, frontend.peer)
        bodiless = head.method == b"HEAD"
        if may_be_used:
            surely = self.wants_body or not head.idempotent
            pool = frontend.pool(self._route)
            while (used := pool.take(self._route, surely)) is not None:
                if self._begin(used, data, bodiless):
                    return
                used.abort()
        try:
            fresh = frontend.connect(self._route)
        except Unreachable as error:
            frontend.answer(503, str(error))
        except OSError:
            frontend.answer(503, "The server has no connections left; try again later.")
        else:
            if not self._begin(fresh, data, bodiless):
                self.failed("The service closed the connection at once.")

    def _begin(self, backend: Backend, data: bytes, bodiless: bool) -> bool:
        self._backend = backend
        if self._frontend.is_clogged:
            backend.transport.pauseProducing()
        return backend.begin(self, data, bodiless)

    # For the visitor's side.

    def visitor_sent(self, data: bytes) -> bytes:
        """
        Bytes of the body.

        @return: those after its end.
        """
        assert self._body is not None
        try:
            payload, rest = self._body.feed(data)
        except WireError as error:
            self.cancel()
            self._frontend.refuse(400, f"The request has {error}.")
            return b""
        chunked = self._head.length == CHUNKED
        if chunked and payload:
            payload = http1_body.chunk(payload)
        if self._body.over:
            self.wants_body = False
            if chunked:
                payload += http1_body.last_chunk(self._body.trailers)
        self._body_begun = True
        self._backend.transport.write(payload)
        return rest

    def visitor_ended(self) -> None:
        """It sends nothing any more, although it reads on."""
        if self.wants_body:
            self._frontend.abort()

    def cancel(self) -> None:
        """The visitor is gone, or has to go."""
        self._backend.abort()

    def pause(self) -> None:
        """The visitor does not read."""
        self._backend.transport.pauseProducing()

    def resume(self) -> None:
        self._backend.transport.resumeProducing()

    def timed_out(self) -> None:
        """Nothing has happened for too long."""
        self.cancel()
        if self.answering:
            self._frontend.abort()
        elif self.wants_body and not self._clogged:
            self._frontend.refuse(408, "The body of the request did not come in time.")
        else:
            self._frontend.answer(504, "The service did not answer in time.")

    # For the service's side.

    def interim(self, head: ResponseHead, rest: bytes) -> bool:
        frontend = self._frontend
        if head.status != 101:
            if self._head.modern:
                frontend.write(compose.interim(head, self._route))
            return True
        if not self._head.upgrade:
            raise WireError("an upgrade that nobody asked for")
        self.answering = True
        upgraded = Upgraded(frontend, self._backend)
        frontend.upgraded(upgraded, compose.interim(head, self._route) + rest)
        return False

    def answer(self, head: ResponseHead, payload: bytes, over: bool) -> None:
        frontend, request = self._frontend, self._head
        keep = request.keep and not self.wants_body and frontend.may_keep
        data, self._chunked, self._keep = compose.answer(
            head, self._route, request.modern, keep, request.method == b"HEAD"
        )
        self.answering = True
        frontend.answering(head.status)
        self._pass_on(data, payload, over)

    def payload(self, data: bytes, over: bool) -> None:
        self._pass_on(b"", data, over)

    def failed(self, complaint: str) -> None:
        if self.answering:
            # The visitor must not take a part for the whole.
            self._frontend.abort()
        elif self._backend.used and not self._backend.heard and self._may_repeat:
            self.start(may_be_used=False)
        else:
            self._frontend.answer(502, complaint)

    def clogged(self) -> None:
        self._clogged = True
        self._frontend.hold_input()

    def free(self) -> None:
        self._clogged = False
        self._frontend.release_input()

    @property
    def _may_repeat(self) -> bool:
        return self._head.idempotent and not self._body_begun

    def _pass_on(self, head: bytes, payload: bytes, over: bool) -> None:
        backend = self._backend
        if self._chunked:
            if payload:
                payload = http1_body.chunk(payload)
            if over:
                payload += http1_body.last_chunk(backend.trailers)
        data = head + payload
        if data:
            self._frontend.write(data)
        if over:
            if self.wants_body:
                backend.abort()
            elif backend.release(self._frontend.seconds()):
                self._frontend.pool(self._route).put(backend)
            self._frontend.answered(self._keep)
