"""Makes the direct paths of a client's links, with what all of them have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from ..ends.directdatagrams import PunchedPath
from ..ends.directpath import Found, FoundPunched
from ..ends.legs import ClientSession
from ..interfaces import IReactor
from ..nat.guessing import Policy
from ..wire.messages import MeetingAnswer, MeetingOffer, RelayAddress
from .attempt import Attempt
from .direct import Direct, Gathered
from .gathering import Gathering, Offer, gathered
from .mapping import Mappings
from .roaming import Roaming, Way


class Meetings:
    """
    Makes the direct paths of a client's links: see L{relaytun.ends.directpath.Directs}.

    @ivar reflectors: of the servers that the client is signed in at.
    """

    def __init__(
        self,
        reactor: IReactor,
        reflectors: Callable[[], Sequence[RelayAddress]],
        lan_only: bool,
        hard_nat: Policy,
        network_changed: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param reflectors: gives those of a server that the client is signed in at.
        @param lan_only: whether only paths within one network are looked for.
        @param hard_nat: C{no}, C{predict} or C{birthday}.
        @param network_changed: called when this machine has other addresses, while there are links.
        """
        self._others = network_changed
        self._mappings = None if lan_only else Mappings(reactor)
        self._roaming = Roaming(reactor, self._network_changed)
        self._network = ClientNetwork(
            reactor, reflectors, lan_only, hard_nat, self._mappings, self._roaming.use
        )
        self._reactor = reactor

    def make(
        self,
        visitor: bool,
        session: Callable[[], ClientSession | None],
        found: Found,
        punched: FoundPunched | None = None,
        renew: Callable[[], None] = lambda: None,
    ) -> Direct:
        """See L{relaytun.ends.directpath.Directs}."""
        made = Direct(
            self._reactor,
            self._network,
            visitor,
            session,
            found,
            renew,
            self._roaming.remove,
            punched,
        )
        self._roaming.add(made)
        return made

    def prepare(self) -> None:
        """See L{relaytun.ends.directpath.Directs}."""
        if self._mappings is not None:
            self._mappings.search()

    def close(self) -> None:
        """See L{relaytun.ends.directpath.Directs}."""
        self._roaming.close()
        if self._mappings is not None:
            self._mappings.close()

    def _network_changed(self) -> None:
        self._others()
        if self._mappings is not None:
            self._mappings.forget()


class ClientNetwork:
    """See L{relaytun.client.direct.Network}."""

    def __init__(
        self,
        reactor: IReactor,
        reflectors: Callable[[], Sequence[RelayAddress]],
        lan_only: bool,
        hard_nat: Policy,
        mappings: Mappings | None = None,
        use: Callable[[Way], None] = lambda way: None,
    ) -> None:
        """
        @param mappings: of the router's ports, if that is to be asked for any.
        @param use: gets each connection that a link uses from then on.
        """
        self._reactor = reactor
        self._gathering = Gathering(reactor, reflectors, mappings, lan_only, hard_nat)
        self._lan_only = lan_only
        self._use = use

    def gather(self) -> Deferred[Gathered]:
        """See L{relaytun.client.direct.Network}."""
        return gathered(self._gathering)  # type: ignore[return-value]

    def meet(
        self,
        ours: Gathered,
        theirs: MeetingOffer | MeetingAnswer,
        key: bytes,
        visitor: bool,
        found: Found,
        punched: Callable[[PunchedPath], None] | None = None,
    ) -> Deferred[None]:
        """See L{relaytun.client.direct.Network}."""
        assert isinstance(ours, Offer)
        attempt = Attempt(self._reactor, ours, theirs, key, visitor, found, self._use)
        attempt.lan_only = self._lan_only
        attempt.datagrams = punched
        return attempt.start()
