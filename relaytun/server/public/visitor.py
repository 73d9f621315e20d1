"""
One provider's service, visited by the server for whoever comes.

A connection becomes a stream as the service's mode says: one of a link's, or a leg of its own.
The session is asked for when it is needed and replaced when it is over; while the provider is
away, connections wait a moment for it to come back, and the streams of a link as long as those of
any other.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    TimeoutError as DeferredTimeout,
    fail,
    succeed,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from ...ends.legs import ClientSession, given
from ...ends.machinery import Machinery
from ...ends.refusals import RequestError
from ...ends.udp_visitor import VisitorDatagrams
from ...ends.visitorlink import VisitorLink
from ...plane.accept import reset
from ...wire.messages import Code, Service
from ...wire.preamble import Refusal
from ..peer import Peer
from .visiting import Visiting

#: Seconds that a connection waits for a provider that is away.
OUTAGE = 10.0
#: After these the same connection may be carried by a new session.
_SESSION_OVER = {Refusal.NOT_LIVE, Refusal.UNAUTHORIZED}


class PublicVisitor:
    """
    @ivar client_id, service_id: of the service.
    @ivar link: what carries the streams, if they are not raw.
    """

    _log = Logger()

    def __init__(self, visiting: Visiting, client_id: str, service_id: str) -> None:
        self.client_id = client_id
        self.service_id = service_id
        self.link: VisitorLink | None = None
        self._visiting = visiting
        self._current: ClientSession | None = None
        self._asking: Deferred[None] | None = None
        self._waiting: list[Deferred[ClientSession]] = []
        self._datagrams: VisitorDatagrams | None = None
        self._closed = False
        self._complained: str | None = None

    @property
    def machinery(self) -> Machinery:
        """What its streams share with all others of the public."""
        return self._visiting.machinery

    @property
    def provider(self) -> Peer | None:
        """The client, while it is online."""
        return self._visiting.broker.registry.find(self.client_id)

    @property
    def service(self) -> Service | None:
        """What it offers, while it is online."""
        provider = self.provider
        return provider.services.get(self.service_id) if provider is not None else None

    @property
    def streams(self) -> int:
        """How many there are now."""
        if self.link is not None:
            return self.link.link.users
        known = self._visiting.of(self._current) if self._current is not None else None
        return len(known.channels) if known is not None else 0

    def serve(self, sock: socket.socket, address: Any = None) -> None:
        """Carry the connection to the service; C{sock} is taken over."""
        if self._closed:
            reset(sock)
        elif self.link is not None and (self.link.link.connected or self.provider is not None):
            self.link.open(sock)
        else:
            carrying = Deferred.fromCoroutine(self._carry(sock, renewed=False))
            carrying.addErrback(self._failed, sock)

    def serve_datagrams(self, datagrams: VisitorDatagrams) -> None:
        """Carry the datagrams of a public port."""
        self._datagrams = datagrams
        if self.link is not None and self.link.link.connected:
            datagrams.use_path(self.link.path)

    def leave_datagrams(self) -> None:
        """Carry them no more."""
        if self._datagrams is not None:
            self._datagrams.use_path(None)
            self._datagrams = None

    def want_link(self) -> None:
        """There are datagrams, and nothing to carry them."""
        if self.link is None and not self._closed and not self._waiting:
            linking: Deferred[Any] = self.session().addCallback(self._link_over)
            linking.addErrback(self._complain_of)

    def back(self) -> None:
        """The provider is online, with this service."""
        provider = self.provider
        if self.link is not None and provider is not None:
            self.link.provider_is(given(provider.process))
        if self._waiting:
            self._ask()

    def close(self) -> None:
        """End it, with its streams."""
        if self._closed:
            return
        self._closed = True
        self.leave_datagrams()
        if self.link is not None:
            self.link.close()
        for waiter in list(self._waiting):
            waiter.cancel()
        if self._current is not None:
            self._visiting.close(self._current)
            self._current = None

    # For the link.

    def session(self) -> Deferred[ClientSession]:
        """The session for the next channel."""
        if self._closed:
            why = f"{self.client_id}/{self.service_id} is public no more"
            return fail(RequestError(Code.FORBIDDEN, why))
        if self._current is not None:
            return succeed(self._current)
        waiting: Deferred[ClientSession] = Deferred(self._gave_up)
        self._waiting.append(waiting)
        reactor = self._visiting.machinery.reactor
        waiting.addTimeout(OUTAGE, reactor, self._still_away)
        self._ask()
        return waiting

    def over(self, session: ClientSession) -> None:
        """It takes no more channels."""
        session.live = False
        if session is self._current:
            self._current = None

    def proven(self, session: ClientSession) -> None:
        """TLS has shown that the provider is who it registered as."""

    def carries(self, link: VisitorLink) -> None:
        """It has a channel."""
        if self._datagrams is not None and link is self.link:
            self._datagrams.use_path(link.path)

    async def _carry(self, sock: socket.socket, renewed: bool) -> None:
        session = await self.session()
        if session.mode == "link":
            self._link_over(session).open(sock)
            return

        def refused(sock: socket.socket, why: Refusal) -> None:
            if why not in _SESSION_OVER or renewed:
                reset(sock)
                return
            self.over(session)
            carrying = Deferred.fromCoroutine(self._carry(sock, renewed=True))
            carrying.addErrback(self._failed, sock)

        if not self._visiting.adopt(session, sock, refused):
            refused(sock, Refusal.NOT_LIVE)

    def _link_over(self, session: ClientSession) -> VisitorLink:
        if self.link is None:
            self.link = VisitorLink(self._visiting.machinery, self, session, self._link_ended)
        return self.link

    def _link_ended(self, ended: VisitorLink, why: str) -> None:
        if self.link is ended:
            self.link = None
            if self._datagrams is not None:
                self._datagrams.use_path(None)
            if not self._closed:
                self._complain(why)

    def _ask(self) -> None:
        if self._asking is None and self.service is not None:
            asking = self._visiting.ask(self.client_id, self.service_id)
            self._asking = asking.addCallbacks(self._granted, self._refused)
            if asking.called:
                self._asking = None

    def _granted(self, session: ClientSession) -> None:
        self._asking = None
        if self._closed:
            self._visiting.close(session)
            return
        self._current = session
        self._complained = None
        self._visiting.when_over(session, lambda: self.over(session))
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(session)

    def _refused(self, failure: Failure) -> None:
        self._asking = None
        error = failure.value
        if isinstance(error, RequestError) and error.code == Code.CLIENT_OFFLINE:
            return  # It may come back in time.
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(failure)

    def _gave_up(self, waiting: Deferred[ClientSession]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _still_away(self, result: Any, timeout: float) -> Any:
        if isinstance(result, Failure) and result.check(CancelledError, DeferredTimeout):
            why = f"{self.client_id} is not online"
            if self.service is not None:
                why = f"{self.client_id} does not answer"
            raise RequestError(Code.CLIENT_OFFLINE, why)
        return result

    def _failed(self, failure: Failure, sock: socket.socket) -> None:
        reset(sock)
        self._complain_of(failure)

    def _complain_of(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._complain(str(failure.value) or type(failure.value).__name__)

    def _complain(self, why: str) -> None:
        if why != self._complained:
            self._complained = why
            self._log.warn(
                "no public stream to {client}/{service}: {why}",
                client=self.client_id,
                service=self.service_id,
                why=why,
            )
