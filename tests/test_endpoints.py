"""Tests of L{relaytun.endpoints}."""

from __future__ import annotations

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from relaytun.endpoints import server_endpoint


class ServerEndpointTests(SynchronousTestCase):
    """From a port of the configuration to an endpoint of Twisted."""

    def test_port(self) -> None:
        """A port number listens on the host, whose colons are escaped."""
        self.assertEqual(server_endpoint("9000", "0.0.0.0"), "tcp:9000:interface=0.0.0.0")
        self.assertEqual(server_endpoint("0", "::1"), r"tcp:0:interface=\:\:1")

    def test_twisted_reads_it(self) -> None:
        """Twisted takes the description as it is meant, with IPv6 too."""
        for host in ("127.0.0.1", "::1"):
            reactor = MemoryReactor()
            endpoint = serverFromString(reactor, server_endpoint("9000", host))
            self.successResultOf(endpoint.listen(Factory()))
            ((port, _, _, interface),) = reactor.tcpServers
            self.assertEqual((port, interface), (9000, host))

    def test_description(self) -> None:
        """A description is left as it is."""
        for text in ("tcp:9000", "tcp6:9000:interface=\\:\\:", "unix:/run/relaytun", "systemd:x"):
            self.assertEqual(server_endpoint(text, "127.0.0.1"), text)

    def test_refused(self) -> None:
        """TLS is not asked for here, and what Twisted cannot listen on is told."""
        for text, saying in {
            "ssl:9000": "speaks TLS by itself",
            "tls:9000": "speaks TLS by itself",
            "127.0.0.1:9000": "not an endpoint description",
            "70000": "not a port",
        }.items():
            error = self.assertRaises(ValueError, server_endpoint, text, "127.0.0.1")
            self.assertIn(saying, str(error))
