"""Tests of L{relaytun.server.public.names}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import UserError
from relaytun.server.http.routes import Route, Routes, Unreachable
from relaytun.server.public.names import HttpName, TlsName, base_of, passed_through
from relaytun.server.public.title import Member
from relaytun.wire.messages import Exposure, Service

ANYBODY = ("192.0.2.7", 1234)


class FakeVisitor:
    """Holds what it is given to carry."""

    def __init__(self, healthy: bool = True) -> None:
        self.service = Service(id="web", protocol="http", local_port=80, healthy=healthy)
        self.carried: list[socket.socket] = []
        self.streams = 0

    def serve(self, sock: socket.socket, address: Any) -> None:
        self.carried.append(sock)


class NameCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.routes = Routes()

    def title(self, value: str = "a.test/", **more: Any) -> HttpName:
        """A name that is open."""
        self.exposure = Exposure(service="web", **more)
        title = HttpName(
            value, "ann", self.exposure, self.routes, lambda host: (f"http://{host}:8080",)
        )
        title.open()
        return title

    def member(self, title: HttpName, **more: Any) -> Member:
        """One more provider."""
        member = Member(FakeVisitor(**more), self.exposure)  # type: ignore[arg-type]
        title.members.append(member)
        return member

    def opened(self, route: Route, member: Member) -> bytes:
        """What the service reads first on a connection that the route opens."""
        near = route.open(ANYBODY)
        (far,) = member.visitor.carried  # type: ignore[attr-defined]
        self.addCleanup(far.close)
        with near:
            near.send(b"GET")
            return bytes(far.recv(1000))


class HttpTests(NameCase):
    """Names of HTTP services."""

    def test_route(self) -> None:
        """It is found by host and path as long as it is open, with its settings."""
        title = self.title(
            "a.test/api", http_user="u", http_password="p", host_header_rewrite="inner"
        )
        route = self.routes.find("a.test", "/api/x")
        assert route is not None
        self.assertEqual((route.user, route.password), ("u", "p"))
        self.assertEqual((route.host_header_rewrite, route.may_reuse), ("inner", True))
        self.assertIsNone(self.routes.find("a.test", "/"))
        self.assertEqual(title.urls("relay"), ("http://a.test:8080/api",))
        title.close()
        self.assertIsNone(self.routes.find("a.test", "/api/x"))
        title.close()

    def test_open(self) -> None:
        """A connection begins at its member."""
        title = self.title()
        member = self.member(title)
        route = self.routes.find("a.test", "/")
        assert route is not None
        self.assertEqual(self.opened(route, member), b"GET")

    def test_proxy_protocol(self) -> None:
        """The service may be told first who its visitor is; then nobody else has the connection."""
        title = self.title(proxy_protocol="v1")
        member = self.member(title)
        route = self.routes.find("a.test", "/")
        assert route is not None
        self.assertFalse(route.may_reuse)
        host, port = ANYBODY
        expected = f"PROXY TCP4 {host} 0.0.0.0 {port} 0\r\nGET"
        self.assertEqual(self.opened(route, member), expected.encode())

    def test_unhealthy(self) -> None:
        """When the health check fails there is nobody to be reached."""
        title = self.title()
        self.member(title, healthy=False)
        route = self.routes.find("a.test", "/")
        assert route is not None
        self.assertRaises(Unreachable, route.open, ANYBODY)

    def test_bad_header(self) -> None:
        """A header that would change where messages end cannot be set."""
        with self.assertRaises(UserError):
            self.title(request_headers=(("Transfer-Encoding", "chunked"),))

    def test_group(self) -> None:
        """Requests of a group go round; who has left gets none, and its connections are let go."""
        title = self.title(group="g")
        first, second = self.member(title), self.member(title)
        route = self.routes.find("a.test", "/")
        assert route is not None and route.choose is not None
        chosen = [route.choose() for _ in range(4)]
        self.assertEqual((chosen[0], chosen[1]), (chosen[2], chosen[3]))
        self.assertIsNot(chosen[0], chosen[1])
        dropped: list[Route] = []
        self.routes.removed.append(dropped.append)
        title.members.remove(first)
        title.changed()
        self.assertEqual(len(dropped), 1)
        (left,) = {route.choose() for _ in range(3)}
        self.assertEqual(self.opened(left, second), b"GET")
        title.members.clear()
        self.assertRaises(Unreachable, route.choose)


class TlsTests(SynchronousTestCase):
    """Names whose TLS ends at the service."""

    def test_found(self) -> None:
        """The name itself is found before the nearest wildcard above it."""
        table: dict[str, Any] = {}
        titles = [
            TlsName(value, "ann", table, lambda: 443)
            for value in ("a.b.test", "*.b.test", "*.test")
        ]
        for title in titles:
            title.open()
        self.assertEqual(titles[0].urls("relay"), ("https://a.b.test/",))
        for name, title in zip(("a.b.test", "x.b.test", "b.test"), titles, strict=True):
            self.assertEqual(passed_through(table, name), title.serve)
        for name in ("test", "other", "a.example"):
            self.assertIsNone(passed_through(table, name))
        titles[0].close()
        self.assertEqual(passed_through(table, "a.b.test"), titles[1].serve)

    def test_base(self) -> None:
        """The usual port goes without saying."""
        self.assertEqual(base_of("http", "a.test", 80), "http://a.test")
        self.assertEqual(base_of("https", "a.test", 8443), "https://a.test:8443")
