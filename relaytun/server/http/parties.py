"""
Who speaks to whom on an HTTP port: what each needs of the other.

A L{Visitor} is somebody's connection; a L{Conversation} is what it is about just now, a request
with its answer, or what came of an upgrade; a L{House} is what all visitors share.
"""

from __future__ import annotations

from typing import Protocol

from ...interfaces import IReactor
from .backend import Backend
from .compose import Peer
from .heads import Heads
from .pool import Pool
from .routes import Route, Routes


class Conversation(Protocol):
    """
    @ivar wants_body: what the visitor sends is for it.
    @ivar answering: it is too late for a page of ours.
    """

    @property
    def wants_body(self) -> bool: ...

    @property
    def answering(self) -> bool: ...

    def visitor_sent(self, data: bytes) -> bytes:
        """@return: the bytes that are not for it any more."""

    def visitor_ended(self) -> None:
        """It sends nothing any more, although it reads on."""

    def cancel(self) -> None:
        """The visitor is gone, or has to go."""

    def pause(self) -> None:
        """The visitor does not read."""

    def resume(self) -> None:
        """It does again."""

    def timed_out(self) -> None:
        """Nothing has happened for too long."""


class Visitor(Protocol):
    """
    @ivar is_clogged: it does not read what is written.
    """

    is_clogged: bool

    @property
    def peer(self) -> Peer:
        """Who it is to services."""

    @property
    def may_keep(self) -> bool:
        """Whether its connection may go on after the answer."""

    def seconds(self) -> float:
        """The time."""

    def pool(self, route: Route) -> Pool:
        """Where idle connections to a service are, of all visitors or of this one."""

    def connect(self, route: Route) -> Backend:
        """@raise Unreachable, OSError: if it cannot."""

    def write(self, data: bytes) -> None:
        """Bytes for it."""

    def answering(self, status: int) -> None:
        """A service's answer begins."""

    def upgraded(self, upgraded: Conversation, data: bytes) -> None:
        """HTTP is over; C{data} is the first for the visitor."""

    def answered(self, keep: bool) -> None:
        """The answer is complete; if C{keep}, another one may follow."""

    def answer(self, status: int, text: str) -> None:
        """Answer the request with a page of the server's own."""

    def refuse(self, status: int, text: str) -> None:
        """Answer what is no good request, and read nothing more."""

    def hold_input(self) -> None:
        """The service does not read."""

    def release_input(self) -> None:
        """It does again."""

    def end_output(self) -> None:
        """Nothing more will be written."""

    def abort(self) -> None:
        """Have the visitor see that something broke, and the service, too."""


class House(Protocol):
    """
    See L{relaytun.server.http.factory.HttpFactory}, which it is.
    """

    reactor: IReactor
    routes: Routes
    response_timeout: float
    head_timeout: float
    idle_timeout: float
    stall_timeout: float
    draining: bool
    heads: Heads
    pool: Pool

    def seconds(self) -> float:
        """The time."""

    def own_page(self, path: str) -> bytes | None:
        """What the server itself answers at a path, if it does."""

    def observe(self, status: int) -> None:
        """An answer has this status."""

    def peer(self, host: str) -> Peer:
        """Who a visitor is to services."""

    def opened(self, visitor: TimedVisitor) -> None:
        """It has come."""

    def closed(self, visitor: TimedVisitor) -> None:
        """It has gone."""


class TimedVisitor(Protocol):
    """
    @ivar deadline: when L{timed_out} is to be called.
    """

    deadline: float

    def timed_out(self) -> None:
        """The time is up."""

    def drain(self) -> None:
        """End as soon as no request is being read or answered."""

    def abort(self) -> None:
        """End at once."""
