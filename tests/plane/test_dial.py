"""Tests for L{relaytun.plane.dial}."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError
from twisted.trial.unittest import TestCase

from relaytun.plane import dial
from relaytun.plane.dial import Dialer, is_literal, prepare_dialled


class DialTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.port = self.listening.getsockname()[1]
        self.dialer = Dialer(reactor)  # type: ignore[arg-type]

    async def connects(self, host: str) -> None:
        sock = await self.dialer.dial(host, self.port)
        self.addCleanup(sock.close)
        self.assertEqual(sock.gettimeout(), 0)
        self.assertEqual(sock.getpeername(), ("127.0.0.1", self.port))

    async def test_literal(self) -> None:
        """A literal address is dialled."""
        await self.connects("127.0.0.1")

    async def test_name(self) -> None:
        """A name is resolved; the address that answered is used the next time."""
        await self.connects("localhost")
        self.assertEqual(self.dialer._answered, {("localhost", self.port): "127.0.0.1"})
        await self.connects("localhost")

    async def test_remembered_address_fails(self) -> None:
        """An address that does not answer any more is forgotten, and the name asked again."""
        self.dialer._answered["localhost", self.port] = "::1"
        await self.connects("localhost")
        self.assertEqual(self.dialer._answered, {("localhost", self.port): "127.0.0.1"})

    async def test_refused(self) -> None:
        """A port where nobody listens is an error, and no descriptor is lost."""
        self.listening.close()
        failure = await self.assertFailure(self.dialer.dial("127.0.0.1", self.port), ConnectError)
        self.assertEqual(failure.osError, errno.ECONNREFUSED)

    async def test_refused_later(self) -> None:
        """A refusal that takes its time is an error as well."""
        sock = socket.socket()
        sock.setblocking(False)
        self.listening.close()
        sock.connect_ex(("127.0.0.1", self.port))
        connecting = dial._Connecting(reactor, sock, 10)  # type: ignore[arg-type]
        await self.assertFailure(connecting.done, ConnectError)
        self.assertEqual(sock.fileno(), -1)

    def silent(self) -> tuple[socket.socket, Any]:
        """A connection that neither succeeds nor fails."""
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(full.close)
        while True:
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
            try:
                sock.getpeername()
                self.addCleanup(sock.close)
            except OSError:
                return sock, full

    async def test_timeout(self) -> None:
        """Nobody waits for ever."""
        sock, _ = self.silent()
        connecting = dial._Connecting(reactor, sock, 0.01)  # type: ignore[arg-type]
        await self.assertFailure(connecting.done, TimeoutError)
        self.assertEqual(sock.fileno(), -1)

    async def test_event_of_another(self) -> None:
        """A socket is not connected because the reactor says so."""
        sock, _ = self.silent()
        connecting = dial._Connecting(reactor, sock, 10)  # type: ignore[arg-type]
        connecting.doWrite()
        self.assertFalse(connecting.done.called)
        connecting.done.cancel()
        await self.assertFailure(connecting.done, CancelledError)

    async def test_cancel(self) -> None:
        """A dial that is not wanted any more leaves nothing behind."""
        sock, _ = self.silent()
        connecting = dial._Connecting(reactor, sock, 10)  # type: ignore[arg-type]
        connecting.done.cancel()
        await self.assertFailure(connecting.done, CancelledError)
        self.assertEqual(sock.fileno(), -1)

    async def test_cancel_remembered(self) -> None:
        """Nor is the name asked again for it."""
        _, full = self.silent()
        port = full.getsockname()[1]
        self.dialer._answered["localhost", port] = "127.0.0.1"
        dialling = self.dialer.dial("localhost", port)
        dialling.cancel()
        self.assertTrue(dialling.called)
        await self.assertFailure(dialling, CancelledError)

    async def test_cancel_name(self) -> None:
        """A dial to a name ends with the same error."""
        for dialling in (self.dialer.dial("localhost", 1), self.dialer.dial("a.invalid", 1)):
            dialling.cancel()
            await self.assertFailure(dialling, CancelledError)

    async def test_no_such_name(self) -> None:
        """A name that does not exist is an error."""
        await self.assertFailure(self.dialer.dial("no-such-host.invalid", 1), DNSLookupError)

    async def test_unreachable(self) -> None:
        """An address that the machine cannot even try is an error, not an exception."""
        await self.assertFailure(self.dialer.dial("255.255.255.255", 1), ConnectError, OSError)

    def test_is_literal(self) -> None:
        """Addresses are literals, names and odd spellings of addresses are not."""
        for host in ("127.0.0.1", "::1", "2001:db8::1"):
            self.assertTrue(is_literal(host))
        for host in ("localhost", "127.1", "0x7f000001", ""):
            self.assertFalse(is_literal(host))

    def test_probes(self) -> None:
        """A peer elsewhere is probed by keep-alives, one on this machine need not be."""
        for address, probed in (("127.0.0.1", 0), ("::1", 0), ("192.0.2.1", 1)):
            with socket.socket() as sock:
                prepare_dialled(sock, address)
                option = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                self.assertEqual(option, probed)
