"""
What was an HTTP exchange and now speaks something else, such as WebSocket: bytes pass both ways.

Either side may end first; the other one goes on until it ends too.
"""

from __future__ import annotations

from .backend import Backend
from .heads import ResponseHead
from .parties import Visitor


class Upgraded:
    """It stands where an L{relaytun.server.http.exchange.Exchange} was, for both sides."""

    __slots__ = ("_backend", "_frontend", "_service_ended", "_visitor_ended")

    wants_body = True
    answering = True

    def __init__(self, frontend: Visitor, backend: Backend) -> None:
        self._frontend = frontend
        self._backend = backend
        self._visitor_ended = False
        self._service_ended = False
        backend.user = self

    def visitor_sent(self, data: bytes) -> bytes:
        self._backend.transport.write(data)
        return b""

    def visitor_ended(self) -> None:
        self._visitor_ended = True
        self._backend.transport.loseWriteConnection()
        self._close_if_over()

    def cancel(self) -> None:
        self._backend.abort()

    def pause(self) -> None:
        self._backend.transport.pauseProducing()

    def resume(self) -> None:
        self._backend.transport.resumeProducing()

    def timed_out(self) -> None:
        self._frontend.abort()

    def interim(self, head: ResponseHead, rest: bytes) -> bool:
        raise AssertionError("HTTP is over")

    def answer(self, head: ResponseHead, payload: bytes, over: bool) -> None:
        raise AssertionError("HTTP is over")

    def payload(self, data: bytes, over: bool) -> None:
        if data:
            self._frontend.write(data)
        if over:
            self._service_ended = True
            self._frontend.end_output()
            self._close_if_over()

    def failed(self, complaint: str) -> None:
        self._frontend.abort()

    def clogged(self) -> None:
        self._frontend.hold_input()

    def free(self) -> None:
        self._frontend.release_input()

    def _close_if_over(self) -> None:
        if self._visitor_ended and self._service_ended:
            self._backend.user = None
            self._backend.transport.loseConnection()
            self._frontend.answered(keep=False)
