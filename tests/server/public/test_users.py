"""What users may have that is public, and lose: L{Public}, L{Claims} and L{Visiting}."""

from __future__ import annotations

from typing import Any
from unittest import mock

from relaytun.ends.refusals import RequestError
from relaytun.wire.messages import Exposed, Exposure

from ..support import ANN, Connection, Settings, tcp
from .test_service import PublicServiceCase, port


class UsersTests(PublicServiceCase):
    """A client of alice's, who may have port 6001 and names under alice.example."""

    def setUp(self) -> None:
        super().setUp()
        self.broker.users.replace([Settings(ports=((6001, 6001),), domains=("*.alice.example",))])

    def of_alice(self, *exposures: Exposure, name: str = "a", **more: Any) -> Connection:
        """Her client, with what it was told of its exposures in its inbox."""
        connection = self.connect(user=self.broker.users.find("alice"))
        self.again(connection, name, tcp("web"), exposures=exposures, **more)
        return connection

    def refusals(self, connection: Connection) -> list[Any]:
        """What it was refused."""
        return [told.message for told in self.told(connection) if told.error]

    def test_port(self) -> None:
        """A port that is not hers is refused in her name; one that the server picks is hers."""
        self.assertEqual(
            self.refusals(self.of_alice(port(6000))), ["user alice may not have tcp port 6000"]
        )
        (told,) = self.told(self.of_alice(port(0), name="b"))
        self.assertEqual(told.remote_port, 6001)

    def test_no_port_left(self) -> None:
        """When all that are hers are taken, that is said."""
        self.provider("c", tcp("web"), exposures=(port(6001),))
        (why,) = self.refusals(self.of_alice(port(0)))
        self.assertIn("no free tcp port for user alice", why)

    def test_names(self) -> None:
        """Host names are hers or not."""
        good = Exposure(service="web", custom_domains=("www.alice.example",))
        (told,) = self.told(self.of_alice(good))
        self.assertIsInstance(told, Exposed)
        self.assertFalse(told.error)
        bad = Exposure(service="web", custom_domains=("www.bob.example",))
        self.assertEqual(
            self.refusals(self.of_alice(bad, name="b")),
            ["user alice may not have the host name www.bob.example"],
        )

    def test_narrowed(self) -> None:
        """What she may not have any more is closed, and she is told."""
        connection = self.of_alice(port(6001))
        self.told(connection)
        self.assertEqual(self.open_ones(), ["tcp 6001"])
        self.broker.replace_users([Settings(ports=())])
        self.assertEqual(self.open_ones(), [])
        self.assertEqual(self.refusals(connection), ["user alice may not have tcp port 6001"])

    def test_revoked(self) -> None:
        """When she is no user any more, what she had is closed at once."""
        self.of_alice(port(6001))
        self.broker.replace_users([])
        self.assertEqual((self.open_ones(), self.public.status()), ([], []))

    def test_revoked_while_away(self) -> None:
        """So it is when her client is just away, and might come back."""
        connection = self.of_alice(port(6001), identity=ANN, proof_token="alice's")
        connection.lost()
        self.assertEqual(self.open_ones(), ["tcp 6001"])
        self.broker.replace_users([])
        self.assertEqual((self.open_ones(), self.public.status()), ([], []))

    def test_others_keep_theirs(self) -> None:
        """What becomes of one user does not concern the others."""
        self.provider("c", tcp("web"), exposures=(port(6000),))
        self.broker.replace_users([])
        self.assertEqual(self.open_ones(), ["tcp 6000"])

    def test_quota(self) -> None:
        """When her quota is used up the public gets no session."""
        self.of_alice(port(6001))
        accounts = self.broker.sessions.accounts
        with mock.patch.object(accounts, "refusal", lambda user: (user.name and "over") or None):
            error = self.failureResultOf(self.visiting.ask("a", "web"), RequestError).value
        self.assertEqual((error.code, str(error)), ("byte_limit", "over"))
