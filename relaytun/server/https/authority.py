"""
A certificate authority that speaks ACME (RFC 8555): one order from top to bottom.

Everything here blocks, as the C{acme} package does, and runs in a thread of its own: see
L{relaytun.server.https.acme}, which also knows when what is to be ordered.  Only this module
needs that package.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import requests
from acme import challenges, client, crypto_util, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from OpenSSL import SSL

from ... import __version__
from ...statedir import StateDir
from .errors import Refused, Unreachable
from .proof import proof

ACCOUNT_KEY = "account.pem"
HTTP_01 = "http-01"
TLS_ALPN_01 = "tls-alpn-01"

#: Seconds for each answer of the authority, and for a whole step of an order.
ANSWER_TIMEOUT = 15
STEP_TIMEOUT = 90.0
#: Seconds between two questions whether it has seen the proof: the first pause, and the longest.
SHORTEST_PAUSE = 0.25
LONGEST_PAUSE = 5.0


@challenges.ChallengeResponse.register
class _TlsAlpnResponse(challenges.KeyAuthorizationChallengeResponse):
    """The package has had none of its own since its version 5."""

    typ = TLS_ALPN_01


@challenges.Challenge.register
class _TlsAlpn(challenges.KeyAuthorizationChallenge):
    response_cls = _TlsAlpnResponse
    typ = TLS_ALPN_01

    def validation(self, account_key: JWK, **kwargs: Any) -> str:
        return self.key_authorization(account_key)


class Authority:
    """One authority, and our account there."""

    def __init__(
        self,
        directory_url: str,
        email: str | None,
        ca: Path | None,
        state: StateDir,
        http01: dict[str, bytes],
        tls_alpn: dict[str, SSL.Context],
    ) -> None:
        """
        @param directory_url: where it says what it offers.
        @param email: where it may write to.
        @param ca: PEM of who vouches for the authority's own web server, if the platform
            does not.
        @param state: keeps the key of the account.
        @param http01: what is answered for each token.
        @param tls_alpn: what is shown for each host name.
        """
        self._directory_url = directory_url
        self._email = email
        self._ca = ca
        self._state = state
        self._http01 = http01
        self._tls_alpn = tls_alpn
        self._client: client.ClientV2 | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._stopped.set()

    def obtain(self, name: str, kinds: Sequence[str]) -> bytes:
        """
        @param name: a host name.
        @param kinds: how it can be proven that it is ours, the best way first.
        @return: key, certificate and what leads to its authority, PEM.
        @raise Refused: if there is none for this name.
        @raise Unreachable: if the authority gives no certificates at all now.
        """
        try:
            if self._client is None:
                self._client = self._sign_in()
            return self._order(self._client, name, kinds)
        except errors.ValidationError as error:
            raise Refused(_why_invalid(error)) from None
        except errors.TimeoutError:
            raise Refused("the authority takes too long") from None
        except messages.Error as error:
            self._client = None
            kind = Unreachable if error.code in ("serverInternal", "badNonce") else Refused
            raise kind(error.detail or str(error.code)) from None
        except (errors.Error, requests.RequestException, JoseError) as error:
            self._client = None
            raise Unreachable(str(error)) from None

    def _sign_in(self) -> client.ClientV2:
        pem = self._state.read_or_make(ACCOUNT_KEY, lambda: _pem(_new_key()))
        key = JWKEC(key=load_pem_private_key(pem, password=None))
        network = client.ClientNetwork(
            key,
            alg=ES256,
            # Handed to requests, for which a path is a "yes" as well.
            verify_ssl=str(self._ca) if self._ca else True,  # type: ignore[arg-type]
            user_agent=f"relaytun/{__version__}",
            timeout=ANSWER_TIMEOUT,
        )
        try:
            directory = client.ClientV2.get_directory(self._directory_url, network)
            made = client.ClientV2(directory, network)
            registration = messages.NewRegistration.from_data(
                email=self._email, terms_of_service_agreed=True
            )
            try:
                made.new_account(registration)
            except errors.ConflictError as error:  # It has been there since an earlier start.
                network.account = messages.RegistrationResource(
                    body=registration, uri=error.location
                )
        except messages.Error as error:
            raise Unreachable(f"no account there: {error.detail or error.code}") from None
        except (KeyError, AttributeError):
            raise Unreachable(f"{self._directory_url} is no ACME directory") from None
        return made

    def _order(self, acme: client.ClientV2, name: str, kinds: Sequence[str]) -> bytes:
        key = _pem(_new_key())
        order = acme.new_order(crypto_util.make_csr(key, [name]))
        for authorization in order.authorizations:
            if authorization.body.status != messages.STATUS_VALID:
                self._prove(acme, name, authorization, kinds)
        order = acme.finalize_order(order, _deadline())
        return key + order.fullchain_pem.encode("ascii")

    def _prove(
        self,
        acme: client.ClientV2,
        name: str,
        authorization: messages.AuthorizationResource,
        kinds: Sequence[str],
    ) -> None:
        offered = {each.chall.typ: each for each in authorization.body.challenges}
        usable = [kind for kind in kinds if kind in offered]
        if not usable:
            raise Refused("the authority offers no challenge that can be met here")
        challenge = offered[usable[0]]
        answer, words = challenge.response_and_validation(acme.net.key)
        with self._shown(usable[0], name, challenge.chall.encode("token"), words):
            acme.answer_challenge(challenge, answer)
            until = time.monotonic() + STEP_TIMEOUT
            pause = SHORTEST_PAUSE
            while True:
                authorization, _ = acme.poll(authorization)
                if authorization.body.status == messages.STATUS_VALID:
                    return
                if authorization.body.status != messages.STATUS_PENDING:
                    raise errors.ValidationError([authorization])
                if time.monotonic() > until:
                    raise errors.TimeoutError
                if self._stopped.wait(pause):
                    raise Unreachable("this server stops")
                pause = min(pause * 2, LONGEST_PAUSE)

    @contextlib.contextmanager
    def _shown(self, kind: str, name: str, token: str, words: str) -> Iterator[None]:
        if kind == HTTP_01:
            self._http01[token] = words.encode("ascii")
        else:
            self._tls_alpn[name] = proof(name, words)
        try:
            yield
        finally:
            self._http01.pop(token, None)
            self._tls_alpn.pop(name, None)


def _deadline() -> datetime.datetime:
    """As the package counts: by the local clock."""
    return datetime.datetime.now() + datetime.timedelta(seconds=STEP_TIMEOUT)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _why_invalid(error: errors.ValidationError) -> str:
    """The authority's own words, which say what it saw."""
    details = [
        f"{challenge.chall.typ}: {challenge.error.detail}"
        for authorization in error.failed_authzrs
        for challenge in authorization.body.challenges
        if challenge.error is not None
    ]
    return "; ".join(details) or "the proof was not accepted"
