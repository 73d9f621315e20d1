"""Tests of L{relaytun.server.http.upgrade}."""

from __future__ import annotations

from .support import GET, OK, HttpTestCase, Peer

REQUEST = GET[:-2] + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class UpgradeTests(HttpTestCase):
    def upgrade(self, early: bytes = b"", first: bytes = b"") -> tuple[Peer, Peer]:
        self.route()
        visitor = self.visit(REQUEST + early)
        service = self.service()
        _first_line, fields, body = self.head(service.take())
        self.assertEqual((fields[b"connection"], fields[b"upgrade"]), (b"Upgrade", b"websocket"))
        self.assertEqual(body, b"")
        service.send(SWITCH + first)
        self.assertEqual(visitor.take(), SWITCH + first)
        return visitor, service

    def test_both_ways(self) -> None:
        """Afterwards bytes pass both ways, whatever they are."""
        visitor, service = self.upgrade()
        visitor.send(GET + b"\x00")
        self.assertEqual(service.take(), GET + b"\x00")
        service.send(OK)
        self.assertEqual(visitor.take(), OK)

    def test_first_bytes(self) -> None:
        """Bytes that came with the heads are not lost, and do not come too early."""
        _visitor, service = self.upgrade(b"early", b"first")
        self.assertEqual(service.take(), b"early")

    def test_visitor_ends(self) -> None:
        """The visitor may end first: the service's bytes still come."""
        visitor, service = self.upgrade()
        visitor.finish()
        service.settle()
        self.assertTrue(service.ended and not service.broken)
        service.send(b"last")
        self.assertEqual(visitor.take(), b"last")
        service.close()
        visitor.settle()
        self.assertTrue(visitor.ended and not visitor.broken)
        self.assertEqual(self.factory.visitors, 0)

    def test_service_ends(self) -> None:
        """So may the service."""
        visitor, service = self.upgrade()
        service.finish()
        visitor.settle()
        self.assertTrue(visitor.ended and not visitor.broken)
        visitor.send(b"last")
        self.assertEqual(service.take(), b"last")
        visitor.close()
        service.settle()
        self.assertTrue(service.ended and not service.broken)
        self.assertEqual(self.factory.visitors, 0)

    def test_broken(self) -> None:
        """What breaks on one side breaks on the other."""
        visitor, service = self.upgrade()
        service.reset()
        visitor.settle()
        self.assertTrue(visitor.broken)
        visitor = self.visit(REQUEST)
        service = self.service()
        service.send(SWITCH)
        visitor.reset()
        service.settle()
        self.assertTrue(service.broken)

    def test_slow(self) -> None:
        """Each side waits for the other."""
        visitor, service = self.upgrade()
        for slow, fast in ((visitor, service), (service, visitor)):
            slow.reads = False
            self.assertRaises(AssertionError, fast.send, bytes(32 << 20))
            slow.reads = True
            slow.settle()

    def test_idle(self) -> None:
        """It may be silent for as long as it likes."""
        visitor, _service = self.upgrade()
        self.reactor.pump([1] * 1000)
        visitor.settle()
        self.assertFalse(visitor.ended)

    def test_declined(self) -> None:
        """If the service stays with HTTP, so does the connection; nothing goes by unread."""
        self.route()
        visitor = self.visit(REQUEST + GET)
        self.service().send(OK)
        self.assertEqual(visitor.take(), OK)
        self.assertEqual(self.service().take().count(b"GET "), 2)
        self.service().send(OK)
        self.assertEqual(visitor.take(), OK)

    def test_with_body(self) -> None:
        """A request with a body is none for an upgrade, which may be ignored."""
        self.route()
        self.visit(REQUEST.replace(b"Host", b"Content-Length: 1\r\nHost") + b"x")
        self.assertNotIn(b"pgrade", self.service().take())
