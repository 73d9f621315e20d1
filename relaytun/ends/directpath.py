"""What the two ends of a link want of a way without the relay; the server has none."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred

from ..link.channel import Channel
from ..wire.messages import Message
from .directdatagrams import PunchedPath
from .legs import ClientSession

#: Gets each connection that comes, and how it came; says whether it leads to the other client, and
#: is in use now.
Found: TypeAlias = Callable[[socket.socket, str], "Deferred[bool]"]
#: Gets each punched path for datagrams, and whom to tell when there is none any more.
FoundPunched: TypeAlias = Callable[[PunchedPath, Callable[[], None]], None]


class DirectPath(Protocol):
    """
    One link's way without the relay.

    @ivar why: why there is none, as far as is known.
    """

    why: str

    def secured(self, channel: Channel) -> None:
        """The link has a new main channel."""

    def received(self, message: Message) -> None:
        """The other side, or the server, said this about it."""

    def demoted(self) -> None:
        """The way that was found carries less than the relay, and is given up."""

    def close(self) -> None:
        """The link is over."""


class Directs(Protocol):
    """Makes them."""

    def make(
        self,
        visitor: bool,
        session: Callable[[], ClientSession | None],
        found: Found,
        punched: FoundPunched | None = None,
        renew: Callable[[], None] = lambda: None,
    ) -> DirectPath:
        """
        @param session: the one of the link's last channel.
        @param punched: for a link of a udp service.
        @param renew: makes a new channel through the relay, of a session that is live.
        """

    def prepare(self) -> None:
        """There will be links soon, perhaps: what takes long is begun."""

    def close(self) -> None:
        """The client ends."""
