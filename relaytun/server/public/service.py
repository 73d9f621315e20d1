"""
Which services are public now: clients come, ask for ports and names, leave and come back.

An exposure is granted as a whole or not at all; what is refused because somebody else has it is
tried again, and granted when it is free.  When a client is lost its titles stay for L{LINGER}
seconds: connections wait for it, and it finds everything as it left it.  When it says good-bye
they are closed at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ...interfaces import IReactor
from ...wire import messages
from ...wire.messages import Exposed, Exposure
from ..peer import Peer
from .claims import Claims, Denied
from .title import Member, Title
from .visiting import Visiting
from .visitor import PublicVisitor

#: Seconds that the titles of a lost client stay.
LINGER = 10.0
#: Seconds between attempts to grant what was refused.
TRY_AGAIN = 2.0


class _Exposed:
    """
    An exposure of a client, granted or not.

    @ivar titles: what it was granted, with its membership of each.
    @ivar denied: why it was not.
    """

    def __init__(self, exposure: Exposure) -> None:
        self.exposure = exposure
        self.member: Member | None = None
        self.titles: list[Title] = []
        self.denied: Denied | None = None


class _Client:
    """
    @ivar peer: its last login.
    @ivar exposed: its exposures, by service.
    @ivar visitors: what visits its services, by service.
    @ivar lingering: the end of its time to come back, while it is away.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.exposed: dict[str, _Exposed] = {}
        self.visitors: dict[str, PublicVisitor] = {}
        self.lingering: IDelayedCall | None = None


class Public(Service):
    """The public side of the server."""

    _log = Logger()

    def __init__(self, reactor: IReactor, visiting: Visiting, claims: Claims) -> None:
        self._reactor = reactor
        self._visiting = visiting
        self._claims = claims
        self._clients: dict[str, _Client] = {}
        self._again = LoopingCall(self._try_again)
        self._again.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._again.start(TRY_AGAIN, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._again.stop()
        for client in list(self._clients.values()):
            self._forget(client)
        self._claims.close()

    def exposures_changed(self, peer: Peer, exposures: Iterable[Exposure]) -> None:
        """C{peer} has these services opened, and no others."""
        wanted = {exposure.service: exposure for exposure in exposures}
        client = self._clients.get(peer.name)
        if client is None:
            if not wanted:
                return
            client = self._clients[peer.name] = _Client(peer)
        client.peer = peer
        if client.lingering is not None:
            client.lingering.cancel()
            client.lingering = None
        for service, known in list(client.exposed.items()):
            if wanted.get(service) != known.exposure or not self._still_granted(client, known):
                self._withdraw(client, known)
        for service, exposure in wanted.items():
            if service not in client.exposed:
                client.exposed[service] = _Exposed(exposure)
                self._grant(client, client.exposed[service])
            self._tell(client, client.exposed[service])
        for visitor in client.visitors.values():
            visitor.back()
        if not client.exposed:
            self._forget(client)

    def client_left(self, peer: Peer) -> None:
        """C{peer}'s login is over."""
        client = self._clients.get(peer.name)
        if client is None or client.peer is not peer:
            return
        if peer.said_good_bye or not self.running:
            self._forget(client)
        else:
            for known in client.exposed.values():
                for title in known.titles:
                    title.changed()
            client.lingering = self._reactor.callLater(LINGER, self._lingered, client)

    def rights_changed(self, peer: Peer) -> None:
        """C{peer} may have lost the right to what it has."""
        client = self._clients.get(peer.name)
        if client is not None and client.peer is peer:
            self.exposures_changed(peer, [each.exposure for each in client.exposed.values()])

    def users_changed(self) -> None:
        """Users may have other things than before, or are users no more."""
        for client in list(self._clients.values()):
            if client.peer.user.revoked:
                self._forget(client)
            elif not client.peer.gone:
                self.rights_changed(client.peer)

    @property
    def connections(self) -> int:
        """How many there are now."""
        return sum(visitor.streams for visitor in self._visitors())

    @property
    def link_streams(self) -> int:
        """Those of them that the links of this process carry."""
        return sum(
            len(visitor.link.link.streams)
            for visitor in self._visitors()
            if visitor.link is not None
        )

    def _visitors(self) -> Iterator[PublicVisitor]:
        for client in self._clients.values():
            yield from client.visitors.values()

    def status(self) -> list[dict[str, Any]]:
        """For C{relaytun status --json}."""
        return [
            {
                "client": name,
                "service": service,
                "urls": list(self._urls(client, known)),
                "error": known.denied.why if known.denied is not None else None,
                "streams": visitor.streams if visitor is not None else 0,
            }
            for name, client in sorted(self._clients.items())
            for service, known in sorted(client.exposed.items())
            for visitor in [client.visitors.get(service)]
        ]

    def _grant(self, client: _Client, known: _Exposed) -> bool:
        """@return: whether it is granted."""
        peer, exposure = client.peer, known.exposure
        try:
            service = peer.services.get(exposure.service)
            if service is None:
                raise Denied(messages.Code.UNKNOWN_SERVICE, f"{exposure.service} is not offered")
            titles = [title for each in client.exposed.values() for title in each.titles]
            held = sum(title.kind in ("tcp", "udp") for title in titles)
            visitor = client.visitors.get(exposure.service)
            if visitor is None:
                visitor = PublicVisitor(self._visiting, peer.name, exposure.service)
            known.member = Member(visitor, exposure)
            known.titles = self._claims.claim(peer, service, known.member, held)
        except Denied as denied:
            known.denied = denied
            return False
        known.denied = None
        client.visitors[exposure.service] = visitor
        return True

    def _withdraw(self, client: _Client, known: _Exposed) -> None:
        """It is not to be public any more."""
        del client.exposed[known.exposure.service]
        self._claims.release(known.titles, known.member, ended=True)
        visitor = client.visitors.pop(known.exposure.service, None)
        if visitor is not None:
            visitor.close()

    def _still_granted(self, client: _Client, known: _Exposed) -> bool:
        return known.denied is not None or self._claims.may_keep(client.peer, known.titles)

    def _forget(self, client: _Client) -> None:
        """It is gone: close what it had open.  Its leases stay for a while."""
        if self._clients.get(client.peer.name) is client:
            del self._clients[client.peer.name]
        if client.lingering is not None and client.lingering.active():
            client.lingering.cancel()
        for known in client.exposed.values():
            self._claims.release(known.titles, known.member, ended=False)
        for visitor in client.visitors.values():
            visitor.close()

    def _lingered(self, client: _Client) -> None:
        """It has not come back in time; the streams of its links may wait for longer."""
        client.lingering = None
        for known in client.exposed.values():
            self._claims.release(known.titles, known.member, ended=False)
        client.exposed.clear()
        left = max(0.0, self._visiting.machinery.resume_timeout - LINGER)
        client.lingering = self._reactor.callLater(left, self._forget, client)

    def _try_again(self) -> None:
        for client in self._clients.values():
            for known in client.exposed.values():
                wanting = known.denied is not None and not client.peer.gone
                if wanting and self._grant(client, known):
                    self._tell(client, known)

    def _urls(self, client: _Client, known: _Exposed) -> tuple[str, ...]:
        host = self._visiting.broker.relay_address(client.peer).host
        return tuple(url for title in known.titles for url in title.urls(host))

    def _tell(self, client: _Client, known: _Exposed) -> None:
        service, denied = known.exposure.service, known.denied
        if denied is not None:
            self._log.warn(
                "{client}/{service} is not made public: {why}",
                client=client.peer.name,
                service=service,
                why=denied.why,
            )
            client.peer.send(
                Exposed(service_id=service, error=denied.code.value, message=denied.why)
            )
            return
        urls = self._urls(client, known)
        ports = [int(title.value) for title in known.titles if title.kind in ("tcp", "udp")]
        self._log.info(
            "{client}/{service} is public: {urls}",
            client=client.peer.name,
            service=service,
            urls=" ".join(urls),
        )
        client.peer.send(
            Exposed(service_id=service, urls=urls, remote_port=ports[0])
            if ports
            else Exposed(service_id=service, urls=urls)
        )
