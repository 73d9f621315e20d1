"""Tests of L{relaytun.server.http.routes}, and of what routes do to messages."""

from __future__ import annotations

from ipaddress import ip_network
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import UserError
from relaytun.server.http.routes import Conflict, Route, Routes, Unreachable

from .support import GET, OK, HttpTestCase


def nowhere(host: str, location: str = "/") -> Route:
    return Route(host, mock.Mock(), location)


class FindTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.routes = Routes()

    def add(self, host: str, location: str = "/") -> Route:
        route = nowhere(host, location)
        self.routes.add(route)
        return route

    def test_exact_first(self) -> None:
        """The name itself, then the nearest wildcard above it, then any."""
        exact, near = self.add("a.b.example.com"), self.add("*.b.example.com")
        far, any_name = self.add("*.Example.com"), self.add("*")
        for host, route in (
            ("a.b.example.com", exact),
            ("x.b.example.com", near),
            ("x.y.b.example.com", near),
            ("b.example.com", far),
            ("example.com", any_name),
            ("", any_name),
            ("[::1]", any_name),
        ):
            self.assertIs(self.routes.find(host, "/"), route, host)

    def test_no_wildcard(self) -> None:
        """A name stands for itself only; odd ones are harmless."""
        self.add("example.com")
        for host in ("a.example.com", "com", "", ".", "..", ".example.com", "example.com.x"):
            self.assertIsNone(self.routes.find(host, "/"), host)
        self.assertFalse(self.routes.has_host("a.example.com"))
        self.assertTrue(self.routes.has_host("example.com"))

    def test_locations(self) -> None:
        """The longest location counts; a host name without a fitting one passes to a wildcard."""
        longest, short = self.add("a.x", "/api/v1"), self.add("a.x", "/api")
        wild = self.add("*.x")
        for path, route in (("/api/v1/y", longest), ("/api/v2", short), ("/", wild)):
            self.assertIs(self.routes.find("a.x", path), route)

    def test_conflict(self) -> None:
        """A host name and location belong to one service, until it gives them back."""
        route = self.add("a.x")
        self.assertRaises(Conflict, self.routes.add, nowhere("A.x"))
        self.add("a.x", "/b")
        removed: list[Route] = []
        self.routes.removed.append(removed.append)
        self.assertIn(route, self.routes)
        self.routes.remove(route)
        self.assertNotIn(route, self.routes)
        self.assertEqual(removed, [route])
        self.assertIs(self.routes.find("a.x", "/"), None)
        self.assertIsNotNone(self.routes.find("a.x", "/b"))
        again = self.add("a.x")
        self.routes.remove(route)
        self.assertIs(self.routes.find("a.x", "/"), again)

    def test_headers(self) -> None:
        """What would change where messages end cannot be set."""
        for headers in (
            (("Content-Length", "1"),),
            (("transfer-encoding", "x"),),
            (("X", "a\r\nY: b"),),
            (("X y", "a"),),
            (("", "a"),),
            (("X", "\u20ac"),),
        ):
            self.assertRaises(UserError, Route, "a", mock.Mock(), request_headers=headers)
            self.assertRaises(UserError, Route, "a", mock.Mock(), response_headers=headers)
        self.assertRaises(UserError, Route, "a", mock.Mock(), host_header_rewrite="a\r\nb")


class ChoiceTests(HttpTestCase):
    def test_members(self) -> None:
        """Each request of a group gets a member, and each member has connections of its own."""
        members = [Route("*", self.open, request_headers=(("X-N", str(n)),)) for n in range(2)]
        turns = iter(members * 2)

        def choose() -> Route:
            try:
                return next(turns)
            except StopIteration:
                raise Unreachable("All are offline.") from None

        self.routes.add(Route("a.example", mock.Mock(), choose=choose))
        visitor = self.visit()
        for number in (0, 1, 0, 1):
            visitor.send(GET)
            self.assertIn(b"X-N: %d\r\n" % number, self.opened[number].take())
            self.opened[number].send(OK)
        self.assertEqual((len(self.opened), visitor.take()), (2, OK * 4))
        visitor.send(GET)
        got = visitor.take()
        self.assert_status(503, got)
        self.assertIn(b"All are offline.", got)
        self.routes.forget(members[0])
        self.assertEqual(len(self.factory.pool), 1)


class MessageTests(HttpTestCase):
    def test_set(self) -> None:
        """Fields that are set stand instead of those that were sent."""
        self.route(
            host_header_rewrite="localhost:8080",
            request_headers=(("X-From", "relay"), ("X-Forwarded-Proto", "https")),
            response_headers=(("Server", "none"), ("X-Frame-Options", "DENY")),
        )
        visitor = self.visit(GET[:-2] + b"x-from: visitor\r\n\r\n")
        _first, fields, _body = self.head(self.service().take())
        self.assertEqual(fields[b"host"], b"localhost:8080")
        self.assertEqual(fields[b"x-forwarded-host"], b"a.example")
        self.assertEqual(fields[b"x-from"], b"relay")
        self.assertEqual(fields[b"x-forwarded-proto"], b"https")
        self.service().send(OK[:-4] + b"server: nginx\r\nConnection: X-A\r\nX-A: b\r\n\r\nok")
        _first, fields, _body = self.head(visitor.take())
        self.assertEqual(fields[b"server"], b"none")
        self.assertEqual(fields[b"x-frame-options"], b"DENY")
        self.assertNotIn(b"x-a", fields)

    def test_trusted(self) -> None:
        """A proxy in front that is trusted is believed, and added."""
        self.factory = self.make_factory(trusted=[ip_network("192.0.2.0/24")])
        self.route()
        self.visit(
            GET[:-2] + b"X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 198.51.100.2\r\n"
            b"X-Forwarded-Proto: https\r\nX-Real-IP: 198.51.100.1\r\n\r\n"
        )
        _first, fields, _body = self.head(self.service().take())
        self.assertEqual(fields[b"x-forwarded-for"], b"198.51.100.1, 198.51.100.2, 192.0.2.7")
        self.assertEqual(fields[b"x-forwarded-proto"], b"https")
        self.assertEqual(fields[b"x-forwarded-host"], b"a.example")
        self.assertEqual(fields[b"x-real-ip"], b"198.51.100.1")

    def test_alike(self) -> None:
        """What is remembered of one visitor's request does not get into another's."""
        self.route()
        self.route("*.example", may_reuse=False)
        for host, number in ((b"a.example", 0), (b"b.example", 1), (b"a.example", 0)):
            visitor = self.visit(GET.replace(b"a.example", host))
            service = self.opened[number]
            self.assertIn(b"Host: " + host + b"\r\n", service.take())
            service.send(OK)
            self.assertEqual(visitor.take(), OK)
        for keep in (b"keep-alive", b"close"):
            visitor = self.visit(GET[:-2] + b"Connection: " + keep + b"\r\n\r\n")
            self.opened[0].send(OK)
            self.assertEqual(b"Connection: close" in visitor.take(), keep == b"close")

    def test_many_heads(self) -> None:
        """However many different heads come, few are remembered."""
        self.route()
        visitor = self.visit()
        for number in range(600):
            visitor.send(b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n" % number)
            self.assertIn(b"GET /%d " % number, self.service().take())
            self.service().send(OK)
        self.assertEqual(visitor.take(), OK * 600)
        self.assertLessEqual(len(self.factory.heads._requests), 256)
