"""Tests of L{relaytun.server.https.authority}: what an order can end with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import requests
from acme import challenges, client, errors, messages
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import DeserializationError
from josepy.jwk import JWKEC
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from relaytun.server.https import authority as module
from relaytun.server.https.authority import HTTP_01, TLS_ALPN_01, Authority
from relaytun.server.https.errors import Refused, Unreachable
from relaytun.statedir import StateDir

KEY = JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
TOKEN = "dG9rZW4gb2YgdGhlIGF1dGhvcml0eSwgMzIgYnl0ZXM"


def problem(code: str, detail: str | None = None) -> messages.Error:
    return messages.Error(typ=f"urn:ietf:params:acme:error:{code}", detail=detail)


class FakeClient:
    """
    The package's client, with an authority that is satisfied at the second look.

    @ivar seen: what was shown while the authority looked.
    """

    def __init__(self, look: Callable[[], None], kinds: tuple[str, ...]) -> None:
        self.net = SimpleNamespace(key=KEY)
        self.look = look
        self.answered: list[str] = []
        self.verdicts: list[messages.Status] = [messages.STATUS_PENDING, messages.STATUS_VALID]
        self.ordering: Exception | None = None
        self.status = messages.STATUS_PENDING
        self.offered = [
            messages.ChallengeBody.from_json(
                {"type": kind, "url": "https://ca.example/1", "token": TOKEN}
            )
            for kind in kinds
        ]

    def authorization(self, status: messages.Status) -> messages.AuthorizationResource:
        failed = []
        if status == messages.STATUS_INVALID:
            failed = [
                self.offered[0].update(error=problem("unauthorized", "saw nothing")),
                *self.offered[1:],
            ]
        return messages.AuthorizationResource(
            body=messages.Authorization(
                identifier=messages.Identifier(typ=messages.IDENTIFIER_FQDN, value="a.example"),
                status=status,
                challenges=failed or self.offered,
            ),
            uri="https://ca.example/authorization",
        )

    def new_order(self, csr: bytes) -> Any:
        if self.ordering is not None:
            raise self.ordering
        return SimpleNamespace(authorizations=[self.authorization(self.status)])

    def answer_challenge(
        self, body: messages.ChallengeBody, answer: challenges.ChallengeResponse
    ) -> None:
        self.answered.append(body.chall.typ)
        assert answer.to_partial_json() == {}

    def poll(self, authorization: Any) -> Any:
        self.look()
        return self.authorization(self.verdicts.pop(0)), None

    def finalize_order(self, order: Any, deadline: Any) -> Any:
        return SimpleNamespace(fullchain_pem="the chain")


class AuthorityTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(module, "SHORTEST_PAUSE", 0)
        self.http01: dict[str, bytes] = {}
        self.tls_alpn: dict[str, SSL.Context] = {}
        self.seen: list[tuple[list[bytes], list[str]]] = []
        self.authority = Authority(
            "https://ca.example/directory",
            "admin@example.com",
            None,
            StateDir(Path(self.mktemp())),
            self.http01,
            self.tls_alpn,
        )
        self.client = self.offering(HTTP_01, "dns-01", TLS_ALPN_01)

    def offering(self, *kinds: str) -> FakeClient:
        self.client = FakeClient(
            lambda: self.seen.append((list(self.http01.values()), list(self.tls_alpn))), kinds
        )
        self.authority._client = self.client  # type: ignore[assignment]
        return self.client

    def obtain(self, *kinds: str) -> bytes:
        return self.authority.obtain("a.example", kinds or (HTTP_01, TLS_ALPN_01))

    def assert_ends(self, kind: type[Exception], why: str, *kinds: str) -> None:
        error = self.assertRaises(kind, self.obtain, *kinds)
        self.assertIn(why, str(error))
        self.assertEqual((self.http01, self.tls_alpn), ({}, {}))


class OrderTests(AuthorityTestCase):
    """From the order to the certificate, or not."""

    def test_http(self) -> None:
        """While the authority looks, the answer to its token is there; the key comes first."""
        self.assertRegex(self.obtain(), rb"\A-----BEGIN PRIVATE KEY-----\n[^-]+-.*\nthe chain\Z")
        self.assertEqual(self.client.answered, [HTTP_01])
        token, thumbprint = self.seen[0][0][0].split(b".")
        self.assertEqual((token, len(thumbprint)), (TOKEN.encode(), 43))
        self.assertEqual((len(self.seen), self.seen[0][1]), (2, []))
        self.assertEqual((self.http01, self.tls_alpn), ({}, {}))

    def test_tls(self) -> None:
        """Or the certificate for acme-tls/1, under the host name."""
        self.obtain(TLS_ALPN_01, HTTP_01)
        self.assertEqual(self.client.answered, [TLS_ALPN_01])
        self.assertEqual(self.seen[0], ([], ["a.example"]))

    def test_proven_before(self) -> None:
        """What the authority still believes from last time is not proven again."""
        self.client.status = messages.STATUS_VALID
        self.assertIn(b"the chain", self.obtain())
        self.assertEqual(self.client.answered, [])

    def test_nothing_offered(self) -> None:
        """Not every authority offers what can be done here."""
        self.offering("dns-01")
        self.assert_ends(Refused, "offers no challenge")

    def test_not_proven(self) -> None:
        """What the authority saw is told in its own words."""
        self.client.verdicts = [messages.STATUS_INVALID]
        self.assert_ends(Refused, "http-01: saw nothing")

    def test_not_proven_without_words(self) -> None:
        """If it has any."""
        self.assertEqual(
            module._why_invalid(errors.ValidationError([])), "the proof was not accepted"
        )

    def test_takes_too_long(self) -> None:
        """An authority that never comes to a verdict is not waited for."""
        self.patch(module, "STEP_TIMEOUT", -1)
        self.assert_ends(Refused, "takes too long")

    def test_stopped(self) -> None:
        """Nor is any, once this server stops."""
        self.authority.stop()
        self.assert_ends(Unreachable, "stops")

    def test_problems(self) -> None:
        """A problem with the name is one of the name, others are the authority's."""
        for error, kind in [
            (problem("rejectedIdentifier", "we do not like it"), Refused),
            (problem("rateLimited", "we do not like it"), Refused),
            (problem("serverInternal", "we do not like it"), Unreachable),
            (errors.ClientError("we do not like it"), Unreachable),
            (requests.ConnectionError("we do not like it"), Unreachable),
            (DeserializationError("we do not like it"), Unreachable),
        ]:
            self.offering(HTTP_01).ordering = error
            self.assert_ends(kind, "we do not like it")
            self.assertIsNone(self.authority._client)
        self.offering(HTTP_01).ordering = problem("malformed")
        self.assert_ends(Refused, "malformed")


class AccountTests(AuthorityTestCase):
    """How an order begins when there was none before."""

    def setUp(self) -> None:
        super().setUp()
        self.authority._client = None
        self.account: Any = None
        directory = messages.Directory({"newAccount": "https://ca.example/new"})
        self.patch(client.ClientV2, "get_directory", lambda url, network: directory)
        self.patch(client.ClientV2, "new_account", self.new_account)
        self.patch(client.ClientV2, "new_order", self.new_order)
        self.networks: list[client.ClientNetwork] = []
        self.outcome: Exception | None = None

    def new_account(self, registration: messages.NewRegistration) -> None:
        self.account = registration
        if self.outcome is not None:
            raise self.outcome

    def new_order(self, csr: bytes) -> None:
        assert self.authority._client is not None
        self.networks.append(self.authority._client.net)
        raise errors.TimeoutError

    def test_account(self) -> None:
        """It is made once with the address given, and its key is kept."""
        for _ in range(2):
            self.assertRaises(Refused, self.obtain)
        self.assertEqual(self.account.emails, ("admin@example.com",))
        self.assertEqual(len({id(network) for network in self.networks}), 1)
        self.authority._client = None
        self.assertRaises(Refused, self.obtain)
        first, *_, last = (
            hashlib.sha256(network.key.thumbprint()).digest()  # type: ignore[union-attr]
            for network in self.networks
        )
        self.assertEqual(first, last)

    def test_known(self) -> None:
        """An account of an earlier start goes on."""
        self.outcome = errors.ConflictError("https://ca.example/account/1")
        self.assertRaises(Refused, self.obtain)
        account = self.networks[0].account
        assert account is not None
        self.assertEqual(account.uri, "https://ca.example/account/1")

    def test_no_account(self) -> None:
        """Who gets no account gets no certificates at all."""
        self.outcome = problem("externalAccountRequired", "buy one")
        self.assert_ends(Unreachable, "no account there: buy one")

    def test_no_directory(self) -> None:
        """What is no ACME server is none."""
        self.outcome = KeyError("newAccount")
        self.assert_ends(Unreachable, "https://ca.example/directory is no ACME directory")
