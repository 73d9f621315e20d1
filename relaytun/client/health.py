"""
Health checks: whether the services that this client offers work.

A service is taken to be healthy until so many checks in a row have failed, and again after one
that succeeds.  What follows from it is the server's business, which is told of each change, and
after each login of what is not well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseFailed
from twisted.web.http_headers import Headers

from ..config import HealthCheck, ServiceConfig, values
from ..interfaces import IReactor
from ..plane.dial import Dialer
from ..wire import messages
from ..wire.messages import Message
from ..wire.text import printable
from .signalling import Control

Ask = Callable[[ServiceConfig, HealthCheck], Awaitable[None]]
"""Asks a service once; an exception that is none of being given up says why it is not well."""


class NotWell(Exception):
    """The service answered, but not well."""


class HealthChecks(Service):
    """
    For all services of a client; also a L{Listener <relaytun.client.connection.Listener>}, for
    each of its servers.
    """

    def __init__(
        self,
        reactor: IReactor,
        services: Iterable[ServiceConfig],
        report: Callable[[str, bool], None],
        ask: Ask | None = None,
    ) -> None:
        """
        @param report: called with the id of a service and whether it is healthy, when that changes.
        @param ask: how to ask; for tests.
        """
        self._reactor = reactor
        self._report = report
        self._ask = ask or Questions(reactor)
        self._checks: dict[str, _Check] = {}
        self.use(services)

    @property
    def unhealthy(self) -> list[str]:
        """The ids of the services that are not well."""
        return [name for name, check in self._checks.items() if not check.healthy]

    def use(self, services: Iterable[ServiceConfig]) -> None:
        """
        Check these from now on; of those that are checked the same way already, go on.

        Of a service that was not well nothing is known any more, and so it is taken to be well.
        """
        before, self._checks = self._checks, {}
        for service in services:
            if service.health_check is None:
                continue
            check = before.pop(service.id, None)
            if check is None or not check.is_of(service):
                if check is not None:
                    self._drop(check)
                check = _Check(self._reactor, service, service.health_check, self._ask)
                check.changed = self._report
                if self.running:
                    check.start()
            self._checks[service.id] = check
        for check in before.values():
            self._drop(check)

    def startService(self) -> None:
        super().startService()
        for check in self._checks.values():
            check.start()

    def stopService(self) -> None:
        super().stopService()
        for check in self._checks.values():
            check.stop()

    def _drop(self, check: _Check) -> None:
        check.stop()
        if not check.healthy:
            self._report(check.service.id, True)

    def control_up(self, control: Control) -> None:
        """A server takes everything to be well that it is not told of."""
        for name in self.unhealthy:
            control.send(messages.ServiceHealth(service_id=name, healthy=False))

    def control_down(self) -> None:
        """The checks go on."""

    def received(self, message: Message) -> None:
        """The server has nothing to say to it."""


class Questions:
    """The two ways to ask a service; they leave no connection behind."""

    def __init__(self, reactor: IReactor) -> None:
        self._dialer = Dialer(reactor)
        self._agent = Agent(reactor)

    async def __call__(self, service: ServiceConfig, check: HealthCheck) -> None:
        """@raise Exception: it is not well."""
        if check.kind == "tcp":
            (await self._dialer.dial(service.local_host, service.local_port)).close()
        else:
            await self._get(service, check.path)

    async def _get(self, service: ServiceConfig, path: str) -> None:
        place = f"{values.bracketed(service.local_host)}:{service.local_port}"
        headers = Headers({"User-Agent": ["relaytun health check"]})
        try:
            response = await self._agent.request(b"GET", f"http://{place}{path}".encode(), headers)
        except ResponseFailed as error:
            raise NotWell(error.reasons[0].getErrorMessage()) from None
        response.deliverBody(_Unread())
        if not 200 <= response.code < 400:
            raise NotWell(f"the answer is {response.code}")


class _Unread(Protocol):
    """Ends a connection, however much is still to come."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.stopProducing()


class _Check:
    """
    The check of one service.

    @ivar service: what is checked.
    @ivar healthy: what it says now.
    @ivar changed: is told.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, service: ServiceConfig, check: HealthCheck, ask: Ask
    ) -> None:
        self.healthy = True
        self.changed: Callable[[str, bool], None] = lambda name, healthy: None
        self._reactor = reactor
        self.service = service
        self._check = check
        self._ask = ask
        self._failures = 0
        self._stopped = False
        self._running: Deferred[None] | None = None

    def is_of(self, service: ServiceConfig) -> bool:
        """Whether this is how C{service} is checked."""
        return self._key(self.service) == self._key(service)

    @staticmethod
    def _key(service: ServiceConfig) -> tuple[object, ...]:
        return service.local_host, service.local_port, service.health_check

    def start(self) -> None:
        """Ask at once, and then again and again."""
        self._stopped = False
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        while True:
            asking = Deferred.fromCoroutine(self._once())
            asking.addTimeout(self._check.timeout, self._reactor, _no_answer)
            try:
                await asking
            except Exception as error:
                if self._stopped:  # Not every error of who is given up is a CancelledError.
                    return
                self._failed(printable(str(error)) or type(error).__name__)
            else:
                self._succeeded()
            await deferLater(self._reactor, self._check.interval)

    async def _once(self) -> None:
        await self._ask(self.service, self._check)

    def _failed(self, why: str) -> None:
        self._failures += 1
        if self.healthy and self._failures >= self._check.failures:
            self._log.warn(
                "{service} fails its health check, and gets no new sessions: {why}",
                service=self.service.id,
                why=why,
            )
            self._change(False)

    def _succeeded(self) -> None:
        self._failures = 0
        if not self.healthy:
            self._log.info("{service} is well again", service=self.service.id)
            self._change(True)

    def _change(self, healthy: bool) -> None:
        self.healthy = healthy
        self.changed(self.service.id, healthy)

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the health check failed", failure)


def _no_answer(result: object, seconds: float) -> Failure:
    return Failure(NotWell(f"no answer within {seconds:g} s"))
