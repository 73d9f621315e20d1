"""
What a client signs to show that it holds its identity's private key.

The signature covers the server's challenge, so that a login cannot be replayed; the token, so
that a server which does not know it cannot pass the proof on to one that does; and the
C{clientId}, so that it is good for nothing else.
"""

from __future__ import annotations

import hashlib

CHALLENGE_SIZE = 32

#: The header of the WebSocket response that carries the challenge, base64.
CHALLENGE_HEADER = "x-relaytun-challenge"

_CONTEXT = b"relaytun login v1\0"


def login_statement(challenge: bytes, token: str, client_id: str) -> bytes:
    """
    @param challenge: the 32 bytes from the server's upgrade response.
    @param token: the token this connection used, or an empty string on an open server.
    @param client_id: as in C{register}, or an empty string when the server is to choose.
    @return: the bytes to sign.
    """
    token_hash = hashlib.sha256(token.encode()).digest()
    return _CONTEXT + challenge + token_hash + client_id.encode()
