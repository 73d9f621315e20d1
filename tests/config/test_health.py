"""Tests of L{relaytun.config.health}."""

from __future__ import annotations

from relaytun.config import HealthCheck
from tests.config.support import INVITE, ConfigCase
from tests.config.test_client import service


class HealthTests(ConfigCase):
    """What is asked of a service, and how often."""

    def check(self, **keys: str) -> HealthCheck | None:
        return self.client(service(**keys)).services[0].health_check

    def test_kinds(self) -> None:
        """A check is for a connection or for the answer to a GET; without one there is none."""
        self.assertIsNone(self.check(health_check=""))
        self.assertEqual(self.check(health_check="tcp"), HealthCheck(kind="tcp"))
        self.assertEqual(self.check(health_check="http"), HealthCheck(kind="http", path="/"))
        self.assertEqual(
            self.check(
                health_check="http  /up",
                health_check_interval="500ms",
                health_check_timeout="1s",
                health_check_failures="1",
            ),
            HealthCheck(kind="http", path="/up", interval=0.5, timeout=1.0, failures=1),
        )

    def test_json(self) -> None:
        """In JSON bare numbers of times are milliseconds."""
        text = (
            f'{{"invite": "{INVITE}", "services": [{{"id": "a", "protocol": "tcp", "localPort": 1,'
            '"healthCheck": "tcp", "healthCheckInterval": 1500, "healthCheckTimeout": "2s",'
            '"healthCheckFailures": 2}]}'
        )
        self.assertEqual(
            self.client(text).services[0].health_check,
            HealthCheck(kind="tcp", interval=1.5, timeout=2.0, failures=2),
        )

    def test_problems(self) -> None:
        """What cannot be asked is refused."""
        for keys, saying in (
            ({"health_check": "udp"}, "not a health check: write tcp, or http and a path"),
            ({"health_check": "tcp /x"}, "not a health check"),
            ({"health_check": "http x"}, "not a path: begin it with /"),
            ({"health_check": "tcp", "protocol": "udp"}, "a udp service cannot be asked"),
            ({"health_check": "tcp", "health_check_interval": "0"}, "must be more than 0"),
            ({"health_check_failures": "2"}, "health_check_failures: goes with health_check"),
        ):
            (line,) = self.client_problems(service(**keys))
            self.assertIn(saying, line)
