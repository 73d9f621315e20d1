"""Tests of L{relaytun.cli.clients}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.clients import rows, session_row, sessions_of, with_sessions
from relaytun.wire.messages import ClientEntry, Service


class RowTests(SynchronousTestCase):
    """The table's rows."""

    def test_services(self) -> None:
        """There is a row for each service, with the client's name in each."""
        entry = ClientEntry(
            id="a",
            status="online",
            services=(
                Service(id="web", protocol="http", local_port=80, description="my page"),
                Service(id="ssh", protocol="tcp", local_port=22),
            ),
        )
        self.assertEqual(
            list(rows(entry)),
            [("a", "online", "web", "http", "my page"), ("a", "online", "ssh", "tcp", "")],
        )

    def test_unhealthy(self) -> None:
        """A service that fails its health check is told apart."""
        sick = Service(id="web", protocol="http", local_port=80, healthy=False)
        well = Service(id="ssh", protocol="tcp", local_port=22, healthy=True)
        entry = ClientEntry(id="a", status="online", services=(sick, well))
        self.assertEqual([row[1] for row in rows(entry)], ["unhealthy", "online"])

    def test_no_services(self) -> None:
        """A client that offers nothing is listed, too."""
        entry = ClientEntry(id="a", status="online", services=())
        self.assertEqual(list(rows(entry)), [("a", "online", "", "", "")])


class SessionTests(SynchronousTestCase):
    """What the daemon beside it knows."""

    SESSION = {  # noqa: RUF012
        "id": "0123456789abcdef" * 2,
        "peer": "a",
        "service": "web",
        "role": "visitor",
        "mode": "link",
        "path": "relay",
        "rtt": 0.0125,
        "streams": 1,
        "whyNotDirect": "both are behind hard NATs",
    }

    def test_row(self) -> None:
        """A row has what tells one session from another, its path and its round trip."""
        self.assertEqual(
            session_row(self.SESSION), ("01234567", "a", "web", "visitor", "relay", "12.5 ms")
        )
        self.assertEqual(session_row(self.SESSION | {"rtt": None})[-1], "-")

    def test_json(self) -> None:
        """A client has its own sessions only; without any it is as the server told it."""
        entries = [ClientEntry(id=name, status="online", services=()) for name in "ab"]
        first, second = (with_sessions(entry, [self.SESSION]) for entry in entries)
        self.assertEqual(second, {"id": "b", "status": "online", "services": ()})
        self.assertEqual(
            first["sessions"],
            [
                {
                    "id": self.SESSION["id"],
                    "service": "web",
                    "role": "visitor",
                    "path": "relay",
                    "rtt": 0.0125,
                    "whyNotDirect": "both are behind hard NATs",
                }
            ],
        )

    def test_no_daemon(self) -> None:
        """Without one there are none, and nothing is wrong."""
        self.assertEqual(sessions_of(Path(self.mktemp())), [])
