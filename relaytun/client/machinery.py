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
