"""Tests for L{relaytun.client.health}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from relaytun.client.health import HealthChecks, NotWell, Questions
from relaytun.config import HealthCheck, ServiceConfig
from relaytun.wire import messages

from .test_connection import FakeControl

CHECK = HealthCheck(kind="tcp", interval=10.0, timeout=3.0, failures=3)


def service(name: str = "web", port: int = 1, check: HealthCheck | None = CHECK) -> ServiceConfig:
    return ServiceConfig(
        id=name, protocol="tcp", local_host="127.0.0.1", local_port=port, health_check=check
    )


class HealthChecksTests(SynchronousTestCase):
    """
    When a service is healthy.

    @ivar asked: what was asked, with the answer to come.
    @ivar reports: what was reported.
    """

    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.asked: list[tuple[str, Deferred[None]]] = []
        self.reports: list[tuple[str, bool]] = []

    def checks(self, *services: ServiceConfig) -> HealthChecks:
        def ask(service: ServiceConfig, check: HealthCheck) -> Deferred[None]:
            answer: Deferred[None] = Deferred()
            self.asked.append((service.id, answer))
            return answer

        checks = HealthChecks(
            self.clock, services, lambda *report: self.reports.append(report), ask
        )
        checks.startService()
        self.addCleanup(checks.stopService)
        return checks

    def answer(self, well: bool, after: float = 10.0) -> None:
        """The last question is answered, and C{after} seconds go by."""
        _, answer = self.asked[-1]
        if well:
            answer.callback(None)
        else:
            answer.errback(NotWell("no"))
        self.clock.advance(after)

    def test_failures_in_a_row(self) -> None:
        """So many failures in a row are reported once, and so is the first success after them."""
        checks = self.checks(service())
        for well in (True, False, False, True, False, False):
            self.answer(well)
        self.assertEqual((self.reports, checks.unhealthy), ([], []))
        with capturedLogs() as events:
            for well in (False, False, True, True):
                self.answer(well)
        self.assertEqual(self.reports, [("web", False), ("web", True)])
        self.assertEqual([event["service"] for event in events], ["web", "web"])
        self.assertEqual(checks.unhealthy, [])

    def test_interval(self) -> None:
        """The first question comes at once, the next one so long after the answer."""
        self.checks(service())
        self.assertEqual(len(self.asked), 1)
        self.clock.advance(2)
        self.answer(True, 9.9)
        self.assertEqual(len(self.asked), 1)
        self.clock.advance(0.1)
        self.assertEqual(len(self.asked), 2)

    def test_timeout(self) -> None:
        """No answer in time is a failure, and its question is given up."""
        self.checks(service(check=HealthCheck(kind="tcp", timeout=3.0, failures=1)))
        with capturedLogs() as events:
            self.clock.advance(3)
        self.assertEqual(self.reports, [("web", False)])
        self.assertEqual(events[0]["why"], "no answer within 3 s")
        self.assertTrue(self.asked[0][1].called)

    def test_stop(self) -> None:
        """Once stopped it asks nothing and reports nothing."""
        checks = self.checks(service(check=HealthCheck(kind="tcp", failures=1)))
        checks.stopService()
        self.clock.advance(100)
        self.assertEqual((len(self.asked), self.reports), (1, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_only_those_that_have_one(self) -> None:
        """A service without a check is left alone."""
        self.checks(service("a", check=None), service("b"))
        self.assertEqual([name for name, _ in self.asked], ["b"])

    def test_use(self) -> None:
        """Other services may come; what is known of those that stay is kept."""
        once = HealthCheck(kind="tcp", failures=1)
        checks = self.checks(service("a", check=once), service("b"))
        self.asked[0][1].errback(NotWell("no"))
        checks.use([service("a", check=once), service("c")])
        self.assertEqual([name for name, _ in self.asked], ["a", "b", "c"])
        self.assertTrue(self.asked[1][1].called)
        self.assertEqual(checks.unhealthy, ["a"])
        checks.use([service("a", port=2, check=once)])
        self.assertEqual(self.asked[-1][0], "a")
        self.assertEqual(checks.unhealthy, [])
        self.assertEqual(self.reports, [("a", False), ("a", True)])
        self.asked[-1][1].errback(NotWell("no"))
        checks.use([service("a", check=None)])
        self.assertEqual(self.reports[2:], [("a", False), ("a", True)])

    def test_login(self) -> None:
        """After each login the server is told of those that are not well."""
        checks = self.checks(service("a"), service("b", check=HealthCheck(kind="tcp", failures=1)))
        self.asked[1][1].errback(NotWell("no"))
        control: Any = FakeControl()
        checks.control_up(control)
        self.assertEqual(control.sent, [messages.ServiceHealth(service_id="b", healthy=False)])


class QuestionsTests(TestCase):
    """Real services."""

    timeout = 10

    async def well(self, port: int, kind: str, path: str = "") -> str:
        """What is said against it, if anything."""
        try:
            check = HealthCheck(kind=kind, path=path)
            await Questions(reactor)(service(port=port), check)  # type: ignore[arg-type]
        except Exception as error:
            return str(error)
        return ""

    def web(self) -> int:
        """A web server with a good page, a big one, one that moved and none elsewhere."""

        class Moved(Resource):
            def render_GET(self, request: Any) -> bytes:
                request.redirect(b"http://127.0.0.1:1/")
                return b""

        root = Resource()
        root.putChild(b"good", Data(b"good", "text/plain"))
        root.putChild(b"big", Data(b"x" * 10_000_000, "text/plain"))
        root.putChild(b"moved", Moved())
        port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def free(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            return int(listening.getsockname()[1])

    async def test_tcp(self) -> None:
        """Who accepts a connection is well."""
        self.assertEqual(await self.well(self.web(), "tcp"), "")
        self.assertIn("refused", await self.well(self.free(), "tcp"))

    async def test_http(self) -> None:
        """2xx and 3xx are well, however much comes with it; others are not."""
        gone: list[Deferred[None]] = []
        made = HTTPChannel.connectionMade
        lost = HTTPChannel.connectionLost

        def connected(channel: Any) -> None:
            gone.append(Deferred())
            made(channel)

        def disconnected(channel: Any, reason: Any) -> None:
            lost(channel, reason)
            gone[-1].callback(None)

        self.patch(HTTPChannel, "connectionMade", connected)
        self.patch(HTTPChannel, "connectionLost", disconnected)
        port = self.web()
        for path, expected in {
            "/good": "",
            "/big": "",
            "/moved": "",
            "/none": "the answer is 404",
        }.items():
            self.assertEqual(await self.well(port, "http", path), expected)
            await gone[-1]  # No connection is left behind.
        self.assertIn("refused", await self.well(self.free(), "http", "/"))
