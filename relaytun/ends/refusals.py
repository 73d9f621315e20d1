"""Why a visitor does not get what it asked for."""

from __future__ import annotations

from ..errors import UserError


class RequestError(UserError):
    """
    The server said no.

    @ivar code: the error code.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PeerRefused(UserError):
    """The provider is not who it should be, or does not offer what it should."""
