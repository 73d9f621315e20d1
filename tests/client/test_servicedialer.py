"""Tests for L{relaytun.client.servicedialer}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client.servicedialer import ServiceDialer
from relaytun.config import ServiceConfig

from .support import warnings_to

WEB = ServiceConfig(id="web", protocol="tcp", local_host="localhost", local_port=80)


class ServiceDialerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.outcomes: list[Any] = []
        self.dialled: list[Any] = []
        self.lines: list[Any] = []
        self.dialer = ServiceDialer(self)  # type: ignore[arg-type]
        self.patch(self.dialer, "_log", warnings_to(self.lines))

    def dial(self, host: str, port: int) -> Deferred[socket.socket]:
        self.dialled.append((host, port))
        outcome = self.outcomes.pop(0)
        return fail(outcome) if isinstance(outcome, Exception) else succeed(outcome)

    def dial_web(self) -> Deferred[socket.socket]:
        return Deferred.fromCoroutine(self.dialer.dial(WEB))

    def test_answers(self) -> None:
        """What the service's address answers with is handed on."""
        sock = object()
        self.outcomes = [sock]
        self.assertIs(self.successResultOf(self.dial_web()), sock)
        self.assertEqual(self.dialled, [("localhost", 80)])

    def test_complains_once(self) -> None:
        """A service that is down is one log line, until it has answered again."""
        self.outcomes = [OSError("down")] * 3
        for _ in range(3):
            self.failureResultOf(self.dial_web(), OSError)
        self.assertEqual(len(self.lines), 1)
        self.outcomes = [object(), ConnectError("down")]
        self.successResultOf(self.dial_web())
        self.failureResultOf(self.dial_web(), ConnectError)
        self.assertEqual(len(self.lines), 2)
