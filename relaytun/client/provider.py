"""
The provider: says yes or no to those who want a service, and connects their legs to it.

For each session it keeps a few spare legs dialled, so that a new stream (of a raw session) or
channel (of a link) finds its partner there; a raw session whose streams come faster than that
gets more of them.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from msgspec import UNSET, structs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..config import ServiceConfig
from ..ends.legs import ClientSession, Leg, LegRefused, channel_key, dial_relay, given
from ..errors import UserError
from ..plane.accept import reset
from ..plane.splice import Splice
from ..wire import messages
from ..wire.messages import Message
from ..wire.moods import Mood
from ..wire.preamble import Role
from .connection import ServerConnection
from .machinery import ClientMachinery
from .providerlink import Links
from .servicedialer import ServiceDialer
from .signalling import Control

#: Spare legs of a raw session at its start, and at most; and of one of a link.
FEWEST_SPARES = 2
MOST_SPARES = 16
LINK_SPARES = 1
#: Seconds without a stream that found no spare leg, after which half as many are kept.
CALM = 30.0
#: Seconds between attempts to get a spare leg that the relay does not take.
SPARE_PAUSE = 2.0


class Provider:
    """
    @ivar sessions: those that were accepted and are not over, by id.
    """

    _log = Logger()

    def __init__(
        self,
        machinery: ClientMachinery,
        connection: ServerConnection,
        services: Sequence[ServiceConfig],
        links: Links,
    ) -> None:
        """@param links: what links of other clients end here, by whichever server."""
        self.machinery = machinery
        self.links = links
        self._connection = connection
        self._services = {service.id: service for service in services}
        self.sessions: dict[str, _ProviderSession] = {}
        connection.add_listener(self)

    def offer(self, services: Sequence[ServiceConfig]) -> None:
        """
        These are offered from now on, and end what is not among them as it was.

        Sessions of services that stay as they were go on, and so do those of visitors who are
        still allowed.
        """
        before = self._services
        self._services = {service.id: service for service in services}
        for held in list(self.sessions.values()):
            name, peer = held.session.service, held.session.peer
            if not goes_on(before.get(name), self._services.get(name), peer):
                self._connection.send(
                    messages.RejectSession(session_id=held.session.id, reason="not offered")
                )
                held.cut()

    def offer_nothing(self) -> None:
        """No new sessions and no new streams; those that there are go on."""
        self._services = {}
        for held in list(self.sessions.values()):
            held.retire()

    @property
    def raw_streams(self) -> int:
        """Streams of raw sessions."""
        return sum(
            len(held.session.streams)
            for held in self.sessions.values()
            if held.session.mode == "raw"
        )

    def control_up(self, control: Control) -> None:
        """Offers come by themselves."""

    def control_down(self) -> None:
        """No new streams for the sessions of this login; those that run go on."""
        for session in list(self.sessions.values()):
            session.retire()

    def received(self, message: Message) -> None:
        """The server said this."""
        if isinstance(message, messages.ConnectOffer):
            self._offered(message)
        elif isinstance(message, messages.OpenChannel):
            session = self.sessions.get(message.session_id)
            if session is None or not session.session.live:
                self._connection.send(
                    messages.RejectSession(session_id=message.session_id, reason="unknown session")
                )
            else:
                session.wanted(message.channel)
        elif isinstance(message, (messages.MeetingOffer, messages.Go)):
            session = self.sessions.get(message.session_id)
            if session is not None:
                self.links.meeting(session.session, message)
        elif isinstance(message, messages.SessionClosed):
            session = self.sessions.get(message.session_id)
            if session is not None:
                session.retire()

    def _offered(self, offer: messages.ConnectOffer) -> None:
        service = self._services.get(offer.service_id)
        if service is None:
            self._reject(offer, "no such service")
            return
        if offer.session_id in self.sessions:
            self._reject(offer, "there is such a session already")
            return
        try:
            fingerprint = self._judge(offer, service)
            key = channel_key(offer.channel_key)
        except (UserError, ValueError) as error:
            self._log.warn(
                "{client} may not visit {service}: {why}",
                client=offer.from_client_id,
                service=service.id,
                why=str(error),
            )
            self._reject(offer, f"{offer.from_client_id} may not visit {service.id}")
            return
        session = ClientSession(
            id=offer.session_id,
            peer=offer.from_client_id,
            service=service.id,
            role=Role.PROVIDER,
            channel_key=key,
            relay=offer.relay_addr,
            since=time.time(),
            mode=service.mode,
            protocol=service.protocol,
            datagram_session=given(offer.datagram_session),
            peer_fingerprint=fingerprint,
            public=offer.public is True,
            dialer=self._connection.dialer,
            tell=self._connection.send,
        )
        self._log.info(
            "{client} visits {service}, session {id}",
            client=session.peer,
            service=session.service,
            id=session.id,
        )
        self.sessions[session.id] = _ProviderSession(self, session, service)
        self.machinery.events.fire("session_opened", **session.about)
        self._connection.send(messages.AcceptSession(session_id=session.id))
        self.sessions[session.id].fill()

    def _reject(self, offer: messages.ConnectOffer, why: str) -> None:
        self._connection.send(messages.RejectSession(session_id=offer.session_id, reason=why))

    def _judge(self, offer: messages.ConnectOffer, service: ServiceConfig) -> str:
        """
        @return: the fingerprint that the visitor has to prove; empty if it need not.
        @raise UserError: if it may not visit.
        """
        public = offer.public is True
        allowed = service.admit(offer.from_client_id)
        if public and service.public is None:
            raise UserError("it is not public")
        if allowed is None and not public:
            raise UserError("it is not in allow")
        if offer.mode != service.mode:
            raise UserError(f"the server offers it in mode {offer.mode}, it is {service.mode}")
        told = "" if offer.peer_fingerprint is UNSET else str(offer.peer_fingerprint)
        if service.mode == "link":
            if not told:
                raise UserError("it has no identity")
            if allowed is not None and not public:
                self.machinery.known.check(offer.from_client_id, told, allowed.fingerprint)
        return told


class _ProviderSession:
    """One session's legs and streams."""

    _log = Logger()

    def __init__(self, provider: Provider, session: ClientSession, service: ServiceConfig) -> None:
        self.session = session
        self._provider = provider
        self._service = service
        self._serials = itertools.count()
        self._target = LINK_SPARES if session.mode == "link" else FEWEST_SPARES
        self._legs: set[Deferred[None]] = set()
        self._spares = 0
        self._idle: list[Deferred[socket.socket]] = []
        self._calm: IDelayedCall | None = None

    def fill(self) -> None:
        """Dial spare legs until there are enough."""
        while self.session.live and self._spares < self._target:
            self._spares += 1
            self._start(self._spare(next(self._serials)))

    def wanted(self, channel: int) -> None:
        """A visitor's leg found no spare one."""
        if self.session.mode == "raw":
            self._target = min(MOST_SPARES, self._target * 2)
            self._calm_down_later()
        self._start(self._asked(channel))
        self.fill()

    def retire(self) -> None:
        """No new streams."""
        self.session.live = False
        if self._calm is not None and self._calm.active():
            self._calm.cancel()
        for leg in list(self._legs):
            leg.cancel()
        self._forget_if_over()

    def cut(self) -> None:
        """End it, with its streams."""
        for stream in list(self.session.streams):
            stream.cut(Mood.SHUTDOWN)
        self.retire()

    def _start(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        leg = Deferred.fromCoroutine(work)
        self._legs.add(leg)
        leg.addBoth(self._leg_done, leg)

    def _leg_done(self, result: object, leg: Deferred[None]) -> None:
        self._legs.discard(leg)
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("a leg failed", result)

    async def _spare(self, serial: int) -> None:
        provider = self._provider
        leg = Deferred.fromCoroutine(self._leg(serial, spare=True))
        self._idle.append(leg)
        sock = None
        try:
            sock = await leg
        except CancelledError:
            pass  # Too many, or the session is over.
        except (LegRefused, OSError, ConnectError, DNSLookupError):
            await deferLater(provider.machinery.reactor, SPARE_PAUSE)
        finally:
            self._idle.remove(leg)
        self._spares -= 1
        serving = Deferred.fromCoroutine(self._serve(sock)) if sock is not None else succeed(None)
        self.fill()  # After the stream's first steps: a program waits for those.
        await serving

    def _calm_down_later(self) -> None:
        if self._calm is not None and self._calm.active():
            self._calm.reset(CALM)
        else:
            self._calm = self._provider.machinery.reactor.callLater(CALM, self._calm_down)

    def _calm_down(self) -> None:
        """Spare legs are descriptors, here and at the server: keep no more than are used."""
        self._target = max(FEWEST_SPARES, self._target // 2)
        for leg in self._idle[: self._spares - self._target]:
            leg.cancel()
        if self._target > FEWEST_SPARES:
            self._calm_down_later()

    async def _leg(self, number: int, spare: bool = False) -> socket.socket:
        """@return: a leg that has found its partner."""
        machinery = self._provider.machinery
        sock = await dial_relay(machinery, self.session)
        return await Leg(machinery.reactor, sock, self.session.preamble(number, spare)).verdict

    async def _asked(self, channel: int) -> None:
        try:
            sock = await self._leg(channel)
        except (LegRefused, OSError, ConnectError, DNSLookupError):
            return  # A spare leg came first, or the visitor hears from the relay.
        await self._serve(sock)

    async def _serve(self, leg: socket.socket) -> None:
        """The visitor is at the other end of C{leg}."""
        provider, service, session = self._provider, self._service, self.session
        if session.mode == "link":
            provider.links.newcomer(leg, session, service)
            return
        try:
            local = await provider.links.dialer.dial(service)
        except BaseException as error:
            reset(leg)
            if isinstance(error, ServiceDialer.ERRORS):
                return
            raise
        machinery = provider.machinery
        stream = Splice(
            machinery.reactor, machinery.pool, leg, local, session.meter, self._stream_ended
        )
        session.streams.add(stream)
        stream.read_now(stream.left)

    def _stream_ended(self, stream: Splice, mood: Mood) -> None:
        self.session.streams.discard(stream)
        self._forget_if_over()

    def _forget_if_over(self) -> None:
        provider, session = self._provider, self.session
        if session.live or session.streams:
            return
        if provider.sessions.pop(session.id, None) is not None:
            provider.machinery.events.fire("session_closed", **session.about)


def goes_on(old: ServiceConfig | None, new: ServiceConfig | None, visitor: str) -> bool:
    """Whether C{visitor}'s sessions of a service go on when C{new} is offered instead of C{old}."""
    if old is None or new is None or old.admit(visitor) != new.admit(visitor):
        return False
    return _essence(old) == _essence(new)


def _essence(service: ServiceConfig) -> ServiceConfig:
    """What its sessions are made of; the server sees to its bandwidth."""
    return structs.replace(
        service,
        description="",
        allow=(),
        public=None,
        health_check=None,
        bandwidth_up=0,
        bandwidth_down=0,
    )
