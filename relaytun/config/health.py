"""
The health check of a service: what is asked, and how often. Asks nothing itself.
"""

from __future__ import annotations

import msgspec

from relaytun.config import values
from relaytun.config.domains import url_path
from relaytun.config.section import Section

_DETAILS = ("health_check_interval", "health_check_timeout", "health_check_failures")


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    """
    How it is found out whether a service works. Times are in seconds.

    @ivar kind: C{tcp}: a connection is accepted; C{http}: a GET is answered well.
    @ivar path: of the GET; empty with C{tcp}.
    @ivar interval: from one check to the next.
    @ivar timeout: for the answer.
    @ivar failures: so many in a row make a service unhealthy; one success makes it healthy.
    """

    kind: str
    path: str = ""
    interval: float = 10.0
    timeout: float = 3.0
    failures: int = 3


def read_health_check(section: Section, protocol: str) -> HealthCheck | None:
    """Read the check of a service, L{None} if it has none."""
    kind, path = section.get("health_check", _kind, ("", ""))
    check = HealthCheck(
        kind=kind,
        path=path,
        interval=section.get("health_check_interval", values.positive_duration, 10.0),
        timeout=section.get("health_check_timeout", values.positive_duration, 3.0),
        failures=section.get("health_check_failures", values.count, 3),
    )
    if not section.given("health_check"):
        for key in _DETAILS:
            if section.given(key):
                section.note(key, "goes with health_check: write health_check = tcp, or remove it")
        return None
    if protocol == "udp":
        section.note("health_check", "a udp service cannot be asked: remove this key")
    return check


def _kind(text: str) -> tuple[str, str]:
    kind, _, path = text.partition(" ")
    path = path.strip()
    if kind == "tcp" and not path:
        return kind, ""
    if kind == "http":
        return kind, url_path(path or "/")
    raise ValueError("not a health check: write tcp, or http and a path, such as http /health")
