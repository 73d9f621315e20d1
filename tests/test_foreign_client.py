"""Tests of what L{tests.foreign_client} does to TLS: a real server, in a thread."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relaytun.link.identity import Identity

from .foreign_client import PATIENCE, insecure_context


class _OpenSSL:
    """
    Stands between a socket and OpenSSL, and takes one thread at a time.

    @ivar reads: somebody has begun to read.
    """

    def __init__(self, inner: Any) -> None:
        self.reads = threading.Event()
        self._inner = inner
        self._free = threading.Lock()

    def read(self, *args: Any) -> Any:
        return self._alone(self._inner.read, *args, begun=self.reads.set)

    def write(self, *args: Any) -> Any:
        return self._alone(self._inner.write, *args)

    def _alone(self, act: Callable[..., Any], *args: Any, begun: Callable[[], None] = int) -> Any:
        if not self._free.acquire(blocking=False):
            raise AssertionError("somebody else is in OpenSSL")
        try:
            begun()
            return act(*args)
        finally:
            self._free.release()


class TakingTurns(SynchronousTestCase):
    def setUp(self) -> None:
        path = Path(self.mktemp())
        path.write_bytes(Identity.make("x").to_pem())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(path)
        ours, its = socket.socketpair()

        def echo() -> None:
            with (
                contextlib.suppress(OSError),  # Tickets that were not read are a broken end.
                server.wrap_socket(its, server_side=True) as secured,
            ):
                while data := secured.recv(100):
                    secured.sendall(data)

        threading.Thread(target=echo, daemon=True).start()
        ours.settimeout(PATIENCE)
        self.client = insecure_context().wrap_socket(ours)
        self.addCleanup(self.client.close)

    def test_alone(self) -> None:
        """Who waits for bytes is not in OpenSSL when somebody else writes, nor in his way."""
        watched = _OpenSSL(self.client._sslobj)
        self.client._sslobj = watched
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(self.client.recv()), daemon=True)
        reader.start()
        self.assertTrue(watched.reads.wait(PATIENCE))
        self.client.sendall(b"hello")
        reader.join(PATIENCE)
        self.assertEqual(received, [b"hello"])

    def test_timeouts(self) -> None:
        """They are those of any socket."""
        for patience, error in ((0, ssl.SSLWantReadError), (0.01, TimeoutError)):
            self.client.settimeout(patience)
            self.assertRaises(error, self.client.recv)
            self.assertEqual(self.client.gettimeout(), patience)
        self.client.settimeout(PATIENCE)
        self.client.sendall(b"x")
        self.assertEqual(self.client.recv(), b"x")
