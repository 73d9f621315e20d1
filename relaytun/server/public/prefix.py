"""The PROXY protocol's header in front of a stream: it tells the service who the visitor is."""

from __future__ import annotations

import socket
from typing import Any, Literal

from ...ends.machinery import Machinery
from ...plane.meter import Meter
from ...plane.pair import pair
from ...plane.splice import Splice
from ...wire import proxyprotocol


def header(version: Literal["v1", "v2"], source: Any, destination: Any) -> bytes:
    """
    @param source, destination: addresses as C{accept(2)} and C{getsockname(2)} have them; where
        the connection went may be C{None}: the source is told all the same.
    """
    where = _pair_of(source)
    return proxyprotocol.encode(version, where, _pair_of(destination) or _nowhere(where))


def prefixed(machinery: Machinery, sock: socket.socket, first: bytes) -> socket.socket:
    """
    @param sock: somebody's connection; taken over.
    @return: what reads as C{first}, and then as C{sock}.
    """
    near, far = pair()
    near.send(first)  # A new pair has room for a header.
    Splice(machinery.reactor, machinery.pool, sock, near, Meter(), lambda splice, mood: None)
    return far


def _nowhere(source: tuple[str, int] | None) -> tuple[str, int] | None:
    """An address that is none, of the same kind: a header has both or neither."""
    if source is None:
        return None
    return ("::" if ":" in source[0] else "0.0.0.0"), 0


def _pair_of(address: Any) -> tuple[str, int] | None:
    return (address[0], address[1]) if isinstance(address, tuple) else None
