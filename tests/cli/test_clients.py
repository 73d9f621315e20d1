"""Tests of L{relaytun.cli.clients}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.clients import rows
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
