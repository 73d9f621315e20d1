"""
The server's figures, in the format of Prometheus.

Most of them are read from what the server has anyway when somebody asks; the others come as
L{Events}, or by L{Metrics.observe}.  Nothing here listens: that is C{adminhttp}'s.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from .broker import Broker

#: Seconds between two looks at how late the reactor is.
LAG_INTERVAL = 1.0


def _none() -> int:
    return 0


class Metrics:
    """
    All figures of one server.

    @ivar registry: its own, so that a process can have several.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        broker: Broker,
        open_legs: Callable[[], int] = _none,
        public_connections: Callable[[], int] = _none,
        hooks_dropped: Callable[[], int] = _none,
    ) -> None:
        self.registry = CollectorRegistry()
        self._reactor = reactor
        self._broker = broker
        self._refused = Counter(
            "relaytun_logins_refused",
            "Logins that were refused, by the code of the error",
            ["code"],
            registry=self.registry,
        )
        self._requests = Counter(
            "relaytun_http_requests",
            "Requests to public HTTP host names, by the class of the status",
            ["status"],
            registry=self.registry,
        )
        self._errors = Counter(
            "relaytun_errors",
            "Errors in the log, by what said so: a full disk is among them",
            ["namespace"],
            registry=self.registry,
        )
        self._lag = Gauge(
            "relaytun_reactor_lag_seconds",
            "How late the reactor was at the last look",
            registry=self.registry,
        )
        self._worst_lag = Gauge(
            "relaytun_reactor_lag_worst_seconds",
            "The most that it ever was",
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(_Reader(broker, open_legs, public_connections, hooks_dropped))
        broker.events.listeners.append(self._happened)
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor
        self._due = 0.0

    def start(self) -> None:
        """Begin to measure the lag, and to count errors."""
        globalLogPublisher.addObserver(self._logged)  # type: ignore[arg-type]
        self._due = self._reactor.seconds() + LAG_INTERVAL
        self._loop.start(LAG_INTERVAL, now=False)

    def stop(self) -> None:
        """No more."""
        globalLogPublisher.removeObserver(self._logged)  # type: ignore[arg-type]
        if self._loop.running:
            self._loop.stop()

    def observe(self, status: int) -> None:
        """A request to a public host name was answered with this status."""
        self._requests.labels(f"{status // 100}xx").inc()

    def text(self) -> bytes:
        """What a scrape gets."""
        return generate_latest(self.registry)

    def _happened(self, event: str, **fields: Any) -> None:
        if event == "login_refused":
            self._refused.labels(fields["code"]).inc()

    def _logged(self, event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            self._errors.labels(event.get("log_namespace", "-")).inc()

    def _look(self) -> None:
        now = self._reactor.seconds()
        lag = max(0.0, now - self._due)
        self._lag.set(lag)
        if lag > self._worst_lag._value.get():
            self._worst_lag.set(lag)
        self._due = now - lag % LAG_INTERVAL + LAG_INTERVAL


class _Reader(Collector):
    """What is read from the server when somebody asks."""

    def __init__(
        self,
        broker: Broker,
        open_legs: Callable[[], int],
        public_connections: Callable[[], int],
        hooks_dropped: Callable[[], int],
    ) -> None:
        self._broker = broker
        self._gauges = {
            "relaytun_clients": ("Clients that are registered", lambda: len(broker.registry)),
            "relaytun_channels": (
                "Channels: two legs spliced together",
                lambda: sum(len(session.channels) for session in broker.sessions),
            ),
            "relaytun_legs_open": ("Legs that are connected, in whatever state", open_legs),
            "relaytun_public_connections": (
                "Connections from the public to exposed services",
                public_connections,
            ),
        }
        self._hooks_dropped = hooks_dropped
        self._ended: Tally[str] = Tally()
        self._bytes: Tally[str] = Tally(**{"in": 0, "out": 0})
        broker.events.listeners.append(self._happened)

    def collect(self) -> Iterable[Metric]:
        for name, (text, read) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=read())
        sessions = GaugeMetricFamily("relaytun_sessions", "Sessions by mode", labels=["mode"])
        modes = Tally(session.mode for session in self._broker.sessions)
        moved = Tally(self._bytes)
        for session in self._broker.sessions:
            moved["in"] += session.meter.forward
            moved["out"] += session.meter.backward
        for mode in ("link", "raw"):
            sessions.add_metric([mode], modes[mode])
        yield sessions
        relayed = CounterMetricFamily(
            "relaytun_bytes",
            "Bytes relayed, to the services (in) and from them (out)",
            labels=["direction"],
        )
        for direction, count in moved.items():
            relayed.add_metric([direction], count)
        yield relayed
        ended = CounterMetricFamily(
            "relaytun_sessions_ended", "Sessions that ended, by mood", labels=["mood"]
        )
        for mood, count in self._ended.items():
            ended.add_metric([mood], count)
        yield ended
        yield CounterMetricFamily(
            "relaytun_hooks_dropped",
            "Events that hooks were not told of: too many waited",
            value=self._hooks_dropped(),
        )

    def _happened(self, event: str, **fields: Any) -> None:
        if event in ("session_closed", "session_refused"):
            self._ended[fields["mood"]] += 1
            # Of a session that was never granted there are none.
            self._bytes["in"] += fields.get("bytesIn", 0)
            self._bytes["out"] += fields.get("bytesOut", 0)
