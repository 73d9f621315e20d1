"""Tests of L{relaytun.wire.proof}."""

from __future__ import annotations

import hashlib

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire.proof import CHALLENGE_HEADER, CHALLENGE_SIZE, login_statement

CHALLENGES = st.binary(min_size=CHALLENGE_SIZE, max_size=CHALLENGE_SIZE)
LOGINS = st.tuples(CHALLENGES, st.text(), st.text())


class LoginStatementTests(SynchronousTestCase):
    """What a login signs."""

    def test_layout(self) -> None:
        """The statement is context, challenge, hash of the token and clientId, in this order."""
        self.assertEqual(
            login_statement(b"c" * 32, "t\u00f6ken", "client-a"),
            b"relaytun login v1\x00"
            + b"c" * 32
            + hashlib.sha256("t\u00f6ken".encode()).digest()
            + b"client-a",
        )

    @given(LOGINS, LOGINS)
    def test_binding(self, one: tuple[bytes, str, str], other: tuple[bytes, str, str]) -> None:
        """Two logins have the same statement only if challenge, token and clientId are equal."""
        self.assertEqual(login_statement(*one) == login_statement(*other), one == other)

    @given(CHALLENGES, st.text(min_size=1), st.text(min_size=1))
    def test_no_shifting(self, challenge: bytes, token: str, client_id: str) -> None:
        """Moving characters between token and clientId makes another statement."""
        self.assertNotEqual(
            login_statement(challenge, token, client_id),
            login_statement(challenge, token + client_id[:1], client_id[1:]),
        )

    @given(CHALLENGES, st.text(min_size=8, alphabet="abcdef0123456789"))
    def test_no_token(self, challenge: bytes, token: str) -> None:
        """The token itself is not in what is signed."""
        self.assertNotIn(token.encode(), login_statement(b"\0" * 32, token, ""))

    def test_header(self) -> None:
        """The challenge travels in this header, whose name is spelled as Autobahn gives it."""
        self.assertEqual(CHALLENGE_HEADER, "x-relaytun-challenge")
