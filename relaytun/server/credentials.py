"""
What the server shows and asks for: its certificate, its token, its identity, and the invite that
is made of them.  What the configuration does not give is made once, and kept in the state
directory.
"""

from __future__ import annotations

import secrets
import socket
from typing import Any

from ..config import ServerAddress, ServerConfig, format_invite
from ..errors import UserError
from ..link.identity import Identity, der, fingerprint
from ..statedir import StateDir
from ..tls import options_of_files, options_of_identity


class Credentials:
    """
    @ivar token: what lets a client in; C{None} for an open server.
    @ivar tls: the options of the control port's TLS.
    @ivar fingerprint: of the certificate that it shows.
    @ivar identity: the server's, as one end of a link.
    """

    def __init__(self, state: StateDir, config: ServerConfig) -> None:
        """@raise UserError: if a file cannot be used."""
        self._state = state
        self.token = self._token_of(config)
        self.tls, self.fingerprint = self._certificate(config)
        self.identity = self._kept("identity.pem")

    def use(self, config: ServerConfig) -> bool:
        """
        Another configuration holds; the files are read again in any case.

        @return: whether another certificate is shown now.
        @raise UserError: if a file cannot be used; then nothing has changed.
        """
        token = self._token_of(config)
        tls, shown = self._certificate(config)
        other = shown != self.fingerprint
        self.token, self.tls, self.fingerprint = token, tls, shown
        return other

    def invite(self, config: ServerConfig, port: int) -> str:
        """@param port: the number of the control port."""
        host = config.public_host or (
            config.host if config.host not in ("0.0.0.0", "::") else outward_address()
        )
        return format_invite(
            ServerAddress(
                host=host, port=port, secure=True, token=self.token, fingerprint=self.fingerprint
            )
        )

    def _token_of(self, config: ServerConfig) -> str | None:
        return None if config.open else config.token or self._kept_token()

    def _kept_token(self) -> str:
        kept = self._state.read_or_make("token", lambda: secrets.token_urlsafe(32).encode())
        token = kept.decode("ascii", "replace").strip()
        if not token:
            raise UserError(
                f"{self._state.path / 'token'} is empty: remove it to have a new token made"
            )
        return token

    def _certificate(self, config: ServerConfig) -> tuple[Any, str]:
        if config.certificate is not None and config.key is not None:
            options, shown = options_of_files(config.certificate, config.key)
            return options, fingerprint(der(shown))
        identity = self._kept("server.pem", " (every client then needs the new invite)")
        return options_of_identity(identity), identity.fingerprint

    def _kept(self, name: str, consequence: str = "") -> Identity:
        pem = self._state.read_or_make(name, lambda: Identity.make("relaytun").to_pem())
        try:
            return Identity.from_pem(pem)
        except ValueError as error:
            raise UserError(
                f"{self._state.path / name} cannot be used: {error}; remove it to have a new "
                f"certificate made{consequence}"
            ) from None


def outward_address() -> str:
    """
    The address of this machine that others most likely reach, for the invite.

    Asks the routing table only: connecting a UDP socket sends nothing.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
