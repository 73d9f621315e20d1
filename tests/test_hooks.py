"""Tests of L{relaytun.hooks}: with an agent in memory, and one real request."""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from relaytun.hooks import AT_ONCE, LAST_WORDS, MOST_WAITING, TIMEOUT, Hooks

URL = "https://hook:s3cret@hooks.example/path?key=s3cret"


class Response:
    """An answer without a body."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.phrase = b""

    def deliverBody(self, protocol: Any) -> None:
        from twisted.python.failure import Failure
        from twisted.web.client import ResponseDone

        protocol.makeConnection(StringTransport())
        protocol.connectionLost(Failure(ResponseDone()))


class Agent:
    """
    Takes requests and answers when it is told to.

    @ivar bodies: of the requests.
    @ivar answers: Deferreds of the requests that wait, or what to give at once.
    """

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.urls: list[bytes] = []
        self.logins: list[bytes] = []
        self.waiting: list[Deferred[Any]] = []
        self.at_once: Any = None

    def request(self, method: bytes, url: bytes, headers: Any, body: Any) -> Deferred[Any]:
        assert method == b"POST"
        transport = StringTransport()
        body.startProducing(transport)
        assert len(transport.value()) == body.length
        self.urls.append(url)
        self.logins += headers.getRawHeaders(b"authorization")
        self.bodies.append(json.loads(transport.value()))
        if self.at_once is not None:
            return self.at_once()
        answer: Deferred[Any] = Deferred()
        self.waiting.append(answer)
        return answer


class HooksTests(SynchronousTestCase):
    """What becomes of an event."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.agent = Agent()
        self.hooks = Hooks(self.clock, {"up": URL}, self.agent, lambda: 1000.0)  # type: ignore[arg-type]

    def test_told(self) -> None:
        """The hook gets the event, the time and the fields as JSON, by its login."""
        self.hooks.fire("up", client="a")
        self.hooks.fire("down", client="a")
        self.assertEqual(self.agent.bodies, [{"event": "up", "time": 1000.0, "client": "a"}])
        self.assertEqual(self.agent.urls, [b"https://hooks.example/path?key=s3cret"])
        self.assertEqual(self.agent.logins, [b"Basic " + base64.b64encode(b"hook:s3cret")])

    def test_few_at_once(self) -> None:
        """So many requests run at once; the next one begins when one has ended."""
        for number in range(AT_ONCE + 2):
            self.hooks.fire("up", number=number)
        self.assertEqual(len(self.agent.bodies), AT_ONCE)
        self.agent.waiting[0].callback(Response(204))
        self.assertEqual(len(self.agent.bodies), AT_ONCE + 1)
        self.assertEqual(self.agent.bodies[-1]["number"], AT_ONCE)

    def test_bounded(self) -> None:
        """What is too much is dropped and counted, and said once."""
        with capturedLogs() as events:
            for _ in range(AT_ONCE + MOST_WAITING + 5):
                self.hooks.fire("up")
        self.assertEqual(self.hooks.dropped, 5)
        self.assertEqual(len(events), 1)

    def test_slow(self) -> None:
        """A hook that does not answer costs its time and no more."""
        with capturedLogs() as events:
            for _ in range(AT_ONCE + 1):
                self.hooks.fire("up")
            self.clock.advance(TIMEOUT)
        self.assertEqual(len(self.agent.bodies), AT_ONCE + 1)
        (event,) = events
        self.assertIn("no answer in 5 s", event["why"])

    def test_failures_are_said_once(self) -> None:
        """Failures are logged once until it works again, and never with the secrets of the URL."""
        with capturedLogs() as events:
            self.agent.at_once = lambda: fail(ConnectionRefusedError())
            self.hooks.fire("up")
            self.agent.at_once = lambda: succeed(Response(500))
            self.hooks.fire("up")
            self.agent.at_once = lambda: succeed(Response(200))
            self.hooks.fire("up")
            self.agent.at_once = lambda: succeed(Response(302))
            self.hooks.fire("up")
        self.assertEqual(
            [event["log_format"] for event in events],
            [
                "hook {event} at {host} failed: {why}",
                "hook {event} works again",
                "hook {event} at {host} failed: {why}",
            ],
        )
        self.assertEqual(events[2]["why"], "it answers HTTP 302")
        self.assertNotIn("s3cret", repr(events))

    def test_last_words(self) -> None:
        """An end waits for what is under way, but not long."""
        self.assertIs(self.successResultOf(self.hooks.stop()), None)
        self.hooks.fire("up")
        stopped = self.hooks.stop()
        self.assertNoResult(stopped)
        self.agent.waiting.pop().callback(Response(200))
        self.successResultOf(stopped)
        for _ in range(AT_ONCE + 1):
            self.hooks.fire("up")
        stopped = self.hooks.stop()
        self.clock.advance(LAST_WORDS)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.agent.bodies), 1 + AT_ONCE)


class RealTests(TestCase):
    """With Twisted's own agent."""

    async def test_request(self) -> None:
        """A real server gets the request."""
        got: Deferred[tuple[Any, Any]] = Deferred()

        class Hook(Resource):
            isLeaf = True

            def render_POST(self, request: Any) -> bytes:
                content_type = request.getHeader("content-type")
                got.callback((content_type, json.loads(request.content.read())))
                return b"thanks"

        port = reactor.listenTCP(0, Site(Hook()), interface="127.0.0.1")  # type: ignore[attr-defined]
        url = f"http://127.0.0.1:{port.getHost().port}/hook"
        hooks = Hooks(reactor, {"up": url})  # type: ignore[arg-type]
        try:
            hooks.fire("up", client="a")
            content_type, body = await got
            await hooks.stop()
        finally:
            await port.stopListening()
        self.assertEqual(content_type, "application/json")
        self.assertEqual((body["event"], body["client"]), ("up", "a"))
