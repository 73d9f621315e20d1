"""Requests and answers from end to end of L{relaytun.server.http}."""

from __future__ import annotations

import socket

from relaytun.plane.pair import End
from relaytun.server.http.routes import Route, Unreachable

from .support import ADDRESS, GET, OK, HttpTestCase


class PassingTests(HttpTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.route()

    def test_get(self) -> None:
        """A request reaches its service, told who the visitor is, and the answer comes back."""
        visitor = self.visit(GET)
        first, fields, _body = self.head(self.service().take())
        self.assertEqual(first, b"GET / HTTP/1.1")
        self.assertEqual(
            fields,
            {
                b"host": b"a.example",
                b"x-forwarded-for": b"192.0.2.7",
                b"x-forwarded-host": b"a.example",
                b"x-forwarded-proto": b"http",
            },
        )
        self.assertEqual(self.addresses, [ADDRESS])
        self.service().send(OK)
        self.assertEqual(visitor.take(), OK)
        self.assertFalse(visitor.ended)

    def test_in_pieces(self) -> None:
        """It does not matter in what pieces either side's bytes come."""
        visitor = self.visit()
        post = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
        for position in range(len(post)):
            visitor.send(post[position : position + 1])
        self.assertTrue(self.service().take().endswith(b"\r\n\r\nhello"))
        chunked = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nDigest: x\r\n\r\n"
        )
        for position in range(len(chunked)):
            self.service().send(chunked[position : position + 1])
        _first, fields, body = self.head(visitor.take())
        self.assertEqual(fields, {b"transfer-encoding": b"chunked"})
        self.assertEqual(
            body,
            b"".join(b"1\r\n%c\r\n" % each for each in b"abcde") + b"0\r\nDigest: x\r\n\r\n",
        )
        visitor.send(GET)
        self.assertEqual(len(self.opened), 1)

    def test_chunked_request(self) -> None:
        """A body in chunks goes on in chunks, with its trailers."""
        self.visit(
            b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: Chunked\r\n\r\n"
            b"A\r\n0123456789\r\n0\r\nX-Sum: 9\r\nContent-Length: 4\r\n\r\n"
        )
        _first, fields, body = self.head(self.service().take())
        self.assertEqual(fields[b"transfer-encoding"], b"chunked")
        self.assertEqual(body, b"a\r\n0123456789\r\n0\r\nX-Sum: 9\r\n\r\n")

    def test_pipelined(self) -> None:
        """Requests that come together are answered one after the other, in order."""
        visitor = self.visit(
            b"".join(b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n" % n for n in range(3))
        )
        for number in range(3):
            got = self.service().take()
            self.assertEqual(got.count(b"GET "), 1)
            self.assertTrue(got.startswith(b"GET /%d " % number))
            self.service().send(OK)
        self.assertEqual(visitor.take(), OK * 3)
        self.assertEqual(len(self.opened), 1)

    def test_each_its_own(self) -> None:
        """One connection's requests go each to the service that it names."""
        self.route("b.example")
        visitor = self.visit(GET)
        self.service().send(OK)
        visitor.send(GET.replace(b"a.example", b"B.example:80"))
        self.assertEqual(len(self.opened), 2)
        self.assertIn(b"Host: B.example:80\r\n", self.service().take())
        visitor.settle()
        self.service().send(OK)
        visitor.send(GET)
        self.assertEqual(len(self.opened), 2)
        self.assertEqual(self.opened[0].take().count(b"GET"), 2)

    def test_head(self) -> None:
        """An answer to HEAD has no body, whatever length it gives."""
        visitor = self.visit(GET.replace(b"GET", b"HEAD"))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        self.service().send(head)
        self.assertEqual(visitor.take(), head)
        visitor.send(GET)
        self.service().send(OK)
        self.assertEqual(visitor.take(), OK)

    def test_without_body(self) -> None:
        """204 and 304 have no body."""
        for head in (
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        ):
            visitor = self.visit(GET)
            self.service().send(head)
            self.assertEqual(visitor.take(), head)
        self.assertEqual(len(self.opened), 1)

    def test_continue(self) -> None:
        """Who waits for leave to send its body gets the service's."""
        visitor = self.visit(
            b"PUT / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\n"
            b"Content-Length: 3\r\n\r\n"
        )
        self.assertIn(b"Expect: 100-continue\r\n", self.service().take())
        self.service().send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(visitor.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        visitor.send(b"abc")
        self.assertEqual(self.service().take(), b"abc")
        self.service().send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
        self.assertEqual(visitor.take(), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)

    def test_old_visitor(self) -> None:
        """HTTP/1.0 gets no chunks and no interim answers, and the end of the connection."""
        visitor = self.visit(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        self.service().send(
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nok\r\n0\r\n\r\n"
        )
        self.assertEqual(visitor.take(), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok")
        self.assertTrue(visitor.ended)
        self.assertFalse(visitor.broken)

    def test_old_visitor_stays(self) -> None:
        """HTTP/1.0 with keep-alive is kept where the length is known."""
        get = b"GET / HTTP/1.0\r\nHost: a.example\r\nConnection: Keep-Alive\r\n\r\n"
        visitor = self.visit(get)
        for _ in range(2):
            self.service().send(OK)
            self.assertIn(b"Connection: keep-alive\r\n", visitor.take())
            visitor.send(get)

    def test_until_close(self) -> None:
        """An answer that ends with its connection becomes chunks; the visitor's goes on."""
        visitor = self.visit(GET)
        self.service().send(b"HTTP/1.0 200 OK\r\n\r\nabc")
        self.service().close()
        _first, _fields, body = self.head(visitor.take())
        self.assertEqual(body, b"3\r\nabc\r\n0\r\n\r\n")
        visitor.send(GET)
        self.assertEqual(len(self.opened), 2)

    def test_until_broken(self) -> None:
        """An answer that ends with a broken connection breaks the visitor's."""
        for head in (
            b"HTTP/1.0 200 OK\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        ):
            visitor = self.visit(GET)
            self.service().send(head)
            visitor.take()
            self.service().reset()
            visitor.settle()
            self.assertTrue(visitor.broken)

    def test_ended_early(self) -> None:
        """So does one that ends in order before its length."""
        visitor = self.visit(GET)
        self.service().send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
        visitor.take()
        self.service().close()
        visitor.settle()
        self.assertTrue(visitor.broken)

    def test_half_closed_visitor(self) -> None:
        """A visitor that only writes no more gets its answer."""
        visitor = self.visit(GET)
        visitor.finish()
        self.service().send(OK)
        self.assertEqual(visitor.take(), OK)
        self.assertTrue(visitor.ended)
        self.assertFalse(visitor.broken)

    def test_half_closed_upload(self) -> None:
        """Nor does it wait for a rest that cannot come, even of a request that had to wait."""
        visitor = self.visit(
            GET + b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nabc"
        )
        visitor.finish()
        self.service().send(OK)
        visitor.settle()
        self.assertTrue(visitor.broken)
        self.service().settle()
        self.assertTrue(self.service().broken)

    def test_broken_upload(self) -> None:
        """A service does not take a part of a request for the whole."""
        visitor = self.visit(b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nabc")
        visitor.close()
        service = self.service()
        service.settle()
        self.assertTrue(service.broken)

    def test_visitor_leaves(self) -> None:
        """Who is gone wants no answer: the service is told."""
        visitor = self.visit(GET)
        visitor.reset()
        self.service().settle()
        self.assertTrue(self.service().broken)

    def test_early_answer(self) -> None:
        """An answer before the end of the request is the last one on both connections."""
        visitor = self.visit(b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nabc")
        self.service().send(OK)
        self.assertIn(b"Connection: close\r\n", visitor.take())
        self.assertTrue(visitor.ended)
        self.assertFalse(visitor.broken)
        self.assertEqual(len(self.factory.pool), 0)

    def test_after_close(self) -> None:
        """Nothing is read after a request that says close."""
        visitor = self.visit(GET[:-2] + b"Connection: close\r\n\r\n" + GET)
        self.service().send(OK)
        got = visitor.take()
        self.assertEqual(got.count(b"HTTP/1.1"), 1)
        self.assertIn(b"Connection: close\r\n", got)
        self.assertTrue(visitor.ended)
        self.assertEqual(self.service().take().count(b"GET"), 1)


class StreamTests(HttpTestCase):
    SIZE = 8 * 1024 * 1024

    def test_slow_visitor(self) -> None:
        """While the visitor does not read, the service has to wait."""
        self.route()
        visitor = self.visit(GET)
        visitor.reads = False
        self.service().sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.SIZE)
        self.assertRaises(AssertionError, self.service().send, bytes(self.SIZE * 4))
        visitor.reads = True
        visitor.settle()
        self.assertGreater(len(visitor.got), 100000)

    def test_slow_service(self) -> None:
        """While the service does not read, the visitor has to wait."""
        self.route()
        visitor = self.visit(
            b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % (1 << 40)
        )
        self.assertRaises(AssertionError, visitor.send, bytes(self.SIZE * 4))
        before = len(self.service().take())
        visitor.settle()
        self.assertGreater(len(self.service().take()) + before, 100000)

    def test_answer_unread(self) -> None:
        """A service that answers what it has not read does not get another request."""

        def narrow(address: tuple[str, int]) -> End:
            end = self.open(address)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return end

        self.routes.add(Route("a.example", narrow))
        size = 100000
        head = b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % size
        visitor = self.visit(head + bytes(size))
        self.service().sock.send(OK)
        visitor.settle()
        self.assertEqual(visitor.take(), OK)
        self.assertEqual(len(self.factory.pool), 0)
        self.service().settle()
        self.assertTrue(self.service().broken)


class PageTests(HttpTestCase):
    def test_no_host(self) -> None:
        """An unknown host name is a page, and the connection goes on."""
        self.route()
        visitor = self.visit(
            GET.replace(b"a.ex", b"x.ex").replace(b"\r\n\r\n", b"\r\nAccept: text/html\r\n\r\n")
        )
        first, fields, body = self.head(visitor.take())
        self.assertEqual(first, b"HTTP/1.1 404 Not Found")
        self.assertEqual(fields[b"content-length"], b"%d" % len(body))
        self.assertIn(b"<p>There is no service with the name x.example", body)
        visitor.send(GET)
        self.service().send(OK)
        self.assertEqual(visitor.take(), OK)

    def test_no_location(self) -> None:
        """So is a path that no service has."""
        self.route(location="/api")
        visitor = self.visit(GET)
        got = visitor.take()
        self.assert_status(404, got)
        self.assertIn(b"for this path of a.example", got)

    def test_own_page(self) -> None:
        """What proves that a name is ours is answered by the server; the rest by the service."""
        path = b"/.well-known/acme-challenge/"
        self.factory.own_page = {(path + b"token").decode(): b"proof"}.get
        self.route()
        visitor = self.visit(GET.replace(b"/ ", path + b"token ", 1))
        first, fields, body = self.head(visitor.take())
        self.assertEqual((first, body), (b"HTTP/1.1 200 OK", b"proof"))
        self.assertEqual(fields[b"content-type"], b"application/octet-stream")
        visitor.send(GET.replace(b"/ ", path + b"other ", 1))
        self.assertIn(path + b"other", self.service().take())

    def test_unreachable(self) -> None:
        """Without a provider there is a page that says why, escaped."""
        self.route()
        self.unreachable = Unreachable("<b> is offline")
        visitor = self.visit(GET[:-2] + b"Accept: text/html\r\n\r\n")
        got = visitor.take()
        self.assert_status(503, got)
        self.assertIn(b"&lt;b&gt; is offline", got)
        self.unreachable = OSError(24, "Too many open files")
        visitor.send(GET)
        got = visitor.take()
        self.assert_status(503, got)
        self.assertNotIn(b"open files", got)

    def test_bad_gateway(self) -> None:
        """A service that closes, breaks or talks nonsense is 502."""
        self.route()
        for end in (
            lambda: self.service().close(),
            lambda: self.service().reset(),
            lambda: self.service().send(b"SSH-2.0-OpenSSH\r\n\r\n"),
            lambda: self.service().send(b"\x00"),
            lambda: self.service().send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
            lambda: self.service().send(b"x" * 70000),
            lambda: self.service().send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            lambda: self.service().send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"
            ),
            lambda: self.service().send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
            lambda: self.service().send(b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n"),
        ):
            visitor = self.visit(GET)
            end()
            self.assert_status(502, visitor.take())
            self.assertEqual(len(self.factory.pool), 0)

    def test_gateway_timeout(self) -> None:
        """A service that does not answer in time is 504."""
        self.route()
        visitor = self.visit(GET)
        self.reactor.pump([1] * 59)
        self.assertEqual(visitor.take(), b"")
        self.reactor.pump([1] * 2)
        self.assert_status(504, visitor.take())

    def test_slow_head(self) -> None:
        """A head has 10 seconds, however it dribbles; the next one may be waited for longer."""
        self.route()
        visitor = self.visit()
        for character in GET[:12]:
            visitor.send(bytes([character]))
            self.reactor.advance(1)
        self.assert_status(408, visitor.take())
        self.assertTrue(visitor.ended)
        visitor = self.visit(GET)
        self.service().send(OK)
        visitor.take()
        self.reactor.pump([1] * 50)
        visitor.send(GET[:5])
        self.reactor.pump([1] * 12)
        self.assert_status(408, visitor.take())

    def test_silent(self) -> None:
        """Who says nothing, or nothing more, is let go without a word."""
        self.route()
        visitor = self.visit()
        self.reactor.pump([1] * 11)
        self.assertEqual(visitor.take(), b"")
        self.assertTrue(visitor.ended)
        visitor = self.visit(GET)
        self.service().send(OK)
        visitor.take()
        self.reactor.pump([1] * 62)
        self.assertEqual(visitor.take(), b"")
        self.assertTrue(visitor.ended)

    def test_large_head(self) -> None:
        """A head of more than 64 KiB is 431, whether or not it ends."""
        self.route()
        for end in (b"", b"\r\n\r\n"):
            visitor = self.visit(GET[:-2] + b"X: " + b"x" * 70000 + end)
            self.assert_status(431, visitor.take())
        self.assertEqual(self.opened, [])

    def test_password(self) -> None:
        """Who does not know the password is 401, and the service gets neither it nor them."""
        self.route(user="me", password="s:cret")
        for field in (
            b"",
            b"Authorization: Basic bWU6d3Jvbmc=\r\n",
            b"Authorization: Basic !\r\n",
            b"Authorization: Bearer bWU6czpjcmV0\r\n",
        ):
            visitor = self.visit(GET[:-2] + field + b"\r\n")
            first, fields, _body = self.head(visitor.take())
            self.assertEqual(first, b"HTTP/1.1 401 Unauthorized")
            self.assertTrue(fields[b"www-authenticate"].startswith(b"Basic realm="))
        self.assertEqual(self.opened, [])
        visitor.send(GET[:-2] + b"Authorization: basic  bWU6czpjcmV0\r\n\r\n")
        self.assertNotIn(b"uthorization", self.service().take())

    def test_own_authorization(self) -> None:
        """Where the server asks for no password, what the service asks for reaches it."""
        self.route()
        self.visit(GET[:-2] + b"Authorization: Basic bWU6czpjcmV0\r\n\r\n")
        self.assertIn(b"Authorization: Basic bWU6czpjcmV0\r\n", self.service().take())
