"""Tests of L{relaytun.client.udp_provider}; more of it in C{test_udp_visitor}."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client import udp_provider
from relaytun.client.udp_provider import MOST_WAITING, ProviderDatagrams

from ..ends.datagram_support import Network


class ProviderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Network()
        self.addCleanup(self.net.close)
        self.service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.service.bind(("127.0.0.1", 0))
        self.service.setblocking(False)
        self.addCleanup(self.service.close)
        self.port = self.service.getsockname()[1]
        self.log = mock.Mock()
        self.patch(ProviderDatagrams, "_log", self.log)

    def provider(self, host: str = "127.0.0.1") -> ProviderDatagrams:
        made = ProviderDatagrams(
            self.net.reactor,  # type: ignore[arg-type]
            self.net.provider,
            host,
            self.port,
            self.net.buffer,
        )
        self.addCleanup(made.close)
        return made

    def comes(self, *payloads: bytes, flow: int = 1) -> None:
        self.net.provider.received(flow, payloads)
        self.net.reactor.pump()

    def heard(self) -> list[bytes]:
        came = []
        while True:
            try:
                came.append(self.service.recv(65536))
            except BlockingIOError:
                return came

    def named(self, *addresses: str) -> list[Deferred[Any]]:
        """The service's name has these addresses, when the first Deferred fires."""
        asked: list[Deferred[Any]] = []

        def resolve(reactor: object, host: str) -> Deferred[Any]:
            asked.append(Deferred())
            return asked[-1]

        self.patch(udp_provider, "addresses_of", resolve)
        return asked

    def test_name(self) -> None:
        """Datagrams wait for the address of the service, up to a number."""
        asked = self.named()
        provider = self.provider("service.example")
        for n in range(MOST_WAITING + 3):
            self.comes(b"%d" % n)
        self.assertEqual(len(asked), 1)
        asked[0].callback([(socket.AF_INET, "127.0.0.1")])
        self.assertEqual(self.heard(), [b"%d" % n for n in range(MOST_WAITING)])
        self.assertEqual(provider.dropped, 3)

    def test_no_address(self) -> None:
        """A name without an address is said once, and asked for again at the next datagram."""
        asked = self.named()
        provider = self.provider("service.example")
        for n in range(3):
            self.comes(b"x")
            asked[n].errback(DNSLookupError("no such name"))
        self.assertEqual(provider.dropped, 3)
        self.assertEqual(self.log.warn.call_count, 1)
        self.comes(b"x")
        provider.close()

    def test_refused(self) -> None:
        """A service that is not there is said once, until it was; and found when it is."""
        address = self.service.getsockname()
        self.service.close()
        provider = self.provider()
        for _ in range(3):
            self.comes(b"x")
            self.comes(b"x")
        self.assertEqual(self.log.warn.call_count, 1)
        self.service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.service.close)
        self.service.bind(address)
        self.comes(b"x")
        _, sender = self.service.recvfrom(10)
        self.service.sendto(b"here", sender)
        self.net.reactor.pump()
        self.service.close()
        self.comes(b"x")
        self.comes(b"x")
        self.assertEqual(self.log.warn.call_count, 2)
        self.assertEqual(provider.flows, 1)

    def test_another_address(self) -> None:
        """When nobody is at the first address of a name, the next one is tried."""
        asked = self.named()
        self.provider("service.example")
        self.comes(b"x")
        asked[0].callback([(socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1")])
        for _ in range(3):
            self.comes(b"y")
        self.assertIn(b"y", self.heard())

    def test_no_descriptor(self) -> None:
        """Without a descriptor the oldest flow makes room; without any flow it is said."""
        provider = self.provider()
        self.comes(b"a", flow=1)
        self.comes(b"b", flow=2)
        real, failures = socket.socket, [errno.EMFILE]

        def exhausted(*args: Any) -> socket.socket:
            if failures:
                raise OSError(failures.pop(), os.strerror(errno.EMFILE))
            return real(*args)

        self.heard()
        with mock.patch.object(udp_provider.socket, "socket", exhausted):
            self.comes(b"c", flow=3)
            self.assertEqual(self.heard(), [b"c"])
            self.assertEqual(provider.flows, 2)
            failures += [errno.EMFILE] * 4
            self.comes(b"d", flow=4)
            self.comes(b"e", flow=5)
        self.assertEqual(self.heard(), [])
        self.assertEqual(provider.dropped, 2)
        self.assertEqual(self.log.warn.call_count, 1)

    def test_unreachable(self) -> None:
        """An address without a route is said, and costs no descriptor."""
        provider = self.provider("255.255.255.255")
        self.comes(b"x")
        self.assertEqual((provider.flows, provider.dropped), (0, 1))
        self.assertEqual(self.log.warn.call_count, 1)
