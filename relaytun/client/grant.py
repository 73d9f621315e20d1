"""What a server grants a visitor: whether it is what the user means, and the session made of it."""

from __future__ import annotations

from msgspec import UNSET

from ..config import ConnectConfig
from ..ends.legs import ClientSession
from ..ends.refusals import PeerRefused
from ..knownpeers import KnownPeers
from ..wire.messages import CreateSession
from ..wire.text import printable


def session_of(granted: CreateSession, connect: ConnectConfig, known: KnownPeers) -> ClientSession:
    """
    The visitor's session that was granted.

    @raise UserError: if this is not what the user means to visit.
    """
    _judge(granted, connect, known)
    try:
        return ClientSession.granted(granted)
    except ValueError:
        raise PeerRefused("the server granted a session with no channel key") from None


def _judge(granted: CreateSession, connect: ConnectConfig, known: KnownPeers) -> None:
    name, service = granted.peer_client_id, granted.service.id
    if service != connect.service or connect.target not in (None, name):
        raise PeerRefused("the server granted another service than the one asked for")
    if granted.service.protocol == "udp" and granted.mode != "link":
        raise PeerRefused("a udp service has to be offered over a link")
    if granted.mode == "link":
        if granted.peer_fingerprint is UNSET:
            raise PeerRefused(f"the server does not tell {name}'s identity")
        known.check(name, str(granted.peer_fingerprint), connect.peer_fingerprint)
    elif granted.mode != "raw":
        raise PeerRefused(
            f"{name} offers {service} in mode {printable(granted.mode)}, which this client does "
            "not know; use a newer relaytun"
        )
    elif connect.mode == "link" or connect.peer_fingerprint is not None:
        raise PeerRefused(
            f"{name} offers {service} unencrypted (mode = raw), and this client asks for an "
            "encrypted link"
        )
    elif connect.mode != "raw" and known.was_linked(name, service):
        raise PeerRefused(known.downgraded(name, service))
