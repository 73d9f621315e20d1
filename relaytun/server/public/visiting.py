"""
The server's own side of the sessions that it visits: it asks itself, and answers itself.

To the rest of the server it is a L{Peer} like any other, only that it has no control connection.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from ...ends.legs import ClientSession
from ...ends.machinery import Machinery
from ...ends.refusals import RequestError
from ...plane.pair import pair
from ...wire import messages
from ...wire.messages import Code, Message
from ..broker import Broker
from ..granted import Session
from ..peer import Peer
from ..relay import RefusedSocket, Relay

#: What the server is called in the sessions that it visits.
NAME = "public"


class Visiting:
    """
    @ivar machinery: what the links of public visits share.
    @ivar peer: the server, as one of the two clients of a session.
    """

    _log = Logger()

    def __init__(
        self,
        broker: Broker,
        relay: Relay,
        machinery: Machinery,
        fingerprint: str,
        relay_host: str,
    ) -> None:
        """
        @param fingerprint: of the identity that the machinery shows.
        @param relay_host: where this process reaches its own relay port, for datagrams.
        """
        self.machinery = machinery
        self.broker = broker
        self._relay = relay
        self._requests = itertools.count()
        self._asked: dict[str, Deferred[ClientSession]] = {}
        self._over: dict[str, Callable[[], None]] = {}
        self.peer = Peer(
            self._told,
            lambda: None,
            epoch=0,
            challenge=b"",
            address="",
            dialled_host=relay_host,
            expects_token=False,
            user=broker.users.main,
            public=True,
        )
        self.peer.client_id = NAME
        self.peer.fingerprint = fingerprint

    def ask(self, client_id: str, service_id: str) -> Deferred[ClientSession]:
        """
        @return: a session for the service, granted by its provider.
        @raise RequestError: (in the Deferred) if there is none to be had.
        """
        provider = self.broker.registry.find(client_id)
        if provider is None:
            return fail(RequestError(Code.CLIENT_OFFLINE, f"{client_id} is not online"))
        service = provider.services.get(service_id)
        if service is None:
            why = f"{client_id} offers no service {service_id}"
            return fail(RequestError(Code.UNKNOWN_SERVICE, why))
        refusal = self.broker.refusal(self.peer, provider, service_id)
        if refusal is not None:
            return fail(RequestError(*refusal))
        sessions = self.broker.sessions
        if sessions.full:
            why = f"the server has its max_sessions = {sessions.max_sessions}"
            return fail(RequestError(Code.SESSION_LIMIT, why))
        request_id = str(next(self._requests))
        answer: Deferred[ClientSession] = Deferred()
        self._asked[request_id] = answer
        request = messages.ConnectRequest(
            service_id=service_id, to_client_id=client_id, request_id=request_id, mode="link"
        )
        sessions.open(self.peer, provider, service, request)
        return answer

    def when_over(self, session: ClientSession, act: Callable[[], None]) -> None:
        """Call C{act} when the server ends C{session}."""
        if self.of(session) is None:
            act()
        else:
            self._over[session.id] = act

    def of(self, session: ClientSession) -> Session | None:
        """The server's side of it, while it lives."""
        return self.broker.sessions.find(bytes.fromhex(session.id))

    def close(self, session: ClientSession) -> None:
        """There is no further use for it."""
        self._over.pop(session.id, None)
        known = self.of(session)
        if known is not None:
            known.machine.closed()

    def adopt(self, session: ClientSession, sock: socket.socket, refused: RefusedSocket) -> bool:
        """
        C{sock} is the next raw stream of C{session}.

        @return: whether there is still such a session; if not, nothing has happened.
        """
        known = self.of(session)
        if known is None:
            return False
        self._relay.adopt(known, next(session.channels), sock, refused)
        return True

    def dial(self, session: ClientSession) -> Deferred[socket.socket]:
        """A leg of a link, which gets to the relay without a network."""
        near, far = pair()
        self._relay.accepted(far, "")
        return succeed(near)

    def better_in(self, session: ClientSession) -> float | None:
        """There is no better way."""
        return None

    def _told(self, message: Message) -> None:
        if isinstance(message, messages.CreateSession):
            answer = self._asked.pop(str(message.request_id), None)
            session = ClientSession.granted(message)
            session.dialer = self
            if answer is None:
                self.close(session)
            else:
                answer.callback(session)
        elif isinstance(message, messages.Error):
            answer = self._asked.pop(str(message.request_id), None)
            if answer is not None:
                answer.errback(RequestError(message.code, message.message))
        elif isinstance(message, messages.SessionClosed):
            over = self._over.pop(message.session_id, None)
            if over is not None:
                over()
