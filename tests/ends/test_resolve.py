"""Tests of L{relaytun.ends.resolve}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from relaytun.ends.resolve import addresses_of


class FakeReactor:
    """A reactor whose names are known."""

    def __init__(self, *addresses: Any) -> None:
        self.nameResolver = self
        self._addresses = addresses

    def resolveHostName(self, receiver: Any, host: str) -> None:
        receiver.resolutionBegan(None)
        for address in self._addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()
        receiver.resolutionComplete()


class AddressesTests(SynchronousTestCase):
    def of(self, host: str, *addresses: Any) -> Any:
        reactor: Any = FakeReactor(*addresses)
        done = Deferred.fromCoroutine(addresses_of(reactor, host))
        return self.successResultOf(done)

    def test_literal(self) -> None:
        """An address is taken as it is."""
        self.assertEqual(self.of("192.0.2.1"), [(socket.AF_INET, "192.0.2.1")])
        self.assertEqual(self.of("::1"), [(socket.AF_INET6, "::1")])

    def test_names(self) -> None:
        """All addresses of a name, each once, IPv4 first."""
        six, four = IPv6Address("UDP", "::1", 0), IPv4Address("UDP", "127.0.0.1", 0)
        self.assertEqual(
            self.of("localhost", six, four, four),
            [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")],
        )

    def test_no_address(self) -> None:
        """A name without an address is an error."""
        reactor: Any = FakeReactor()
        done = Deferred.fromCoroutine(addresses_of(reactor, "nowhere.example"))
        self.failureResultOf(done, DNSLookupError)
