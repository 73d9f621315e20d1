"""Tests of L{relaytun.client.httpproxy}."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.client import httpproxy
from relaytun.client.httpproxy import HTTPProxy, ProxyEndpoint, ProxyError, parse_proxy, proxy_for
from relaytun.wire.httphead import Head, HeadReader


class ParseTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """A URL with what belongs to it; the password may be percent-encoded."""
        for text, proxy in (
            ("http://proxy:3128", HTTPProxy("proxy", 3128)),
            ("HTTP://proxy/", HTTPProxy("proxy", 8080)),
            ("proxy:1", HTTPProxy("proxy", 1)),
            ("http://ann:s%40e@[::1]:1", HTTPProxy("::1", 1, "ann:s@e")),
            ("http://ann@proxy:1", HTTPProxy("proxy", 1, "ann:")),
        ):
            self.assertEqual(parse_proxy(text), proxy)

    def test_refused(self) -> None:
        """What is no proxy is refused, and what was written is not repeated."""
        for text in ("https://secret:1", "http://x:secret", "http://x:1/secret", "socks5://secret"):
            with self.assertRaises(ValueError) as caught:
                parse_proxy(text)
            self.assertNotIn("secret", str(caught.exception))

    def test_no_secret(self) -> None:
        """Neither its name nor its representation has the password."""
        proxy = HTTPProxy("p", 1, "ann:secret")
        self.assertNotIn("secret", f"{proxy} {proxy!r}")
        self.assertEqual(str(HTTPProxy("::1", 1)), "the proxy [::1]:1")

    def test_choice(self) -> None:
        """The user's word wins; then the environment's, with its exceptions."""
        environment = {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}
        lower = {"https_proxy": "http://b:1", "NO_PROXY": "x, .example.com"}
        for host, configured, given, chosen in (
            ("h", "http://c:1", environment, "c"),
            ("h", None, environment, "a"),
            ("h", None, lower, "b"),
            ("x", None, lower, None),
            ("www.example.com", None, lower, None),
            ("x", "http://c:1", lower, "c"),
            ("localhost", None, environment, None),
            ("127.0.0.1", None, environment, None),
            ("::1", "http://c:1", environment, "c"),
            ("h", None, {"HTTPS_PROXY": ""}, None),
            ("h", None, {"HTTPS_PROXY": "http://a:1", "no_proxy": "*"}, None),
        ):
            proxy = proxy_for(host, configured, given)
            self.assertEqual(proxy and proxy.host, chosen)

    def test_bad_environment(self) -> None:
        """A bad proxy of the environment says where it stands."""
        with self.assertRaises(ValueError) as caught:
            proxy_for("h", None, {"https_proxy": "socks5://x:1"})
        self.assertIn("HTTPS_PROXY in the environment", str(caught.exception))


class FakeProxy(Protocol):
    """Answers with what it was given; then it sends back what comes."""

    def __init__(self, test: EndpointTests) -> None:
        self.test = test
        self.reader = HeadReader()
        self.asked = False

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if self.asked:
            self.transport.write(data)
            return
        head = self.reader.feed(data)
        if head is not None:
            self.asked = True
            self.test.asked = head
            self.transport.write(self.test.answer)
            if not self.test.stays:
                self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.test.lost.callback(None)


class Program(Protocol):
    """Gathers what comes."""

    def __init__(self) -> None:
        self.data = b""
        self.wanted = b""
        self.complete: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if self.data == self.wanted:
            self.complete.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class EndpointTests(TestCase):
    """A proxy on loopback."""

    timeout = 10
    stays = True
    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    asked: Head

    def setUp(self) -> None:
        self.lost: Deferred[None] = Deferred()
        factory: Factory[Protocol] = Factory()
        factory.buildProtocol = lambda addr: FakeProxy(self)  # type: ignore[method-assign]
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.number = self.port.getHost().port
        self.addCleanup(self.port.stopListening)

    def connect(self, credentials: str = "", host: str = "relay.example") -> Deferred[Any]:
        proxy = HTTPProxy("127.0.0.1", self.number, credentials)
        endpoint = ProxyEndpoint(reactor, proxy, host, 443)  # type: ignore[arg-type]
        return endpoint.connect(Factory.forProtocol(Program))

    async def fails(self, answer: bytes, credentials: str = "", **options: Any) -> str:
        """The sentence about an answer."""
        self.answer = answer
        self.lost = Deferred()
        try:
            await self.connect(credentials, **options)
        except ProxyError as error:
            await self.lost
            return str(error)
        return self.fail("it connected")  # type: ignore[no-any-return]

    async def test_connected(self) -> None:
        """What comes behind the proxy's yes is for the protocol, and so on until the end."""
        self.answer += b"early "
        program: Program = await self.connect("ann:secret")
        self.assertEqual(self.asked.request(), ("CONNECT", "relay.example:443"))
        self.assertEqual(self.asked.get("host"), "relay.example:443")
        encoded = base64.b64encode(b"ann:secret").decode()
        self.assertEqual(self.asked.get("proxy-authorization"), f"Basic {encoded}")
        program.wanted = b"early late"
        assert program.transport is not None
        program.transport.write(b"late")
        await program.complete
        program.transport.loseConnection()
        await program.lost
        await self.lost

    async def test_refusals(self) -> None:
        """Each no of a proxy is a sentence that says what to do."""
        for answer, credentials, saying in (
            (b"HTTP/1.1 407 Who\r\n\r\n", "", "wants a user name and a password"),
            (b"HTTP/1.1 407 Who\r\n\r\n", "a:b", "refuses the user name and the password"),
            (b"HTTP/1.1 403 No\r\n\r\n", "", "does not allow connections to relay.example:443"),
            (b"HTTP/1.1 502 \x9bBad\r\n\r\n", "", r"it answers 502 \x9bBad"),
            (b"SSH-2.0-x\r\n\r\n", "", "is it an HTTP proxy?"),
            (b"\0\r\n\r\n", "", "is it an HTTP proxy?"),
        ):
            self.assertIn(saying, await self.fails(answer, credentials))
        self.stays = False
        self.assertIn("without an answer", await self.fails(b""))

    async def test_silence(self) -> None:
        """A proxy that does not answer is given up."""
        self.patch(httpproxy, "TIMEOUT", 0.01)
        self.assertIn("does not answer in", await self.fails(b""))

    async def test_nobody(self) -> None:
        """Where nothing listens is no proxy."""
        await self.port.stopListening()
        self.lost.callback(None)
        try:
            await self.connect()
        except ProxyError as error:
            self.assertIn("nothing listens there", str(error))
        else:
            self.fail("it connected")

    async def test_forged_host(self) -> None:
        """A host that would be more than a host to the proxy is not asked for."""
        try:
            await self.connect(host="x\r\nEvil: y")
        except ProxyError:
            self.assertFalse(hasattr(self, "asked"))
        else:
            self.fail("it connected")
