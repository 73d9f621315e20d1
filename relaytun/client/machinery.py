"""What all sessions of a client share, with its memory of other clients."""

from __future__ import annotations

from dataclasses import dataclass

from ..ends.machinery import Machinery
from ..knownpeers import KnownPeers


@dataclass(frozen=True, kw_only=True)
class ClientMachinery(Machinery):
    """
    @ivar known: which identities other clients had.
    """

    known: KnownPeers
