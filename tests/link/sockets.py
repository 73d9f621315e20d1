"""Channels over real sockets, under a reactor that the test plays, with a relay in between."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from OpenSSL import SSL
from twisted.internet.task import Clock

from relaytun.link.channel import Channel
from relaytun.link.handshake import LinkTLS, Peer
from relaytun.link.identity import Identity
from relaytun.link.pulse import RELAYED, Pace
from relaytun.wire.frames import Frame

from ..polling import select

#: Making a key takes a while.
VISITOR = Identity.make("visitor")
PROVIDER = Identity.make("provider")
STRANGER = Identity.make("stranger")
TLS = {identity.fingerprint: LinkTLS(identity) for identity in (VISITOR, PROVIDER, STRANGER)}


class Loop(Clock):
    """A reactor that goes round when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Channel] = []
        self.writers: list[Channel] = []

    def addReader(self, reader: Channel) -> None:
        """See L{IReactorFDSet}."""
        self.readers.append(reader)

    def removeReader(self, reader: Channel) -> None:
        """See L{IReactorFDSet}."""
        self.readers.remove(reader)

    def addWriter(self, writer: Channel) -> None:
        """See L{IReactorFDSet}."""
        self.writers.append(writer)

    def removeWriter(self, writer: Channel) -> None:
        """See L{IReactorFDSet}."""
        self.writers.remove(writer)

    def turn(self) -> bool:
        """Go round once; whether there was anything to be done."""
        self.advance(0)
        readable, writable = select(self.readers, self.writers)
        for channel in readable:
            if channel in self.readers:
                channel.doRead()
        for channel in writable:
            if channel in self.writers:
                channel.doWrite()
        return bool(readable or writable)


class Owner:
    """
    Who has a channel.

    @ivar frames: what came.
    @ivar whys: of the losses.
    @ivar drains: how often there was room again.
    @ivar worn_out: how often it was said to be worn.
    """

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.whys: list[str] = []
        self.drains = 0
        self.worn_out = 0
        self.hear: Callable[[Frame], None] = lambda frame: None

    def received(self, channel: Channel, frame: Frame) -> None:
        """See L{relaytun.link.parties.Owner}."""
        self.frames.append(frame._replace(payload=bytes(frame.payload)))
        self.hear(frame)

    def drained(self, channel: Channel) -> None:
        """See L{relaytun.link.parties.Owner}."""
        self.drains += 1

    def worn(self, channel: Channel) -> None:
        """See L{relaytun.link.parties.Owner}."""
        self.worn_out += 1

    def lost(self, channel: Channel, why: str) -> None:
        """See L{relaytun.link.parties.Owner}."""
        self.whys.append(why)

    @property
    def payload(self) -> bytes:
        """Of all frames."""
        return b"".join(bytes(frame.payload) for frame in self.frames)


class Relay:
    """
    What lies between two sockets.

    @ivar tamper: what it makes of the bytes of each direction (C{True}: the visitor's).
    @ivar passed: bytes in each direction, as they came.
    @ivar ended: the directions that have ended.
    """

    def __init__(self) -> None:
        self.near, visitor = socket.socketpair()
        self.far, provider = socket.socketpair()
        for sock in (self.near, self.far, visitor, provider):
            sock.setblocking(False)
        self.sockets = (visitor, provider)
        self.tamper: dict[bool, Callable[[bytes], bytes]] = {}
        self.passed = {True: bytearray(), False: bytearray()}
        self.ended: set[bool] = set()

    def turn(self) -> bool:
        """Pass on what came; whether there was anything."""
        moved = False
        for direction, here, there in ((True, self.near, self.far), (False, self.far, self.near)):
            try:
                data = here.recv(65536)
            except OSError:
                continue
            if not data and direction not in self.ended:
                self.ended.add(direction)
                with contextlib.suppress(OSError):
                    there.shutdown(socket.SHUT_WR)
                moved = True
            self.passed[direction] += data
            tamper = self.tamper.get(direction)
            if tamper is not None and data:
                data = tamper(data)
            if data:
                moved = True
                try:
                    there.send(data)
                except OSError:
                    self.close()
        return moved

    def close(self) -> None:
        """It dies."""
        self.near.close()
        self.far.close()


class Ends:
    """
    A visitor's channel and a provider's, with a relay in between.

    @ivar secured: what came of each handshake: None, or the error; nothing if it goes on.
    """

    def __init__(
        self,
        loop: Loop,
        visitor: SSL.Connection | None = None,
        provider: SSL.Connection | None = None,
        visitor_expects: Identity = PROVIDER,
        provider_expects: Identity = VISITOR,
        pace: Pace = RELAYED,
    ) -> None:
        self.loop = loop
        self.relay = Relay()
        self.peers = Peer(visitor_expects.fingerprint), Peer(provider_expects.fingerprint)
        if visitor is None:
            visitor = TLS[VISITOR.fingerprint].connection(True, self.peers[0])
        if provider is None:
            provider = TLS[PROVIDER.fingerprint].connection(False, self.peers[1])
        sockets = self.relay.sockets
        self.visitor = Channel(loop, sockets[0], visitor, pace)  # type: ignore[arg-type]
        self.provider = Channel(loop, sockets[1], provider, pace)  # type: ignore[arg-type]
        self.owners = Owner(), Owner()
        self.secured: dict[Channel, object] = {}
        for channel, owner in zip((self.visitor, self.provider), self.owners, strict=True):
            channel.owner = owner  # type: ignore[assignment]
            channel.secured.addBoth(
                lambda result, channel=channel: self.secured.__setitem__(channel, result)
            )

    def start(self) -> Ends:
        """Both begin."""
        self.visitor.start()
        self.provider.start()
        return self.settle()

    def settle(self) -> Ends:
        """Until nothing moves."""
        quiet = 0
        while quiet < 2:
            moved = self.loop.turn()
            moved = self.relay.turn() or moved
            quiet = 0 if moved else quiet + 1
        return self

    def close(self) -> None:
        """Leave nothing."""
        self.visitor.close()
        self.provider.close()
        self.relay.close()
