"""A vhost port in one process: the test is the reactor, the visitor and the services."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane.accept import close_in_order, prepare, reset
from relaytun.plane.pair import End, pair
from relaytun.server.http.factory import HttpFactory
from relaytun.server.http.routes import Route, Routes, Unreachable

from ...polling import select

ADDRESS = ("192.0.2.7", 4711)
#: Seconds in which the kernel passes everything on, acknowledgements that it delays included.
QUIET = 0.5
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Reactor(Clock):
    """Goes round when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader = self.readers.add
        self.removeReader = self.readers.discard
        self.addWriter = self.writers.add
        self.removeWriter = self.writers.discard

    def turn(self) -> bool:
        """@return: whether there was anything to be done."""
        self.advance(0)
        readable, writable = select(self.readers, self.writers)
        for descriptor in readable:
            if descriptor in self.readers:
                descriptor.doRead()
        for descriptor in writable:
            if descriptor in self.writers:
                descriptor.doWrite()
        return bool(readable or writable)

    def waits_for(self, sock: socket.socket) -> bool:
        """Wait; returns whether it can go on, or somebody can write to C{sock}."""
        return any(select(self.readers, [*self.writers, sock], QUIET))


class Peer:
    """
    A visitor, or a service's side of a connection.

    @ivar got: what it has read.
    @ivar ended: it has read the end; C{broken} if that was none in order.
    """

    def __init__(self, reactor: Reactor, sock: socket.socket) -> None:
        self.reactor = reactor
        self.sock = sock
        sock.setblocking(False)
        self.got = b""
        self.ended = False
        self.broken = False
        self.reads = True

    def send(self, data: bytes) -> None:
        """Write all of it, as fast as the other side takes it."""
        view = memoryview(data)
        for _ in range(100000):
            with contextlib.suppress(BlockingIOError):
                view = view[self.sock.send(view) :]
            if not view:
                break
            if not self.reactor.turn() and not self.reactor.waits_for(self.sock):
                raise AssertionError("nobody reads")
        else:
            raise AssertionError("nobody reads")
        self.settle()

    def settle(self) -> None:
        """Go round until nothing happens any more."""
        for _ in range(10000):
            if not (self.reactor.turn() | self.read()):
                return
        raise AssertionError("it never comes to rest")

    def read(self) -> bool:
        if not self.reads or self.ended:
            return False
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return False
        except OSError:
            self.ended = self.broken = True
            return True
        self.got += data
        if not data:
            self.ended = True
            self.broken = isinstance(self.sock, End) and self.sock.broken
        return True

    def take(self) -> bytes:
        """What came since the last time."""
        self.settle()
        got, self.got = self.got, b""
        return got

    def finish(self) -> None:
        """Write no more."""
        self.sock.shutdown(socket.SHUT_WR)
        self.settle()

    def close(self) -> None:
        close_in_order(self.sock)
        self.reactor.turn()

    def reset(self) -> None:
        reset(self.sock)
        self.reactor.turn()


class HttpTestCase(SynchronousTestCase):
    """
    @ivar opened: the services' sides of all connections, in order.
    @ivar unreachable: why there are none.
    """

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.routes = Routes()
        self.opened: list[Peer] = []
        self.addresses: list[tuple[str, int]] = []
        self.unreachable: Exception | None = None
        self.factory = self.make_factory()
        self.addCleanup(self.end)

    def make_factory(self, **options: Any) -> HttpFactory:
        return HttpFactory(self.reactor, self.routes, **options)  # type: ignore[arg-type]

    def end(self) -> None:
        """Nothing is left behind."""
        self.factory.stop()
        while self.reactor.turn():
            pass
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.factory.visitors, 0)
        self.assertEqual(len(self.factory.pool), 0)
        for peer in self.opened:
            peer.sock.close()

    def open(self, address: tuple[str, int]) -> End:
        """See L{Route.open}."""
        if self.unreachable is not None:
            raise self.unreachable
        ours, theirs = pair()
        self.opened.append(Peer(self.reactor, theirs))
        self.addresses.append(address)
        return ours

    def route(self, host: str = "a.example", **options: Any) -> Route:
        route = Route(host, self.open, **options)
        self.routes.add(route)
        return route

    def visit(self, data: bytes = b"") -> Peer:
        """A visitor that has sent something."""
        listening = socket.create_server(("127.0.0.1", 0))
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
        listening.close()
        prepare(far)
        self.addCleanup(near.close)
        visitor = Peer(self.reactor, near)
        self.factory.serve(far, ADDRESS)
        if data:
            visitor.send(data)
        return visitor

    def service(self) -> Peer:
        """The latest connection to a service."""
        return self.opened[-1]

    def head(self, got: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """First line, fields and body of a message."""
        head, found, body = got.partition(b"\r\n\r\n")
        self.assertTrue(found, got)
        first, *lines = head.split(b"\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(b": ")
            self.assertNotIn(name.lower(), fields)
            fields[name.lower()] = value
        return first, fields, body

    def assert_status(self, status: int, got: bytes) -> None:
        self.assertTrue(got.startswith(b"HTTP/1.1 %d " % status), got[:300])


__all__ = ["ADDRESS", "GET", "OK", "HttpTestCase", "Peer", "Unreachable"]
