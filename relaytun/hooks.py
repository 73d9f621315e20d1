"""
Hooks: an HTTP POST to the user's URL when something happens.

A hook is told what happened and when, as JSON; of its answer only the status counts.  It can be
slow, dead or hostile without any stream noticing: a few requests run at once, a bounded number
wait, and what is beyond that is dropped and counted.  There is no second attempt.
"""

from __future__ import annotations

import base64
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    TimeoutError as DeferredTimeout,
    succeed,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from .interfaces import IReactor
from .wire.text import printable

#: Seconds for one request, answer and all.
TIMEOUT = 5.0
#: Requests at once, and those that wait for their turn.
AT_ONCE = 4
MOST_WAITING = 256
#: Seconds that a daemon which ends gives to those that are still under way.
LAST_WORDS = 1.0


class HookFailed(Exception):
    """The hook answered, and did not take it."""


def without_login(url: str) -> tuple[str, str]:
    """@return: the URL to ask, and the C{user:password} that stood in it, if any."""
    parts = urlsplit(url)
    login, _, place = parts.netloc.rpartition("@")
    return parts._replace(netloc=place).geturl(), unquote(login)


@implementer(IBodyProducer)
class _Body:
    """A request's body that is written at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class Hooks:
    """
    @ivar urls: where each event goes; events without a URL go nowhere.
    @ivar dropped: how many were dropped because too many waited.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        urls: Mapping[str, str],
        agent: IAgent | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """@param agent: what makes the requests; by default one that verifies TLS."""
        self._reactor = reactor
        self.urls = dict(urls)
        self._agent = agent or Agent(reactor, BrowserLikePolicyForHTTPS(), connectTimeout=TIMEOUT)
        self._now = now
        self._waiting: deque[tuple[str, str, bytes]] = deque()
        self._running: set[Deferred[None]] = set()
        self._failing: set[str] = set()
        self._idle: Deferred[None] | None = None
        self.dropped = 0

    def fire(self, event: str, **fields: Any) -> None:
        """Tell the hook of C{event}, if there is one."""
        url = self.urls.get(event)
        if url is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            self._failed(event, url, f"more than {MOST_WAITING} wait: this one is dropped")
            return
        body = {"event": event, "time": round(self._now(), 3), **fields}
        self._waiting.append((event, url, json.dumps(body).encode()))
        self._start_next()

    def stop(self) -> Deferred[None]:
        """@return: fires when all are told, or the time for that is over."""
        if not self._running:
            return succeed(None)
        idle = self._idle = Deferred()
        return idle.addTimeout(LAST_WORDS, self._reactor, self._abandon)

    def _start_next(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            event, url, body = self._waiting.popleft()
            telling = Deferred.fromCoroutine(self._tell(url, body))
            telling.addTimeout(TIMEOUT, self._reactor)
            self._running.add(telling)
            telling.addCallbacks(self._told, self._not_told, (event,), {}, (event, url), {})
            telling.addBoth(self._ended, telling)

    async def _tell(self, url: str, body: bytes) -> None:
        headers = Headers({"Content-Type": ["application/json"], "User-Agent": ["relaytun"]})
        place, login = without_login(url)
        if login:
            word = base64.b64encode(login.encode()).decode("ascii")
            headers.setRawHeaders("Authorization", [f"Basic {word}"])
        response = await self._agent.request(b"POST", place.encode(), headers, _Body(body))
        await readBody(response)
        if not 200 <= response.code < 300:
            raise HookFailed(f"it answers HTTP {response.code}")

    def _told(self, result: None, event: str) -> None:
        if event in self._failing:
            self._failing.discard(event)
            self._log.info("hook {event} works again", event=event)

    def _not_told(self, failure: Failure, event: str, url: str) -> None:
        if failure.check(DeferredTimeout, CancelledError):
            why = f"no answer in {TIMEOUT:.0f} s"
        else:
            why = printable(failure.getErrorMessage() or type(failure.value).__name__)
        self._failed(event, url, why)

    def _failed(self, event: str, url: str, why: str) -> None:
        """Say so once until it works again; never with the whole URL, which may be a secret."""
        if event not in self._failing:
            self._failing.add(event)
            host = urlsplit(url).hostname or ""
            self._log.warn("hook {event} at {host} failed: {why}", event=event, host=host, why=why)

    def _ended(self, result: object, telling: Deferred[None]) -> None:
        self._running.discard(telling)
        self._start_next()
        if not self._running and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    def _abandon(self, result: object, timeout: float) -> None:
        self._idle = None
        self._waiting.clear()
        for telling in list(self._running):
            telling.cancel()
