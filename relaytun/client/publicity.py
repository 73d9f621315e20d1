"""What became of the services that this client wants to be public, as the servers tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from ..wire.messages import Exposed, Message
from ..wire.text import printable
from .connection import ServerConnection
from .signalling import Control


class Publicity:
    """
    One server's word.

    @ivar told: the last one about each service.
    """

    _log = Logger()

    def __init__(
        self, connection: ServerConnection, say: Callable[[Exposed], None] | None = None
    ) -> None:
        """@param say: called with each word; by default the log has it."""
        self.told: dict[str, Exposed] = {}
        self._say = say or self._log_it
        connection.add_listener(self)

    def control_up(self, control: Control) -> None:
        """The server tells by itself."""

    def control_down(self) -> None:
        """Nothing is known any more."""
        self.told.clear()

    def received(self, message: Message) -> None:
        """The server said this."""
        if not isinstance(message, Exposed):
            return
        self.told[message.service_id] = message
        self._say(message)

    def _log_it(self, message: Exposed) -> None:
        if message.error:
            self._log.warn(
                "{service} is not public: {why}",
                service=message.service_id,
                why=printable(str(message.message)),
            )
        else:
            self._log.info(
                "{service} is public: {urls}",
                service=message.service_id,
                urls=printable(" ".join(message.urls)),
            )

    def report(self) -> dict[str, Any]:
        """For C{relaytun status --json}: where each service is public, or why not."""
        return {
            service: {"error": told.message} if told.error else {"urls": list(told.urls)}
            for service, told in sorted(self.told.items())
        }
