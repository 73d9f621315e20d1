"""
What has more than one reading is refused: the corpus of request smuggling.

Each of these is answered with 400 and the end of the connection; not a byte of it, nor of what
follows it, reaches a service.
"""

from __future__ import annotations

from .support import GET, OK, HttpTestCase

H = b"Host: a.example\r\n"
#: What an attacker wants to get through.
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"


def post(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/" + version + b"\r\n" + H + fields + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


#: Refused with their heads.
HEADS = {
    "CL.TE": post(b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nG"),
    "TE.CL": post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"5c\r\n"),
    "CL.TE, names in odd case": post(b"cOnTeNt-LeNgTh: 6\r\ntRansfer-encodinG: chunked\r\n"),
    "two lengths, unequal": post(b"Content-Length: 0\r\nContent-Length: 44\r\n"),
    "two lengths, equal": post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "two lengths in one": post(b"Content-Length: 5, 5\r\n", b"hello"),
    "+5": post(b"Content-Length: +5\r\n", b"hello"),
    "-5": post(b"Content-Length: -5\r\n", b"hello"),
    "0x5": post(b"Content-Length: 0x5\r\n", b"hello"),
    "5_0": post(b"Content-Length: 5_0\r\n", b"hello"),
    "5 0": post(b"Content-Length: 5 0\r\n", b"hello"),
    "other digits": post("Content-Length: \u0665\r\n".encode(), b"hello"),
    "no digits": post(b"Content-Length: \r\n", b"hello"),
    "a huge length": post(b"Content-Length: 99999999999999999999\r\n"),
    "bare LF": b"GET / HTTP/1.1\n" + H + b"\r\n",
    "bare LF after a field": b"GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n",
    "bare LF all over": b"GET / HTTP/1.1\nHost: a.example\n\n",
    "LF CR LF": b"GET / HTTP/1.1\r\nHost: a.example\n\r\n",
    "bare LF hides a length": post(b"X: y\nContent-Length: 44\r\n"),
    "bare CR": b"GET / HTTP/1.1\r\nHost: a.example\rX: y\r\n\r\n",
    "bare CR in the first line": b"GET / HTTP/1.1\rX\r\n" + H + b"\r\n",
    "CR CR LF": b"GET / HTTP/1.1\r\r\n" + H + b"\r\n",
    "obs-fold": b"GET / HTTP/1.1\r\n" + H + b"X: y\r\n z\r\n\r\n",
    "obs-fold with a tab": post(b"Transfer-Encoding:\r\n\tchunked\r\n"),
    "fold in front": b"GET / HTTP/1.1\r\n X: y\r\n" + H + b"\r\n",
    "space before colon": post(b"Transfer-Encoding : chunked\r\n"),
    "tab before colon": post(b"Content-Length\t: 44\r\n"),
    "no colon": b"GET / HTTP/1.1\r\n" + H + b"nonsense\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n" + H + b": x\r\n\r\n",
    "a name with a NUL": b"GET / HTTP/1.1\r\n" + H + b"X\x00: x\r\n\r\n",
    "a value with a NUL": b"GET / HTTP/1.1\r\n" + H + b"X: x\x00y\r\n\r\n",
    "a value with an escape": b"GET / HTTP/1.1\r\n" + H + b"X: \x1b[0m\r\n\r\n",
    "a name beyond ASCII": b"GET / HTTP/1.1\r\n" + H + b"Transfer-Encoding\xff: chunked\r\n\r\n",
    "target against Host": b"GET http://b.example/ HTTP/1.1\r\n" + H + b"\r\n",
    "target's port against Host": b"GET http://a.example:81/ HTTP/1.1\r\n" + H + b"\r\n",
    "target with a user": b"GET http://u@a.example/ HTTP/1.1\r\nHost: u@a.example\r\n\r\n",
    "target without path": b"GET a.example HTTP/1.1\r\n" + H + b"\r\n",
    "target of another kind": b"GET ftp://a.example/ HTTP/1.1\r\n" + H + b"\r\n",
    "target with a fragment": b"GET /#x HTTP/1.1\r\n" + H + b"\r\n",
    "target with a space": b"GET / /x HTTP/1.1\r\n" + H + b"\r\n",
    "target beyond ASCII": b"GET /\xc3\xa4 HTTP/1.1\r\n" + H + b"\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\n" + H + b"Host: b.example\r\n\r\n",
    "two equal Hosts": b"GET / HTTP/1.1\r\n" + H + H + b"\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "an empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n",
    "a Host with a user": b"GET / HTTP/1.1\r\nHost: u@a.example\r\n\r\n",
    "a Host with a comma": b"GET / HTTP/1.1\r\nHost: a.example,b.example\r\n\r\n",
    "a Host with a space": b"GET / HTTP/1.1\r\nHost: a.example b.example\r\n\r\n",
    "a Host with a bad port": b"GET / HTTP/1.1\r\nHost: a.example:x\r\n\r\n",
    "a Host beyond ASCII": b"GET / HTTP/1.1\r\nHost: \xe4.example\r\n\r\n",
    "TE gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n"),
    "TE chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n"),
    "TE identity": post(b"Transfer-Encoding: identity\r\n"),
    "TE xchunked": post(b"Transfer-Encoding: xchunked\r\n"),
    "TE quoted": post(b'Transfer-Encoding: "chunked"\r\n'),
    "TE with a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n"),
    "TE with a parameter": post(b"Transfer-Encoding: chunked;q=1\r\n"),
    "TE empty": post(b"Transfer-Encoding:\r\n"),
    "TE twice": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    "TE twice, once hidden": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"),
    "TE in HTTP/1.0": post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"1.0"),
    "two Authorizations": b"GET / HTTP/1.1\r\n"
    + H
    + b"Authorization: Basic YTpi\r\nAuthorization: Basic Yjpj\r\n\r\n",
    "h2c": b"GET / HTTP/1.1\r\n"
    + H
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    "h2c among others": b"GET / HTTP/1.1\r\n"
    + H
    + b"Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n",
    "h2c without Connection": b"GET / HTTP/1.1\r\n" + H + b"Upgrade: h2c\r\n\r\n",
    "HTTP2-Settings": b"GET / HTTP/1.1\r\n" + H + b"HTTP2-Settings: AAMAAABk\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + H + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "http/1.1": b"GET / http/1.1\r\n" + H + b"\r\n",
    "HTTP/1.1 and more": b"GET / HTTP/1.1 x\r\n" + H + b"\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n" + H + b"\r\n",
    "a tab for a space": b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n",
    "an empty line in front": b"\r\nGET / HTTP/1.1\r\n" + H + b"\r\n",
    "a method that is none": b"G(T / HTTP/1.1\r\n" + H + b"\r\n",
    "CONNECT": b"CONNECT a.example:443 HTTP/1.1\r\n" + H + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}

#: Refused with their bodies: the service sees a broken request at most.
BODIES = {
    "0x5": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "+5": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
    "-5": chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
    "no size": chunked(b"\r\nhello\r\n0\r\n\r\n"),
    "space in front": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
    "space behind": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
    "a size too large": chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "many zeros": chunked(b"0" * 20 + b"5\r\nhello\r\n0\r\n\r\n"),
    "bare LF after the size": chunked(b"5\nhello\r\n0\r\n\r\n"),
    "bare LF in the extension": chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "bare CR in the extension": chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "a long extension": chunked(b"5;" + b"a" * 2000),
    "many extensions": chunked((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 20),
    "longer than it says": chunked(b"5\r\nhello!!\r\n0\r\n\r\n"),
    "no CR LF after a chunk": chunked(b"5\r\nhello0\r\n\r\n"),
    "LF only after a chunk": chunked(b"5\r\nhello\n0\r\n\r\n"),
    "other two bytes after a chunk": chunked(b"5\r\nhelloXX0\r\n\r\n"),
    "bare LF at the end": chunked(b"0\r\n\n"),
    "a trailer that is none": chunked(b"0\r\nnonsense\r\n\r\n"),
    "a folded trailer": chunked(b"0\r\nX: y\r\n z\r\n\r\n"),
    "a trailer with bare LF": chunked(b"0\r\nX: y\nContent-Length: 44\r\n\r\n"),
    "long trailers": chunked(b"0\r\n" + b"X: y\r\n" * 4000),
}


class SmugglingTests(HttpTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.route("*")

    def assert_refused(self, request: bytes, name: str) -> None:
        visitor = self.visit(request)
        got = visitor.take()
        self.assertTrue(got.startswith(b"HTTP/1.1 400 "), (name, got[:200]))
        self.assertEqual(got.count(b"Content-Type: text"), 1, name)
        self.assertTrue(visitor.ended and not visitor.broken, name)

    def test_heads(self) -> None:
        """Nothing of a request with a malformed or ambiguous head reaches a service."""
        for name, request in HEADS.items():
            for follows in (b"", NEXT):
                self.assert_refused(request + follows, name)
                self.assertEqual(self.opened, [], name)

    def test_later_heads(self) -> None:
        """Nor on a connection that had a good one before."""
        for name, request in HEADS.items():
            visitor = self.visit(GET + request + NEXT)
            self.assertEqual(self.service().take().count(b"HTTP/1.1"), 1, name)
            self.service().send(OK)
            got = visitor.take()
            self.assertTrue(got.startswith(OK + b"HTTP/1.1 400 "), (name, got[:200]))
            self.assertEqual(self.service().take(), b"", name)
            self.assertTrue(visitor.ended, name)

    def test_bodies(self) -> None:
        """A malformed body breaks the service's connection; nothing after it gets through."""
        for name, request in BODIES.items():
            self.assert_refused(request + NEXT, name)
            service = self.service()
            service.settle()
            self.assertTrue(service.broken, name)
            self.assertNotIn(b"smuggled", service.got, name)
            self.assertFalse(service.got.endswith(b"0\r\n\r\n"), name)
        self.assertEqual(len(self.factory.pool), 0)

    def test_good_ones(self) -> None:
        """The rules do not hit what is merely unusual."""
        for request in (
            b"GET http://A.example/x HTTP/1.1\r\n" + H + b"\r\n",
            b"GET http://a.example HTTP/1.0\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost:a.example.\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + H + b"X:\r\nY: \xe4\r\nZ: \t z \t\r\n\r\n",
            b"M-SEARCH /%00;a=b?c={d} HTTP/1.1\r\n" + H + b"\r\n",
            chunked(b'5 ; a="b"\r\nhello\r\n00\r\n\r\n'),
            chunked(b"00005\r\nhello\r\n0;x\r\n\r\n"),
            post(b"Content-Length: 005\r\n", b"hello"),
            post(b"Transfer-Encoding:  CHUNKED \r\n", b"0\r\n\r\n"),
        ):
            visitor = self.visit(request)
            self.service().send(OK)
            self.assert_status(200, visitor.take())

    def test_hop_by_hop(self) -> None:
        """Fields between neighbours, and those that Connection names, are not passed on."""
        self.visit(
            b"GET / HTTP/1.1\r\n" + H + b"Connection: X-Secret, x-forwarded-for , host\r\n"
            b"X-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers, gzip\r\nProxy-Authorization: x\r\n"
            b"Proxy-Connection: close\r\nUpgrade: websocket\r\nX-Kept: 1\r\n\r\n"
        )
        _first, fields, _body = self.head(self.service().take())
        self.assertEqual(
            set(fields),
            {
                b"host", b"te", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
                b"x-kept",
            },
        )  # fmt: skip
        self.assertEqual(fields[b"te"], b"trailers")

    def test_forged(self) -> None:
        """A visitor cannot say for itself who it is, not with other hyphens either."""
        self.visit(
            b"GET / HTTP/1.1\r\n" + H + b"X-Forwarded-For: 1\r\nX_Forwarded_For: 2\r\n"
            b"x-forwarded-proto: https\r\nForwarded: for=3\r\nX-Real-IP: 4\r\n\r\n"
        )
        _first, fields, _body = self.head(self.service().take())
        self.assertEqual(
            set(fields),
            {b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"},
        )
        self.assertEqual(fields[b"x-forwarded-for"], b"192.0.2.7")
        self.assertEqual(fields[b"x-forwarded-proto"], b"http")
