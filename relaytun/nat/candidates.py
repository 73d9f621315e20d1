"""Which addresses that a peer names are tried at all, and in which rhythm."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

#: Addresses that are tried from the start; a peer names about ten.
MOST_CANDIDATES = 16
#: Hops of the first packet: it opens our NAT, and does not get to the peer's, where a packet
#: that nobody asked for yet would do harm.
FIRST_HOPS = 4
#: Of the attempts of a session.  Four hops are right behind a carrier's NAT, but where the peer is
#: nearer than that, they get there.
_HOPS = (FIRST_HOPS, 2, 3)
#: Seconds from "go" until an attempt is given up.
TIMEOUT = 5.0
#: Seconds from "go" until ports are guessed.
GUESSING = 1.0


class NoPath(Exception):
    """There is no direct path; the text says what was seen, in words for people."""


def first_hops(attempt: int) -> int:
    """
    Hops of the first packet to each address.

    @param attempt: which attempt of a session it is, from 1 on.
    """
    return _HOPS[(attempt - 1) % len(_HOPS)]


def usable(
    candidates: Iterable[tuple[str, int]], ipv6: bool = False, loopback: bool = False
) -> list[tuple[str, int]]:
    """
    Those that a packet may be sent to: unicast addresses of the socket's family, each once.

    @param loopback: whether this machine itself is among them.
    """
    good: dict[tuple[str, int], None] = {}
    for host, port in candidates:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            continue
        if not 0 < port < 65536 or (address.version == 6) != ipv6:
            continue
        if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
            continue
        if address.is_loopback and not loopback:
            continue
        good[str(address), port] = None
    return list(good)[:MOST_CANDIDATES]


def schedule() -> Iterator[float]:
    """Seconds, from its first packet, at which an address is tried."""
    yield 0.0
    milliseconds = 50
    while True:
        yield milliseconds / 1000
        milliseconds += 100 if milliseconds < 950 else 250
