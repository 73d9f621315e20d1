"""Tests of L{relaytun.server.metrics} and L{relaytun.server.adminhttp}."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.logger import Logger

from relaytun.server.adminhttp import admin_site
from relaytun.server.metrics import LAG_INTERVAL, Metrics
from relaytun.wire import messages

from .support import ANN, BOB, BrokerCase, Channel, tcp


class MetricsTests(BrokerCase):
    """What a scrape says."""

    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics(self.clock, self.broker, lambda: 7, lambda: 8, lambda: 9)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def test_sessions(self) -> None:
        """Clients, sessions, channels and bytes are those of now; bytes never go back."""
        provider = self.client("p", tcp("ssh"), tcp("web", mode="link"), identity=ANN)
        visitor = self.client("v", identity=BOB)
        session, _ = self.granted(visitor, provider)
        self.granted(visitor, provider, "web", mode="link")
        Channel(session)
        session.meter.forward, session.meter.backward = 10, 20
        self.assertEqual(self.value("relaytun_clients"), 2)
        self.assertEqual(self.value("relaytun_sessions", mode="raw"), 1)
        self.assertEqual(self.value("relaytun_sessions", mode="link"), 1)
        self.assertEqual(self.value("relaytun_channels"), 1)
        for _ in range(2):
            self.assertEqual(self.value("relaytun_bytes_total", direction="in"), 10)
            self.assertEqual(self.value("relaytun_bytes_total", direction="out"), 20)
            visitor.says(messages.CloseSession(session_id=session.id))
        self.assertEqual(self.value("relaytun_sessions_ended_total", mood="happy"), 1)
        self.assertEqual(self.value("relaytun_sessions", mode="raw"), 0)

    def test_refused(self) -> None:
        """Logins that are refused count by their code."""
        self.client("a", identity=ANN)
        self.connect().register("a", identity=BOB)
        self.assertEqual(self.value("relaytun_logins_refused_total", code="id_in_use"), 1)

    def test_others(self) -> None:
        """What others count is shown, and so are the figures of the process."""
        self.metrics.observe(200)
        self.metrics.observe(204)
        self.metrics.observe(502)
        self.assertEqual(self.value("relaytun_http_requests_total", status="2xx"), 2)
        self.assertEqual(self.value("relaytun_http_requests_total", status="5xx"), 1)
        self.assertEqual(self.value("relaytun_legs_open"), 7)
        self.assertEqual(self.value("relaytun_public_connections"), 8)
        self.assertEqual(self.value("relaytun_hooks_dropped_total"), 9)
        self.assertIn(b"process_resident_memory_bytes", self.metrics.text())

    def test_errors(self) -> None:
        """An error in the log, such as that of a full disk, is counted by who said so."""
        self.metrics.start()
        log = Logger("relaytun.test")
        for say in (log.error, log.critical, log.warn, log.info):
            say("cannot write")
        self.metrics.stop()
        log.error("later")
        self.assertEqual(self.value("relaytun_errors_total", namespace="relaytun.test"), 2)

    def test_lag(self) -> None:
        """A reactor that comes late shows it, and the worst is remembered."""
        self.metrics.start()
        self.clock.advance(LAG_INTERVAL)
        self.assertEqual(self.value("relaytun_reactor_lag_seconds"), 0)
        self.clock.advance(LAG_INTERVAL + 0.5)
        self.assertAlmostEqual(self.value("relaytun_reactor_lag_seconds") or 0, 0.5)
        self.clock.advance(0.5)
        self.assertEqual(self.value("relaytun_reactor_lag_seconds"), 0)
        self.assertAlmostEqual(self.value("relaytun_reactor_lag_worst_seconds") or 0, 0.5)
        self.metrics.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class PageTests(BrokerCase):
    """The administrator's port."""

    def setUp(self) -> None:
        super().setUp()
        self.why: str | None = None
        metrics = Metrics(self.clock, self.broker)
        self.site: Any = admin_site(self.clock, metrics, lambda: self.why, ["Relay.example"])

    def ask(self, line: str, *headers: str) -> bytes:
        """The answer to a request."""
        protocol = self.site.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        transport = StringTransport()
        protocol.makeConnection(transport)
        lines = [f"{line} HTTP/1.1", *headers, "Connection: close", "", ""]
        protocol.dataReceived("\r\n".join(lines).encode())
        return transport.value()

    def test_pages(self) -> None:
        """The two pages are there, and no others."""
        self.assertIn(b"relaytun_clients 0", self.ask("GET /metrics", "Host: localhost"))
        self.assertTrue(self.ask("GET /healthz", "Host: [::1]:9").endswith(b"\r\n\r\nok\n"))
        for path in ("/", "/metrics/x", "/healthz/", "/x"):
            self.assertNotIn(b" 200 ", self.ask(f"GET {path}y", "Host: localhost"))

    def test_unhealthy(self) -> None:
        """A server that does not serve says so, and why."""
        self.why = "draining"
        answer = self.ask("GET /healthz", "Host: 127.0.0.1:9090")
        self.assertIn(b" 503 ", answer)
        self.assertTrue(answer.endswith(b"draining\n"))

    def test_hosts(self) -> None:
        """A browser that was led here by a name of somebody else's gets nothing."""
        for host in ("evil.example", "localhost.evil.example", "", "relay.example.", "[::1"):
            with self.subTest(host):
                answer = self.ask("GET /metrics", f"Host: {host}")
                self.assertNotIn(b" 200 ", answer, host)
                self.assertNotIn(b"relaytun_clients", answer)
        self.assertNotIn(b" 200 ", self.ask("GET /metrics"))
        self.assertNotIn(
            b" 200 ", self.ask("GET /metrics", "Host: evil.example", "Host: localhost")
        )
        for host in ("relay.example", "RELAY.example:9090", "203.0.113.5", "LOCALHOST"):
            self.assertIn(b" 200 ", self.ask("GET /metrics", f"Host: {host}"), host)

    def test_methods(self) -> None:
        """There is nothing to be changed."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            answer = self.ask(f"{method} /metrics", "Host: localhost", "Content-Length: 0")
            self.assertIn(b" 405 ", answer)
