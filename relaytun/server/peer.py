"""
One control connection, without its transport: what is known of it, and what it may ask.

The signalling adapter gives it decoded messages and connection events; it answers through the
two callables that it was made with.  Rights are checked here at each request, never once and
for all.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType, structs
from twisted.logger import Logger

from ..link.identity import fingerprint, is_signed_by
from ..wire import messages
from ..wire.messages import Code, Message, Service
from ..wire.proof import login_statement
from ..wire.text import printable
from .registry import Refused

if TYPE_CHECKING:
    from .broker import Broker
    from .sessions import Session


class Peer:
    """
    @ivar epoch: rises with each control connection of this server.
    @ivar client_id: its name, once it is registered.
    @ivar fingerprint: of the identity that it has proven, if any.
    @ivar dialled_host: the host name or address it used to get here.
    @ivar expects_token: it came without the token, which is to be in its C{register}.
    """

    _log = Logger()

    def __init__(
        self,
        broker: Broker,
        send: Callable[[Message], None],
        close: Callable[[], None],
        *,
        epoch: int,
        challenge: bytes,
        dialled_host: str,
        expects_token: bool,
        registered: Callable[[], None] = lambda: None,
    ) -> None:
        self._broker = broker
        self._send = send
        self._close = close
        self._registered = registered
        self.epoch = epoch
        self.challenge = challenge
        self.dialled_host = dialled_host
        self.expects_token = expects_token
        self.client_id: str | None = None
        self.fingerprint: str | None = None
        self.transient = False
        self.services: dict[str, Service] = {}
        self.gone = False

    @property
    def name(self) -> str:
        """Its C{clientId}, for messages and the log."""
        return self.client_id or "(not registered)"

    def send(self, message: Message) -> None:
        """Tell it something; if it is gone, nobody listens."""
        if not self.gone:
            self._send(message)

    def error(
        self,
        code: Code,
        message: str,
        session_id: str | UnsetType = UNSET,
        request_id: str | UnsetType = UNSET,
    ) -> None:
        """Answer with an error."""
        self.send(
            messages.Error(
                code=code.value, message=message, session_id=session_id, request_id=request_id
            )
        )

    def displaced(self) -> None:
        """A newer login of the same identity has its place."""
        self.error(Code.ID_IN_USE, f"a newer login of the same identity took over {self.name}")
        self._leave()
        self._close()

    def connection_lost(self) -> None:
        """The transport is gone."""
        self._leave()

    def received(self, message: Message) -> None:
        """It sent this."""
        if isinstance(message, messages.Register):
            self._register(message)
        elif self.expects_token and self.client_id is None:
            self._turn_away("a connection without the token has one message: register")
        elif isinstance(message, messages.Heartbeat):
            self.send(message)
        elif isinstance(message, messages.Error):
            code = printable(message.code)
            self._log.debug("{client} answered {code}", client=self.name, code=code)
        elif self.client_id is None:
            self.error(Code.NOT_REGISTERED, "register first")
        elif isinstance(message, messages.GetClientList):
            self.send(self._broker.client_list())
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
        elif isinstance(message, messages.Unregister):
            self._leave()
            self._close()

    def _register(self, request: messages.Register) -> None:
        if self.expects_token and not self._broker.is_token(request.token):
            self._turn_away("the token is wrong")
            return
        if self.client_id is not None and request.client_id not in ("", self.client_id):
            self.error(Code.BAD_MESSAGE, f"this connection is registered as {self.client_id}")
            return
        if any(service.mode == "link" for service in request.services):
            self.error(Code.BAD_MESSAGE, "this server has no link sessions yet; use mode raw")
            return
        try:
            self._prove(request)
            transient = request.transient and self.fingerprint is not None
            wanted = request.client_id or self.client_id or ""
            client_id, displaced = self._broker.registry.admit(self, wanted, transient)
        except Refused as refused:
            if self.client_id is None:
                self.fingerprint = None  # The proof was for this clientId, and for no other.
            self.send(
                messages.RegisterResponse(
                    success=False, error=refused.code.value, message=str(refused)
                )
            )
            if refused.code is Code.UNAUTHORIZED:
                self._close()
            return
        self.expects_token = False
        first = self.client_id is None
        self.client_id = client_id
        self.transient = transient
        if not transient:
            self.services = {
                service.id: structs.replace(service, mode="raw") for service in request.services
            }
        if displaced is not None:
            displaced.displaced()
        if first:
            self._log.info(
                "{client} registered from {host} with {count} services",
                client=client_id,
                host=self._broker.describe(self),
                count=len(self.services),
            )
        self._registered()
        self.send(self._broker.registered(self))

    def _prove(self, request: messages.Register) -> None:
        """@raise Refused: if it claims an identity that it does not hold."""
        if request.certificate is UNSET and request.proof is UNSET:
            return
        token = self._broker.token_text(request.token)
        statement = login_statement(self.challenge, token, request.client_id)
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
        if self.client_id is not None and self.fingerprint != proven:
            raise Refused(Code.UNAUTHORIZED, "a registered client keeps its identity")
        self.fingerprint = proven

    def _connect(self, request: messages.ConnectRequest) -> None:
        refusal = self._broker.connect(self, request)
        if refusal is not None:
            code, message = refusal
            self.error(code, message, request_id=request.request_id)

    def _own_session(self, session_id: str, as_provider: bool = False) -> Session | None:
        session = self._broker.sessions.find(bytes.fromhex(session_id))
        if session is not None and (
            session.provider is self or (not as_provider and session.visitor is self)
        ):
            return session
        # An answer that crossed the session's end is nobody's fault.
        self._log.debug("{client} spoke of a session that it has not", client=self.name)
        return None

    def _turn_away(self, why: str) -> None:
        self.error(Code.UNAUTHORIZED, why)
        self._close()

    def _leave(self) -> None:
        if not self.gone:
            self.gone = True
            self._broker.left(self)


def same_token(given: str, token: str) -> bool:
    """Whether they are equal; takes the same time either way."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
