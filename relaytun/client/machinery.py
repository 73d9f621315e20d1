"""What all sessions of a client share, with its memory of other clients."""

from __future__ import annotations

from dataclasses import dataclass

from ..ends.directpath import Directs
from ..ends.machinery import Machinery
from ..knownpeers import KnownPeers


@dataclass(frozen=True, kw_only=True)
class ClientMachinery(Machinery):
    """
    @ivar known: which identities other clients had.
    @ivar directs: makes the ways of links without the relay, if there are to be any.
    """

    known: KnownPeers
    directs: Directs | None = None

    def close(self) -> None:
        """Let go of what is kept for the next stream, and of what others keep for this client."""
        super().close()
        if self.directs is not None:
            self.directs.close()
