"""Connections to services are used again, or not: L{relaytun.server.http.pool} and its users."""

from __future__ import annotations

from relaytun.server.http.pool import MOST

from .support import ADDRESS, GET, OK, HttpTestCase

POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi"


class ReuseTests(HttpTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.a = self.route()

    def exchange(self, request: bytes = GET, answer: bytes = OK) -> None:
        """One visitor, one request."""
        visitor = self.visit(request)
        self.service().send(answer)
        self.assert_status(200, visitor.take())
        visitor.close()

    def test_reused(self) -> None:
        """Visitors share connections, one after the other."""
        for request in (GET, POST, GET.replace(b"GET", b"DELETE")):
            self.exchange(request)
        self.assertEqual(len(self.opened), 1)
        self.assertEqual(len(self.factory.pool), 1)

    def test_no_room(self) -> None:
        """While descriptors are scarce none is kept, and none stays."""
        self.exchange()
        self.assertEqual(len(self.factory.pool), 1)
        self.factory.pool._has_room = lambda: False
        self.factory.pool.expire(self.factory.seconds())
        self.assertEqual(len(self.factory.pool), 0)
        self.exchange()
        self.assertEqual(len(self.factory.pool), 0)

    def test_not_shared(self) -> None:
        """Where a connection belongs to one visitor it serves this one's requests only."""
        self.route("b.example", may_reuse=False)
        request = GET.replace(b"a.example", b"b.example")
        for _ in range(2):
            visitor = self.visit(request)
            self.service().send(OK)
            visitor.send(request)
            self.service().send(OK)
            self.assertEqual(visitor.take(), OK * 2)
            visitor.close()
            self.service().settle()
            self.assertTrue(self.service().ended)
        self.assertEqual(self.addresses, [ADDRESS] * 2)

    def test_not_reusable(self) -> None:
        """What was not complete, or says close, or said too much, is not used again."""
        for answer in (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            OK + b"more",
        ):
            self.exchange(GET, answer)
            self.assertEqual(len(self.factory.pool), 0)
            self.service().settle()
            self.assertTrue(self.service().ended)

    def test_speaks_unasked(self) -> None:
        """A service that says something unasked is not listened to."""
        self.exchange()
        self.service().send(OK)
        self.assertEqual(len(self.factory.pool), 0)

    def test_closed_while_idle(self) -> None:
        """One that the service closes is forgotten."""
        for end in ("close", "reset"):
            self.exchange()
            getattr(self.service(), end)()
            self.assertEqual(len(self.factory.pool), 0)
        self.exchange()
        self.assertEqual(len(self.opened), 3)

    def test_stale(self) -> None:
        """If it turns out to be over before any of the answer, the request is sent again."""
        for end in ("close", "reset"):
            self.exchange()
            visitor = self.visit(GET)
            getattr(self.service(), end)()
            visitor.settle()
            self.service().send(OK)
            self.assertEqual(visitor.take(), OK)
            self.service().close()

    def test_stale_at_once(self) -> None:
        """Also if not a byte can be written, whatever the request."""
        for request in (GET, POST):
            self.exchange()
            count = len(self.opened)
            self.service().sock.close()
            visitor = self.visit(request)
            self.assertEqual(len(self.opened), count + 1)
            self.service().send(OK)
            self.assertEqual(visitor.take(), OK)
            self.service().close()

    def test_not_twice(self) -> None:
        """What must not happen twice is not sent twice."""
        self.exchange()
        visitor = self.visit(POST)
        self.assertIn(b"POST", self.service().take())
        self.service().close()
        self.assert_status(502, visitor.take())
        self.assertEqual(len(self.opened), 1)

    def test_once(self) -> None:
        """A new connection that ends at once is not tried again."""
        self.exchange()
        visitor = self.visit(GET)
        self.service().close()
        visitor.settle()
        self.assertEqual(len(self.opened), 2)
        self.service().close()
        self.assert_status(502, visitor.take())
        self.assertEqual(len(self.opened), 2)

    def test_part_of_an_answer(self) -> None:
        """Nor is one that had begun to answer."""
        self.exchange()
        visitor = self.visit(GET)
        self.service().send(b"HT")
        self.service().close()
        self.assert_status(502, visitor.take())

    def test_expired(self) -> None:
        """They are kept for a minute."""
        self.exchange()
        self.reactor.pump([1] * 59)
        self.assertEqual(len(self.factory.pool), 1)
        self.reactor.pump([1] * 3)
        self.assertEqual(len(self.factory.pool), 0)
        self.service().settle()
        self.assertTrue(self.service().ended and not self.service().broken)

    def test_at_most(self) -> None:
        """So many of each route."""
        visitors = [self.visit(GET) for _ in range(MOST + 2)]
        for service in list(self.opened):
            service.send(OK)
        for visitor in visitors:
            self.assertEqual(visitor.take(), OK)
        self.assertEqual(len(self.factory.pool), MOST)

    def test_route_removed(self) -> None:
        """With its route a connection goes, idle or, after its answer, busy."""
        self.exchange()
        busy = self.visit(GET)
        other = self.visit(GET)
        self.service().send(OK)
        self.assertEqual(other.take(), OK)
        self.routes.remove(self.a)
        self.service().settle()
        self.assertTrue(self.service().ended)
        self.opened[0].send(OK)
        self.assertEqual(busy.take(), OK)
        self.assertEqual(len(self.factory.pool), 0)
        busy.send(GET)
        self.assert_status(404, busy.take())

    def test_drained(self) -> None:
        """Draining: what is asked is answered, and then everything ends."""
        idle, busy = self.visit(GET), self.visit()
        self.service().send(OK)
        idle.take()
        busy.send(GET)
        self.factory.drain()
        idle.settle()
        self.assertTrue(idle.ended and not idle.broken)
        self.service().send(OK)
        self.assertIn(b"Connection: close", busy.take())
        self.assertTrue(busy.ended)
