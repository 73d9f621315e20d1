"""
A session that the server has offered or granted, and what it is made of.

A L{Session} is the driver of its L{SessionMachine}: it turns the machine's imperatives into
messages to the two clients and cuts.  It knows legs only as things that can be turned away, and
channels only as things that can be cut; the sockets are the relay's.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections import Counter
from typing import Literal, Protocol, TypeVar

from msgspec import UNSET, UnsetType
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ..events import Events
from ..plane.meter import Meter
from ..plane.rates import Bandwidth
from ..wire import messages
from ..wire.messages import Code, Service
from ..wire.moods import Mood
from ..wire.preamble import KEY_SIZE, SESSION_SIZE, Refusal, Role
from .pairing import Pairing
from .peer import Peer
from .session import session_machine
from .users import User

T = TypeVar("T")

#: Seconds that a provider has for its answer.
ANSWER_TIMEOUT = 10.0
#: Seconds in which a provider's own leg for channel 0 may come before it is asked for one.
FIRST_CHANNEL_GRACE = 0.2


class Accounting(Protocol):
    """Who counts the bytes of all sessions together, and may limit them."""

    def limit(self, session: Session) -> None:
        """C{session} begins: limit its meter, if need be to nothing."""

    def exhausted(self, session: Session) -> None:
        """It needs more than it was let have: raise the limit, or end it."""

    def ended(self, session: Session) -> None:
        """It moves nothing more."""

    def refusal(self, user: User) -> str | None:
        """Why this user may have no new session, if so."""


class NoAccounting:
    """Nobody counts."""

    def limit(self, session: Session) -> None:
        """It is as it was made."""

    def exhausted(self, session: Session) -> None:
        """It has had what it may."""
        session.machine.exhausted()

    def ended(self, session: Session) -> None:
        """Nothing is kept."""

    def refusal(self, user: User) -> str | None:
        """Everybody may have one."""
        return None


class Table(Protocol):
    """
    Where a session stands among the others.

    @ivar clock: what it waits by.
    @ivar events: who hears of it.
    @ivar accounts: who counts its bytes.
    """

    clock: IReactorTime
    events: Events
    accounts: Accounting

    def relay_address(self, peer: Peer) -> messages.RelayAddress:
        """Where a client is to dial the relay port."""

    def remove(self, session: Session) -> None:
        """It has ended."""


class WaitingLeg(Protocol):
    """A leg without a partner, as a session sees it."""

    def refuse(self, refusal: Refusal) -> None:
        """Turn it away."""


class RunningChannel(Protocol):
    """A channel, as a session sees it."""

    def cut(self, mood: Mood) -> None:
        """End it now."""


class Session:
    """
    One authorised pairing of a visitor and a provider for one service.

    @ivar mode: C{raw} or C{link}: how its channels are used, which is all the same to the server.
    @ivar datagram_session: the number in front of its datagrams, if the service is udp.
    @ivar live: whether new legs are welcome.
    @ivar most: the bytes that it may move, whatever else limits them.
    @ivar meter: forward is visitor to provider.
    @ivar moods: how many of its channels ended how.
    """

    _log = Logger()

    def __init__(
        self,
        table: Table,
        visitor: Peer,
        provider: Peer,
        service: Service,
        request: messages.ConnectRequest,
        max_bytes: int,
        datagram_session: int | None,
    ) -> None:
        self._table = table
        self.key = secrets.token_bytes(SESSION_SIZE)
        self.id = self.key.hex()
        self.visitor = visitor
        self.provider = provider
        self.service = service
        self.mode: Literal["raw", "link"] = "link" if service.mode == "link" else "raw"
        self.datagram_session = datagram_session
        self.since = time.time()
        self.live = False
        self.channel_keys = {role: secrets.token_bytes(KEY_SIZE) for role in Role}
        self.pairing: Pairing[WaitingLeg] = Pairing()
        self.meter = Meter(max_bytes, self._exhausted)
        self.most = self.meter.limit
        table.accounts.limit(self)
        self.keep_to_rates()
        self.channels: set[RunningChannel] = set()
        self.moods: Counter[Mood] = Counter()
        self.machine = session_machine(self)
        self._request_id = request.request_id
        self._answer_deadline: IDelayedCall | None = table.clock.callLater(
            ANSWER_TIMEOUT, self.machine.overdue
        )

    def offer(self) -> None:
        """Ask the provider."""
        self.provider.send(
            messages.ConnectOffer(
                from_client_id=self.visitor.name,
                to_client_id=self.provider.name,
                service_id=self.service.id,
                session_id=self.id,
                channel_key=self._channel_key(Role.PROVIDER),
                relay_addr=self._table.relay_address(self.provider),
                mode=self.mode,
                peer_fingerprint=_told(self.visitor.fingerprint),
                datagram_session=_told(self.datagram_session),
                public=_told(self.visitor.public or None),
            )
        )

    def involves(self, peer: Peer) -> bool:
        """Whether C{peer} is one of its two clients."""
        return peer is self.visitor or peer is self.provider

    def keep_to_rates(self) -> None:
        """Its bytes keep to what its service and the users of both sides have now."""
        provider = self.provider
        service = provider.services.get(self.service.id, self.service)
        # Held by the provider: a new session is no new bucket.
        own = provider.bandwidths.setdefault(service.id, Bandwidth(self._table.clock))
        own.change(service.bandwidth_up or 0, service.bandwidth_down or 0)
        theirs, visitors = provider.user.bandwidth, self.visitor.user.bandwidth
        self.meter.forward_rates = own.down + theirs.down + visitors.up
        self.meter.backward_rates = own.up + theirs.up + visitors.down

    def is_forbidden(self) -> bool:
        """Whether the users of its clients may have it no more."""
        visitor, provider = self.visitor.user, self.provider.user
        return (
            visitor.revoked
            or provider.revoked
            or not visitor.may_visit(self.provider.name, self.service.id)
        )

    def welcomes(self, role: Role) -> bool:
        """
        Whether new legs of C{role} may come.

        A provider dials its legs as it accepts, and they may overtake its word on the control
        connection: so they may wait from the offer on.
        """
        return self.live or (role is Role.PROVIDER and self._answer_deadline is not None)

    def ask_provider(self, channel: int) -> None:
        """A visitor's leg waits for the provider's."""
        if channel == 0:
            self._table.clock.callLater(FIRST_CHANNEL_GRACE, self._ask_provider, channel)
        else:
            self._ask_provider(channel)

    def channel_opened(self, channel: RunningChannel) -> None:
        """Two legs have met."""
        self.channels.add(channel)

    def channel_ended(self, channel: RunningChannel, mood: Mood) -> None:
        """They have parted."""
        self.channels.discard(channel)
        self.moods[mood] += 1
        if not self.channels:
            self.machine.channels_gone()

    # Driver

    def grant(self) -> None:
        self._stop_waiting()
        self.live = True
        self._log.info(
            "session {id}: {visitor} to {provider}/{service} granted",
            id=self.id,
            visitor=self.visitor.name,
            provider=self.provider.name,
            service=self.service.id,
        )
        self._table.events.fire("session_opened", **self._about)
        self.visitor.send(
            messages.CreateSession(
                session_id=self.id,
                peer_client_id=self.provider.name,
                service=self.service,
                relay_addr=self._table.relay_address(self.visitor),
                channel_key=self._channel_key(Role.VISITOR),
                mode=self.mode,
                request_id=self._request_id,
                peer_fingerprint=_told(self.provider.fingerprint),
                peer_process=self.provider.process,
                datagram_session=_told(self.datagram_session),
            )
        )

    def stop_admitting(self) -> None:
        self.live = False
        for leg in self.pairing.clear():
            leg.refuse(Refusal.NOT_LIVE)
        if not self.channels:
            self.machine.channels_gone()

    def end(self, mood: Mood) -> None:
        granted = self._answer_deadline is None
        self._stop_waiting()
        self.live = False
        self._table.remove(self)
        for leg in self.pairing.clear():
            leg.refuse(Refusal.NOT_LIVE)
        for channel in list(self.channels):
            channel.cut(mood)
        if granted:
            closed = messages.SessionClosed(
                session_id=self.id, reason=mood.value, bytes_transferred=self.meter.total
            )
            self.visitor.send(closed)
            if self.provider is not self.visitor:
                self.provider.send(closed)
        else:
            self._tell_refused(mood)
        self._log.info(
            "session {id}: {visitor} to {provider}/{service} ended {mood}, {bytes} bytes; "
            "channels: {channels}",
            id=self.id,
            visitor=self.visitor.name,
            provider=self.provider.name,
            service=self.service.id,
            mood=mood.value,
            bytes=self.meter.total,
            channels=", ".join(f"{count} {mood.value}" for mood, count in self.moods.items())
            or "none",
        )
        if granted:
            self._table.events.fire(
                "session_closed",
                **self._about,
                mood=mood.value,
                seconds=round(max(0.0, time.time() - self.since), 3),
                bytesIn=self.meter.forward,
                bytesOut=self.meter.backward,
            )
        else:
            self._table.events.fire("session_refused", **self._about, mood=mood.value)

    @property
    def _about(self) -> dict[str, str]:
        """What every event says of it."""
        return {
            "session": self.id,
            "visitor": self.visitor.name,
            "provider": self.provider.name,
            "service": self.service.id,
            "mode": self.mode,
        }

    def _tell_refused(self, mood: Mood) -> None:
        """The visitor never had the session: it gets an error instead of an end."""
        code, message = {
            Mood.REJECTED: (Code.REJECTED, "the provider rejected the session"),
            Mood.LONELY: (Code.TIMEOUT, "the provider did not answer in time"),
            Mood.CLIENT_OFFLINE: (Code.CLIENT_OFFLINE, "the provider left before it answered"),
            Mood.FORBIDDEN: (Code.FORBIDDEN, "this may not be visited any more"),
            Mood.HAPPY: (Code.REJECTED, "the session was closed before it was granted"),
        }.get(mood, (Code.INTERNAL, "the server is ending"))
        self.visitor.send(
            messages.Error(
                code=code.value,
                message=message,
                session_id=self.id,
                request_id=self._request_id,
            )
        )
        if mood is not Mood.REJECTED:
            self.provider.send(
                messages.SessionClosed(session_id=self.id, reason=mood.value, bytes_transferred=0)
            )

    def _ask_provider(self, channel: int) -> None:
        if self.live and self.pairing.wants_provider(channel):
            self.pairing.asked(channel)
            self.provider.send(messages.OpenChannel(session_id=self.id, channel=channel))

    def _channel_key(self, role: Role) -> str:
        return base64.b64encode(self.channel_keys[role]).decode("ascii")

    def _stop_waiting(self) -> None:
        if self._answer_deadline is not None:
            if self._answer_deadline.active():
                self._answer_deadline.cancel()
            self._answer_deadline = None

    def _exhausted(self) -> None:
        if self.meter.limit >= self.most:
            self.machine.exhausted()
        else:
            self._table.accounts.exhausted(self)


def _told(value: T | None) -> T | UnsetType:
    """As a message has it: what there is not is left out."""
    return UNSET if value is None else value
