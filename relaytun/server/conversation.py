"""
What a client may say on its control connection, and what comes of it.

The signalling adapter hands in decoded messages.  Rights are checked here at each request, never
once and for all.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from msgspec import UNSET, structs
from twisted.logger import Logger

from ..link.identity import fingerprint, is_signed_by
from ..wire import messages
from ..wire.messages import Code, Message, Service
from ..wire.proof import login_statement
from ..wire.text import printable
from .broker import Broker
from .granted import Session
from .peer import Peer
from .registry import Refused


class Conversation:
    """One client's side of the signalling."""

    _log = Logger()

    def __init__(
        self, broker: Broker, peer: Peer, registered: Callable[[], None] = lambda: None
    ) -> None:
        """@param registered: called when the client has registered."""
        self._broker = broker
        self._peer = peer
        self._registered = registered

    def received(self, message: Message) -> None:
        """It sent this."""
        if self._peer.user.revoked:
            self._turn_away("the token does not let anybody in any more")
        elif isinstance(message, messages.Register):
            self._register(message)
        elif self._peer.expects_token and self._peer.client_id is None:
            self._turn_away("a connection without the token has one message: register")
        elif isinstance(message, messages.Heartbeat):
            self._peer.send(message)
        elif isinstance(message, messages.Error):
            code = printable(message.code)
            self._log.debug("{client} answered {code}", client=self._peer.name, code=code)
        elif self._peer.client_id is None:
            self._peer.error(Code.NOT_REGISTERED, "register first")
        elif isinstance(message, messages.GetClientList):
            self._peer.send(self._broker.client_list(self._peer))
        elif isinstance(message, messages.ConnectRequest):
            self._connect(message)
        elif isinstance(message, messages.AcceptSession):
            session = self._own_session(message.session_id, as_provider=True)
            if session is not None:
                session.machine.accepted()
        elif isinstance(message, messages.RejectSession):
            session = self._own_session(message.session_id, as_provider=True)
            if session is not None:
                session.machine.rejected()
        elif isinstance(message, messages.CloseSession):
            session = self._own_session(message.session_id)
            if session is not None:
                session.machine.closed()
        elif isinstance(message, messages.ServiceHealth):
            self._broker.health_changed(self._peer, message)
        elif isinstance(message, messages.UpdateServices):
            self._update(message)
        elif isinstance(message, messages.MeetingOffer):
            self._broker.meetings.offered(self._peer, message)
        elif isinstance(message, messages.MeetingAnswer):
            self._broker.meetings.answered(self._peer, message)
        elif isinstance(message, messages.Unregister):
            self._peer.said_good_bye = True
            self._broker.leave(self._peer)
            self._peer.close()

    def _register(self, request: messages.Register) -> None:
        peer = self._peer
        if peer.expects_token:
            user = self._broker.users.by_token(request.token)
            if user is None:
                self._turn_away("the token is wrong")
                return
            peer.user = user
        if peer.client_id is not None and request.client_id not in ("", peer.client_id):
            peer.error(Code.BAD_MESSAGE, f"this connection is registered as {peer.client_id}")
            return
        try:
            self._prove(request)
            services = {service.id: self._offered(service) for service in request.services}
            transient = request.transient and peer.fingerprint is not None
            wanted = request.client_id or peer.client_id or ""
            self._allow(wanted, transient)
            client_id, displaced = self._broker.registry.admit(peer, wanted, transient)
        except Refused as refused:
            if peer.client_id is None:
                peer.fingerprint = None  # The proof was for this clientId, and for no other.
            peer.send(
                messages.RegisterResponse(
                    success=False, error=refused.code.value, message=str(refused)
                )
            )
            self._broker.events.fire("login_refused", code=refused.code.value)
            if refused.code is Code.UNAUTHORIZED:
                peer.close()
            return
        peer.expects_token = False
        first = peer.client_id is None
        peer.client_id = client_id
        peer.transient = transient
        peer.process = request.process
        before = peer.services
        if not transient:
            peer.services = services
            self._broker.sessions.services_changed(peer)
        if displaced is not None:
            before = displaced.services
            self._broker.displace(displaced)
        if not transient:
            self._broker.came(peer, None if first and displaced is None else before)
        if first:
            self._log.info(
                "{client} registered from {host} with {count} services",
                client=client_id,
                host=peer.address,
                count=len(peer.services),
            )
        self._registered()
        peer.send(self._broker.registered(peer))
        self._broker.expose(peer, request.exposures or ())

    def _allow(self, wanted: str, transient: bool) -> None:
        """@raise Refused: if the user's clients may not be called so."""
        user = self._peer.user
        # The name that the server makes for a passing guest is nobody's.
        if not (transient and not wanted) and not user.may_use_client_id(wanted):
            asked = f"not as {wanted}" if wanted else "and has to say as which: set client_id"
            raise Refused(
                Code.FORBIDDEN, f"user {user.name} may register as {user.client_ids}, {asked}"
            )

    def _update(self, update: messages.UpdateServices) -> None:
        peer = self._peer
        if peer.transient:
            peer.error(Code.FORBIDDEN, "a login of short life offers nothing")
            return
        try:
            services = {service.id: self._offered(service) for service in update.services}
        except Refused as refused:
            peer.error(refused.code, str(refused))
            return
        self._log.info(
            "{client} offers {count} services now", client=peer.name, count=len(services)
        )
        self._broker.update_services(peer, services, update.exposures)

    def _prove(self, request: messages.Register) -> None:
        """@raise Refused: if it claims an identity that it does not hold."""
        if request.certificate is UNSET and request.proof is UNSET:
            return
        statement = login_statement(self._peer.challenge, self._peer.user.token, request.client_id)
        try:
            certificate = base64.b64decode(str(request.certificate), validate=True)
            proof = base64.b64decode(str(request.proof), validate=True)
        except (binascii.Error, ValueError):
            raise Refused(Code.UNAUTHORIZED, "certificate and proof are base64") from None
        if not is_signed_by(certificate, proof, statement):
            raise Refused(
                Code.UNAUTHORIZED, "the proof does not show that you hold this identity's key"
            )
        proven = fingerprint(certificate)
        if self._peer.client_id is not None and self._peer.fingerprint != proven:
            raise Refused(Code.UNAUTHORIZED, "a registered client keeps its identity")
        self._peer.fingerprint = proven

    def _offered(self, service: Service) -> Service:
        """
        C{service} in the mode in which it is to be had.

        @raise Refused: if it is to be had in none.
        """
        links = self._peer.fingerprint is not None
        if service.protocol == "udp":
            if not links:
                raise Refused(
                    Code.FORBIDDEN,
                    f"{service.id} is a udp service: those have links only, and a link needs an "
                    "identity; register with one, or without this service",
                )
            if service.mode == "raw":
                raise Refused(
                    Code.BAD_MESSAGE,
                    f"{service.id} is a udp service: those have links only; leave its mode out",
                )
            return structs.replace(service, mode="link")
        if service.mode == "link" and links:
            return service
        return structs.replace(service, mode="raw", compression=UNSET)

    def _connect(self, request: messages.ConnectRequest) -> None:
        refusal = self._broker.connect(self._peer, request)
        if refusal is not None:
            code, message = refusal
            self._peer.error(code, message, request_id=request.request_id)

    def _own_session(self, session_id: str, as_provider: bool = False) -> Session | None:
        session = self._broker.sessions.find(bytes.fromhex(session_id))
        if session is not None and (
            session.provider is self._peer or (not as_provider and session.visitor is self._peer)
        ):
            return session
        # An answer that crossed the session's end is nobody's fault.
        self._log.debug("{client} spoke of a session that it has not", client=self._peer.name)
        return None

    def _turn_away(self, why: str) -> None:
        self._broker.events.fire("login_refused", code=Code.UNAUTHORIZED.value)
        self._peer.error(Code.UNAUTHORIZED, why)
        self._peer.close()
