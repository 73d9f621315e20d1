"""
The sessions that the server has granted: found by id, limited in number, ended when they are idle.

What one of them is made of is in L{relaytun.server.granted}.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..events import Events
from ..wire import messages
from ..wire.messages import Service
from .granted import Accounting, NoAccounting, Session
from .peer import Peer


class Sessions:
    """
    All of them, found by id, those of udp services also by the number of their datagrams.

    @ivar accounts: counts the bytes.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        relay_address: Callable[[Peer], messages.RelayAddress],
        max_sessions: int = 10000,
        max_bytes: int = 0,
        idle_timeout: float = 300.0,
        events: Events | None = None,
    ) -> None:
        """
        @param relay_address: where a given client is to dial the relay port.
        @param max_bytes: of each session, both ways together; 0 for no limit.
        @param idle_timeout: seconds without a byte after which a session ends; 0 for never.
        """
        self.clock = clock
        self.relay_address = relay_address
        self.events = events or Events()
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._idle_timeout = idle_timeout
        self._sessions: dict[bytes, Session] = {}
        self._by_datagram: dict[int, Session] = {}
        self.accounts: Accounting = NoAccounting()
        self._last_moved: dict[Session, tuple[int, float]] = {}
        self._sweep = LoopingCall(self._end_idle)
        self._sweep.clock = clock

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    @property
    def full(self) -> bool:
        """Whether C{max_sessions} is reached."""
        return len(self._sessions) >= self._max_sessions

    @property
    def max_sessions(self) -> int:
        """The limit, for the message about it."""
        return self._max_sessions

    @property
    def raw_channels(self) -> int:
        """Channels whose streams end with them."""
        return sum(len(session.channels) for session in self if session.mode == "raw")

    def limit(self, max_sessions: int, max_bytes: int, idle_timeout: float) -> None:
        """These hold from now on; C{max_bytes} for new sessions only."""
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        if idle_timeout != self._idle_timeout:
            self._idle_timeout = idle_timeout
            if self._sweep.running:
                self._sweep.stop()
            self.start()

    def withdrawn(self, provider: Peer, services: Collection[str]) -> None:
        """
        C{provider} does not offer C{services} any more as it did.

        New channels are not to be had; what becomes of those that run is up to the provider.
        """
        for session in list(self):
            if session.provider is provider and session.service.id in services:
                session.machine.client_left()

    def start(self) -> None:
        """Begin to look for idle sessions."""
        if self._idle_timeout and not self._sweep.running:
            self._sweep.start(self._idle_timeout / 4, now=False)

    def stop(self) -> None:
        """End every session."""
        if self._sweep.running:
            self._sweep.stop()
        for session in list(self):
            session.machine.stopping()

    def open(
        self,
        visitor: Peer,
        provider: Peer,
        service: Service,
        request: messages.ConnectRequest,
    ) -> Session:
        """Offer a new session to its provider."""
        number = self._unused_number() if service.protocol == "udp" else None
        session = Session(self, visitor, provider, service, request, self._max_bytes, number)
        self._sessions[session.key] = session
        if number is not None:
            self._by_datagram[number] = session
        session.offer()
        return session

    def find(self, key: bytes) -> Session | None:
        """@param key: the 16 bytes of its id."""
        return self._sessions.get(key)

    def by_datagram(self, number: int) -> Session | None:
        """@param number: what stands in front of its datagrams."""
        return self._by_datagram.get(number)

    def remove(self, session: Session) -> None:
        """It has ended."""
        self._sessions.pop(session.key, None)
        if session.datagram_session is not None:
            self._by_datagram.pop(session.datagram_session, None)
        self._last_moved.pop(session, None)
        self.accounts.ended(session)

    def client_left(self, peer: Peer) -> None:
        """C{peer}'s control connection is gone."""
        for session in [session for session in self if session.involves(peer)]:
            session.machine.client_left()

    def services_changed(self, provider: Peer) -> None:
        """What C{provider} says of its services holds for sessions that run, too."""
        for session in self:
            if session.provider is provider:
                session.keep_to_rates()

    def rights_changed(self) -> None:
        """Users may do other things than before."""
        for session in list(self):
            if session.is_forbidden():
                session.machine.forbidden()
            else:
                session.keep_to_rates()

    def forbid(self, peer: Peer) -> None:
        """End all that C{peer} has."""
        for session in [session for session in self if session.involves(peer)]:
            session.machine.forbidden()

    def _unused_number(self) -> int:
        """Random, so that a late datagram of an old session hardly ever hits a new one."""
        while True:
            number = secrets.randbits(32)
            if number not in self._by_datagram:
                return number

    def _end_idle(self) -> None:
        now = self.clock.seconds()
        for session in list(self):
            moved, since = self._last_moved.get(session, (-1, now))
            if session.meter.total != moved:
                self._last_moved[session] = session.meter.total, now
            elif now - since >= self._idle_timeout:
                try:
                    session.machine.idle()
                except Exception:  # One that cannot be ended must not keep the others alive.
                    self._log.failure("session {id} cannot be ended", id=session.id)
