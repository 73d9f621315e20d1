"""
What the server knows of one control connection; what may be asked of it is elsewhere.

It has no transport: it answers through the two callables that it was made with.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET, UnsetType

from ..plane.rates import Bandwidth
from ..wire import messages
from ..wire.messages import Code, Message, Service
from .users import User


class Peer:
    """
    @ivar close: ends the connection.
    @ivar epoch: rises with each control connection of this server.
    @ivar challenge: what a proof of identity has to cover.
    @ivar address: where it comes from, for the log.
    @ivar dialled_host: the host name or address it used to get here.
    @ivar expects_token: it came without the token, which is to be in its C{register}.
    @ivar user: whose token it came with; what it may do is his to do.
    @ivar client_id: its name, once it is registered.
    @ivar fingerprint: of the identity that it has proven, if any.
    @ivar transient: it is a login beside the main one of its client.
    @ivar process: what it calls its process, if it does.
    @ivar services: what it offers, by id.
    @ivar bandwidths: what all sessions of a service keep to together, by its id.
    @ivar public: it is the server itself, on behalf of somebody on the Internet.
    @ivar said_good_bye: it has unregistered; it is not just lost.
    @ivar gone: nobody listens any more.
    """

    def __init__(
        self,
        send: Callable[[Message], None],
        close: Callable[[], None],
        *,
        epoch: int,
        challenge: bytes,
        address: str,
        dialled_host: str,
        expects_token: bool,
        user: User,
        public: bool = False,
    ) -> None:
        """@param user: as long as it C{expects_token}, he is not to be asked."""
        self._send = send
        self.close = close
        self.epoch = epoch
        self.challenge = challenge
        self.address = address
        self.dialled_host = dialled_host
        self.expects_token = expects_token
        self.user = user
        self.public = public
        self.client_id: str | None = None
        self.fingerprint: str | None = None
        self.transient = False
        self.process: str | UnsetType = UNSET
        self.services: dict[str, Service] = {}
        self.bandwidths: dict[str, Bandwidth] = {}
        self.said_good_bye = False
        self.gone = False

    @property
    def name(self) -> str:
        """Its C{clientId}, for messages and the log."""
        return self.client_id or "(not registered)"

    def provides(self, service_id: str) -> bool:
        """Whether it offers this service, as far as is known in good health."""
        service = self.services.get(service_id)
        return service is not None and service.healthy is not False

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
