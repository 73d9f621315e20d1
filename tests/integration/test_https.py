"""
The HTTPS port with real visitors, a real service behind it, and a real certificate authority.

The port is one of this process; curl, OpenSSL and Pebble are what they are.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.portforward import ProxyFactory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from relaytun.server.admission import Admission
from relaytun.server.https import certificates as module
from relaytun.server.https.acme import Acme
from relaytun.server.https.certificates import Certificates
from relaytun.server.https.front import HttpsFront
from relaytun.server.port import ListeningPort, hand_to_twisted

from ..server.https.issuer import Authority
from .pebble import Everywhere, Pebble
from .processes import Process, needs, program


async def eventually(condition: Any) -> Any:
    """Wait until it holds; trial's own timeout is the deadline."""
    while not (result := condition()):
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]
    return result


class Page(Resource):
    """The HTTP front, in small."""

    isLeaf = True
    acme: Acme | None = None

    def render_GET(self, request: Request) -> bytes:
        path = request.path.decode()
        if self.acme is not None and (proof := self.acme.challenge(path)):
            return proof
        return b"ended here"


class HttpsTestCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        needs("curl", "openssl")
        self.folder = Path(self.mktemp()).absolute()
        (self.folder / "certificates").mkdir(parents=True)
        self.patch(module, "INTERVAL", 0.1)
        self.certificates = Certificates(self.folder / "certificates", reactor)  # type: ignore[arg-type]
        self.certificates.startService()
        self.addCleanup(self.certificates.stopService)
        self.page = Page()
        site = Site(self.page)
        site.noisy = False
        self.passed: dict[str, Any] = {}
        self.front = HttpsFront(
            reactor,  # type: ignore[arg-type]
            passthrough=self.passed.get,
            certificates=self.certificates,
            http=site,
            other=None,
            admission=Admission(),
        )
        self.https = self.listen(self.front.accepted)
        self.http = self.listen(hand_to_twisted(reactor, site))  # type: ignore[arg-type]

    def listen(self, accepted: Any) -> int:
        """@return: the number of a port with this callback."""
        port = ListeningPort(reactor, "0", "127.0.0.1", accepted)  # type: ignore[arg-type]
        port.privilegedStartService()
        port.startService()
        self.addCleanup(port.stopService)
        return port.number

    def run_program(self, *arguments: str) -> Deferred[subprocess.CompletedProcess[str]]:
        """Run it to its end."""
        return deferToThread(
            subprocess.run,
            [program(arguments[0]), *arguments[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    async def curl(self, name: str, ca: Path, *options: str) -> str:
        """@return: the page of this host name, or what curl complains about."""
        result = await self.run_program(
            *("curl", "--silent", "--show-error", "--resolve", f"{name}:{self.https}:127.0.0.1"),
            *("--cacert", str(ca), f"https://{name}:{self.https}/", *options),
        )
        return result.stdout or result.stderr

    def put(self, authority: Authority, name: str) -> bytes:
        """Issue a certificate into the folder; returns it."""
        certificate, key = authority.issue(name)
        (self.folder / "certificates" / f"{name}.key").write_bytes(key)
        (self.folder / "certificates" / f"{name}.pem").write_bytes(certificate)
        return certificate


class FolderTests(HttpsTestCase):
    """Certificates that somebody else puts into a folder."""

    async def shown(self, name: str) -> str:
        """@return: what OpenSSL sees of this host name."""
        result = await self.run_program(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{self.https}", "-servername", name),
            *("-CAfile", str(self.folder / "ca.pem"), "-verify_return_error"),
        )
        return result.stdout + result.stderr

    async def test_replaced(self) -> None:
        """A certificate of the folder is shown to curl and OpenSSL; so is the one after it."""
        authority = Authority()
        (self.folder / "ca.pem").write_bytes(authority.certificate)
        first = self.put(authority, "www.example").decode()
        await eventually(lambda: self.certificates.find("www.example"))
        self.assertEqual(await self.curl("www.example", self.folder / "ca.pem"), "ended here")
        self.assertIn(first, await self.shown("www.example"))
        context = self.certificates.find("www.example")
        second = self.put(authority, "www.example").decode()
        await eventually(lambda: self.certificates.find("www.example") is not context)
        shown = await self.shown("www.example")
        self.assertIn(second, shown)
        self.assertIn("Verify return code: 0", shown)
        self.assertIn("unrecognized name", await self.shown("other.example"))

    async def test_plain(self) -> None:
        """Who says http:// to this port is told to say https://."""
        result = await self.run_program("curl", "--silent", f"http://127.0.0.1:{self.https}/")
        self.assertIn("use https://", result.stdout)


class PassedThroughTests(HttpsTestCase):
    """A service that holds its certificate itself."""

    async def test_passed(self) -> None:
        """curl meets the service's own certificate; the server has none for this name."""
        authority = Authority()
        (self.folder / "ca.pem").write_bytes(authority.certificate)
        certificate, key = authority.issue("own.example")
        (self.folder / "own.pem").write_bytes(certificate + key)
        service = Process(
            "s_server",
            [program("openssl"), "s_server", "-accept", "127.0.0.1:0", "-cert", "own.pem", "-www"],
            self.folder,
        )
        self.addCleanup(service.close)
        port = int(service.wait_for(r"ACCEPT 127.0.0.1:(\d+)")[1])

        def serve(sock: socket.socket, address: Any) -> None:
            hand_to_twisted(reactor, ProxyFactory("127.0.0.1", port))(sock, address)  # type: ignore[arg-type]

        self.passed["own.example"] = serve
        page = await self.curl("own.example", self.folder / "ca.pem")
        self.assertIn("s_server -accept", page)


class AcmeTests(HttpsTestCase):
    """Certificates that the server obtains by itself."""

    def setUp(self) -> None:
        super().setUp()
        needs("pebble")
        dns = Everywhere().listen()
        self.addCleanup(dns.stopListening)
        self.pebble = Pebble(self.folder, self.http, self.https, dns.getHost().port)
        self.addCleanup(self.pebble.process.close)

    def start(self, *kinds: str) -> Acme:
        acme = self.page.acme = Acme(
            reactor,  # type: ignore[arg-type]
            self.folder,
            self.pebble.directory_url,
            "admin@example.com",
            self.pebble.ca,
            self.certificates,
            kinds,
        )
        acme.startService()
        self.addCleanup(acme.stopService)
        return acme

    async def assert_obtained(self, name: str) -> None:
        """curl believes what is shown for it."""
        await eventually(lambda: self.certificates.find(name))
        root = await self.run_program(
            "curl", "--silent", "--cacert", str(self.pebble.ca), self.pebble.root_url
        )
        (self.folder / "root.pem").write_text(root.stdout)
        self.assertEqual(await self.curl(name, self.folder / "root.pem"), "ended here")

    async def test_obtained(self) -> None:
        """By HTTP-01 and by TLS-ALPN-01; kept for the next start, in files of the user's own."""
        first = self.start("http-01")
        first.want(["http.example.com", "*.example.com", "192.0.2.1"])
        await self.assert_obtained("http.example.com")
        first.stopService()
        kept = self.folder / "acme"
        pem = (kept / "http.example.com.pem").read_bytes()
        second = self.start("tls-alpn-01")
        second.want({"http.example.com": 1, "tls.example.com": 2}.keys())
        await self.assert_obtained("tls.example.com")
        self.assertEqual((kept / "http.example.com.pem").read_bytes(), pem)
        self.assertEqual(
            {path.name: path.stat().st_mode & 0o777 for path in kept.iterdir()},
            {f"{name}.pem": 0o600 for name in ("account", "http.example.com", "tls.example.com")},
        )
        self.assertEqual((self.certificates.challenges, second.http01), ({}, {}))

    async def test_refused(self) -> None:
        """When the authority does not see the proof, its own words are in the log."""
        acme = self.start("http-01")
        self.page.acme = None
        with capturedLogs() as events:
            acme.want(["unproven.example.com"])
            await eventually(lambda: (self.folder / "acme" / "attempts.json").exists())
        said = [formatEvent(event) for event in events if event["log_namespace"].endswith(".Acme")]
        self.assertEqual(len(said), 1, said)
        self.assertIn("no certificate for unproven.example.com: http-01: ", said[0])
        self.assertIn("the next attempt is in ", said[0])
