"""HTTPS host names of real daemons: TLS ends at the service, or at the server."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from typing import ClassVar

from ..server.https.issuer import Authority
from .nginx import start_nginx
from .pebble import Pebble
from .processes import PATIENCE, Process, ProcessTestCase, eventually, free_port, needs, program
from .public import ALLOWED
from .shared import Keeper
from .web import Curl, WebService, WebTestCase, service_section, start_sites

SIZE = 5_000_000


class HttpsTestCase(WebTestCase):
    """
    @cvar sites: the client with the services that they share.
    @ivar trusted: has curl believe the authority of these tests.
    """

    web: ClassVar[WebService]
    authority: ClassVar[Authority]
    sites: ClassVar[Process]

    def begin(self, keeper: Keeper) -> Process:
        needs("curl")
        type(self).authority = authority = Authority()
        certificates = keeper.folder / "certificates"
        certificates.mkdir()
        (keeper.folder / "ca.pem").write_bytes(authority.certificate)
        certificate, key = authority.issue("ended.example", "*.ended.example")
        (certificates / "ended.pem").write_bytes(certificate)
        (certificates / "ended.key").write_bytes(key)
        type(self).web = web = WebService()
        keeper.kept.callback(web.close)
        server = self.begin_server(keeper, f"certificates = {certificates}\n")
        type(self).sites = start_sites(
            keeper,
            "sites",
            service_section("ended", web.port, custom_domains="ended.example, *.ended.example"),
            service_section("raw", web.port, custom_domains="raw.ended.example", mode="raw"),
        )
        return server

    def begin_server(self, keeper: Keeper, http: str) -> Process:
        """
        Start the server.

        @param http: lines for its [http] section.
        """
        raise NotImplementedError

    def setUp(self) -> None:
        super().setUp()
        self.web.asked.clear()
        self.trusted = "--cacert", str(self.keeper.folder / "ca.pem")

    def secure(self, host: str, path: str = "/", *options: str) -> Curl:
        """Ask by HTTPS."""
        return self.curl(host, path, *self.trusted, *options, scheme="https")

    def check_ended(self) -> None:
        """The server's certificate is shown, and the service is told that it was HTTPS."""
        data = random.randbytes(SIZE)
        (self.folder / "mine").write_bytes(data)
        for host in ("ended.example", "any.ended.example", "raw.ended.example"):
            answer = self.secure(host, f"/{host}")
            self.assertEqual((answer.code, answer.text), (0, f"web /{host}"))
            asked = self.web.wait_for(f"/{host}")
            told = [asked.field(f"X-Forwarded-{name}") for name in ("For", "Proto", "Host")]
            self.assertEqual(told, ["127.0.0.1", "https", f"{host}:{self.listening('https')}"])
            answer = self.secure(host, "/up", "--upload-file", str(self.folder / "mine"))
            self.assertEqual(json.loads(answer.text)["sha256"], hashlib.sha256(data).hexdigest())

    def check_passed(self) -> None:
        """nginx shows its own certificate; what it cannot read, the server cannot either."""
        needs("nginx")
        certificate, key = self.authority.issue("own.example", "*.own.example")
        (self.folder / "own.pem").write_bytes(certificate)
        (self.folder / "own.key").write_bytes(key)
        (self.folder / "www").mkdir()
        (self.folder / "www" / "large").write_bytes(b"0123456789" * 400_000)
        _, local = start_nginx(
            self,
            f"ssl_certificate {self.folder}/own.pem; ssl_certificate_key {self.folder}/own.key;\n"
            "location = /who { return 200 $host:$ssl_server_name; }",
            listen="ssl",
        )
        start_sites(
            self,
            self.name(),
            service_section("own", local, protocol="tcp", custom_domains="own.example"),
            service_section(
                "raw", local, protocol="tcp", custom_domains="*.own.example", mode="raw"
            ),
        )
        for host in ("own.example", "any.own.example"):
            answer = self.secure(host, "/who")
            self.assertEqual((answer.code, answer.text), (0, f"{host}:{host}"))
            self.assertEqual(len(self.secure(host, "/large").body), 4_000_000)


class OwnPort(HttpsTestCase):
    """The HTTPS port is one of its own."""

    def begin_server(self, keeper: Keeper, http: str) -> Process:
        return keeper.start_server(
            config="[http]\nvhost_http_port = 0\nvhost_https_port = 0\n" + http
        )

    def test_ended(self) -> None:
        """TLS ends at the server, with the certificate of the folder."""
        self.check_ended()
        self.assert_page("ended.example", "/", "web /")

    def test_killed(self) -> None:
        """When a client is killed, TLS ends so that what has come is not taken for the whole."""
        hosts = [f"{mode}-killed.ended.example" for mode in ("link", "raw")]

        def run() -> Process:
            return start_sites(
                self,
                "killed",
                *(
                    service_section(
                        host.partition("-")[0], self.web.port, custom_domains=host,
                        mode=host.partition("-")[0],
                    )
                    for host in hosts
                ),
            )  # fmt: skip

        provider = run()
        port = self.listening("https")
        curls = []
        for host in hosts:
            resolve = "--resolve", f"{host}:{port}:127.0.0.1"
            curls += self.begin_downloads(
                self.web, host, *self.trusted, *resolve, f"https://{host}:{port}"
            )
        provider.kill()
        run()
        self.assert_failed(curls)

    def test_passed(self) -> None:
        """TLS ends at the service."""
        self.check_passed()

    def test_unknown(self) -> None:
        """A name that nobody has gets no certificate; one without a service gets a page."""
        self.assertEqual(self.secure("nobody.example").code, 35)
        other = "--header", "Host: nobody.example"
        self.assertEqual(self.secure("ended.example", "/", *other).status, 404)


class ControlPort(HttpsTestCase):
    """Browsers and clients come to one port."""

    def begin_server(self, keeper: Keeper, http: str) -> Process:
        port = free_port()
        return keeper.start_server(
            control=str(port),
            config=f"[http]\nvhost_http_port = 0\nvhost_https_port = {port}\n{http}",
        )

    def test_shared(self) -> None:
        """Host names, TLS of services, and clients that come and go: each finds its own."""
        self.assertEqual(self.listening("https"), self.control_port)
        self.check_ended()
        self.check_passed()
        for transport in ("tcp", "ws"):
            start_sites(
                self,
                transport,
                service_section(
                    transport, self.web.port, custom_domains=f"{transport}.ended.example"
                ),
                client=f"transport = {transport}",
            )
            answer = self.secure(f"{transport}.ended.example", f"/bytes/{1 << 20}")
            self.assertEqual((answer.code, len(answer.body)), (0, 1 << 20))


class Obtained(ProcessTestCase):
    """Certificates that the server gets from an ACME server."""

    def test_obtained(self) -> None:
        """A host name that a client asks for soon has its certificate, and keeps it."""
        needs("curl", "pebble", "dnsmasq")
        dns, http, https, control, relay = (free_port() for _ in range(5))
        self.start(
            "dnsmasq",
            *(program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"),
            *("--no-hosts", "--address=/#/127.0.0.1", "--log-facility=-", "--pid-file="),
            *("--listen-address=127.0.0.1", "--bind-interfaces", f"--port={dns}"),
        ).wait_for("started")
        pebble = Pebble(self.folder, http, https, dns)
        self.addCleanup(pebble.process.close)
        config = (
            f"[public]\nallow_ports = {ALLOWED}\n[http]\nvhost_http_port = {http}\n"
            f"vhost_https_port = {https}\nacme = {pebble.directory_url}\nacme_ca = {pebble.ca}\n"
            "acme_email = admin@example.com\n"
        )

        def run() -> Process:
            return self.start_server(control=str(control), relay=str(relay), config=config)

        server = run()
        web = WebService()
        self.addCleanup(web.close)
        start_sites(self, "sites", service_section("it", web.port, custom_domains="www.example"))
        root = self.folder / "root.pem"
        self.ask("--cacert", str(pebble.ca), "--output", str(root), pebble.root_url)
        page = (
            *("--cacert", str(root), "--resolve", f"www.example:{https}:127.0.0.1"),
            f"https://www.example:{https}/",
        )
        eventually(lambda: self.ask(*page) == "web /", lambda: f"no certificate: {server.output}")
        server.kill()
        run()
        pebble.process.kill()
        eventually(lambda: self.ask(*page) == "web /", lambda: "the certificate is lost")

    def ask(self, *options: str) -> str:
        """What curl gets, or complains about."""
        done = subprocess.run(
            [program("curl"), "--silent", "--show-error", "--noproxy", "*", *options],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.stdout or done.stderr
