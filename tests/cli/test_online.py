"""Tests for L{relaytun.cli.online}: servers that are scripted, by a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli import online as module
from relaytun.cli.online import all_finished, all_online, online
from relaytun.client.connection import ServerConnection
from relaytun.client.signalling import LoginError
from relaytun.config import ClientConfig, ServerAddress

from ..client.test_connection import FakeControl


class OnlineTests(SynchronousTestCase):
    """
    @ivar logins: the attempts that are under way, by the number of their server.
    """

    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.logins: list[list[Deferred[Any]]] = [[], []]
        self.leave: Deferred[None] = Deferred()
        self.config = ClientConfig(
            servers=tuple(ServerAddress(host=name, port=1) for name in "ab"), state_dir=Path("/")
        )
        self.connections = [self.connection(each) for each in self.logins]
        self.patch(module, "connections_to", lambda *args, **kwargs: self.connections)

    def connection(self, logins: list[Deferred[Any]]) -> ServerConnection:
        def login() -> Deferred[Any]:
            logins.append(Deferred())
            return logins[-1]

        return ServerConnection(
            self.clock, login, first_must_succeed=True, auto_reconnect=True, jitter=lambda: 1.0
        )

    def start(self, context: Any) -> tuple[list[Any], Deferred[None]]:
        """@return: what the context gives, as soon as it does; and its end."""
        given: list[Any] = []

        async def use() -> None:
            async with context(self.clock, self.config, object()) as it:
                given.append(it)
                await self.leave

        return given, Deferred.fromCoroutine(use())

    def test_one_dead(self) -> None:
        """One server that answers is enough; the other is tried again, though it failed first."""
        given, end = self.start(all_online)
        self.logins[0][0].errback(LoginError("down"))
        self.assertEqual(given, [])
        self.logins[1][0].callback(FakeControl())
        self.assertEqual(given, [self.connections])
        self.assertEqual(len(self.logins[0]), 2)
        self.logins[0][1].errback(LoginError("still down"))
        self.assertNoResult(self.connections[0].finished)
        self.assertNoResult(end)
        self.leave.callback(None)
        self.successResultOf(end)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_slow(self) -> None:
        """A server that takes its time does not keep the other waiting, and is used later."""
        given, end = self.start(all_online)
        self.logins[1][0].callback(FakeControl())
        self.assertEqual(given, [self.connections])
        late = FakeControl()
        self.logins[0][0].callback(late)
        self.assertIs(self.connections[0].control, late)
        self.leave.callback(None)
        self.successResultOf(end)
        self.assertTrue(late.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_one_fails_later(self) -> None:
        """A server that fails after the other has answered is tried again, too."""
        _, end = self.start(all_online)
        self.logins[1][0].callback(FakeControl())
        self.logins[0][0].errback(LoginError("down"))
        self.assertNoResult(self.connections[0].finished)
        self.clock.advance(2)
        self.assertEqual(len(self.logins[0]), 2)
        self.leave.callback(None)
        self.logins[0][1].errback(LoginError("cancelled"))
        self.successResultOf(end)

    def test_all_dead(self) -> None:
        """Without any server it fails, with what the last one says; nothing goes on."""
        given, end = self.start(all_online)
        self.logins[1][0].errback(LoginError("b is down"))
        self.assertNoResult(end)
        self.logins[0][0].errback(LoginError("a is down"))
        self.assertEqual(str(self.failureResultOf(end, LoginError).value), "a is down")
        self.assertEqual(given, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_online(self) -> None:
        """Whoever needs one server only gets the one that answers."""
        given, end = self.start(online)
        self.logins[0][0].errback(LoginError("down"))
        self.logins[1][0].callback(FakeControl())
        self.assertEqual(given, [self.connections[1]])
        self.leave.callback(None)
        self.logins[0][1].errback(LoginError("cancelled"))
        self.successResultOf(end)

    def test_error_inside(self) -> None:
        """What fails inside comes out, after the good-bye."""
        control = FakeControl()
        _, end = self.start(online)
        self.logins[0][0].callback(control)
        self.leave.errback(LoginError("enough"))
        self.logins[1][0].errback(LoginError("cancelled"))
        self.assertEqual(str(self.failureResultOf(end, LoginError).value), "enough")
        self.assertTrue(control.closed)

    def test_all_finished(self) -> None:
        """There is none left when the last server is given up."""
        over = all_finished(self.connections)
        self.connections[0].finished.callback(LoginError("one"))
        self.assertNoResult(over)
        self.connections[1].finished.callback(LoginError("two"))
        self.assertEqual(str(self.successResultOf(over)), "two")
