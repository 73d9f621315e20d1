"""Names to addresses, for UDP: there is no connection whose success would choose among them."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IResolutionReceiver
from zope.interface import implementer

from ..interfaces import IReactor
from ..plane.dial import is_literal


async def addresses_of(reactor: IReactor, host: str) -> list[tuple[socket.AddressFamily, str]]:
    """
    @return: the family and text of each of the host's addresses; IPv4 first, where most services
        of UDP are that listen to one family only.
    @raise DNSLookupError: if there is none.
    """
    if is_literal(host):
        return [(_family(host), host)]
    found: list[str] = await _resolve(reactor, host)
    if not found:
        raise DNSLookupError(f"no address for {host}")
    return sorted((_family(each), each) for each in found)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _resolve(reactor: IReactor, host: str) -> Deferred[list[str]]:
    done: Deferred[list[str]] = Deferred()
    reactor.nameResolver.resolveHostName(_Addresses(done), host)
    return done


@implementer(IResolutionReceiver)
class _Addresses:
    """Gathers what the resolver finds."""

    def __init__(self, done: Deferred[list[str]]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolution: Any) -> None:
        """It takes a while."""

    def addressResolved(self, address: Any) -> None:
        if address.host not in self._found:
            self._found.append(address.host)

    def resolutionComplete(self) -> None:
        if not self._done.called:
            self._done.callback(self._found)
