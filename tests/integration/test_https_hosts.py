"""HTTPS host names of a real server: curl at one end, a service behind NAT at the other."""

from __future__ import annotations

import hashlib
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from ..server.https.issuer import Authority
from .processes import PATIENCE, needs, program
from .public import Publishing

SIZE = 5_000_000


class Handler(BaseHTTPRequestHandler):
    """Gives back what is posted, and tells what it was told about the visitor."""

    protocol_version = "HTTP/1.1"
    told: ClassVar[list[tuple[str | None, str | None]]] = []

    def do_POST(self) -> None:
        self.told.append((self.headers["X-Forwarded-Proto"], self.headers["X-Forwarded-For"]))
        length = int(self.headers["Content-Length"])
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.rfile.read(length))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Idle connections end with a reset when the client is gone."""


class HttpsHosts(Publishing):
    def setUp(self) -> None:
        super().setUp()
        needs("curl", "openssl")
        self.authority = Authority()
        (self.folder / "ca.pem").write_bytes(self.authority.certificate)
        self.certificates = self.folder / "certificates"
        self.certificates.mkdir()
        certificate, key = self.authority.issue("*.ended.example")
        (self.certificates / "ended.pem").write_bytes(certificate + key)

    def start_with(self, port: str) -> None:
        """A server with an HTTPS port."""
        self.start_server(
            config=f"[http]\nvhost_https_port = {port}\ncertificates = {self.certificates}\n"
        )

    def publish(self, **services: tuple[str, int, str]) -> int:
        """
        Make services public.

        @param services: protocol, local port and host name of each.
        @return: the HTTPS port.
        """
        sections = "".join(
            f"[service:{name}]\nprotocol = {protocol}\nlocal_host = 127.0.0.1\n"
            f"local_port = {local}\ncustom_domains = {host}\n"
            for name, (protocol, local, host) in services.items()
        )
        process = self.start_client("provider", sections)
        ports = {
            int(process.wait_for(rf"{name} is public: .*\b{host}:(\d+)")[1])
            for name, (_, _, host) in services.items()
        }
        self.assertEqual(len(ports), 1)
        return ports.pop()

    def curl(self, host: str, port: int, *options: str) -> str:
        curl = self.start(
            f"curl {host}",
            *(program("curl"), "--silent", "--show-error", "--resolve", f"{host}:{port}:127.0.0.1"),
            *("--cacert", str(self.folder / "ca.pem"), f"https://{host}:{port}/", *options),
        )
        curl.wait(PATIENCE)
        return curl.output

    def serve_http(self) -> int:
        """@return: the port of a web server of this process."""
        server = Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server.server_port

    def serve_https(self, host: str) -> int:
        """@return: the port of OpenSSL's web server, with a certificate that it alone has."""
        certificate, key = self.authority.issue(host)
        (self.folder / "own.pem").write_bytes(certificate + key)
        process = self.start(
            "s_server",
            *(program("openssl"), "s_server", "-accept", "127.0.0.1:0", "-cert", "own.pem", "-www"),
        )
        return int(process.wait_for(r"ACCEPT 127.0.0.1:(\d+)")[1])

    def test_own_port(self) -> None:
        """One name is ended at the server, another at its service, each by its own certificate."""
        self.start_with("tcp:0:interface=127.0.0.1")
        port = self.publish(
            ended=("http", self.serve_http(), "www.ended.example"),
            passed=("tcp", self.serve_https("own.example"), "own.example"),
        )
        self.assertNotEqual(port, self.control_port)
        self.assertIn("s_server -accept", self.curl("own.example", port))
        self.assertIn("unrecognized name", self.curl("nobody.example", port))
        data = random.randbytes(SIZE)
        (self.folder / "sent").write_bytes(data)
        Handler.told.clear()
        output = self.curl("www.ended.example", port, "--data-binary", "@sent", "--output", "back")
        self.assertEqual(output, "")
        back = hashlib.sha256((self.folder / "back").read_bytes())
        self.assertEqual(back.hexdigest(), hashlib.sha256(data).hexdigest())
        self.assertEqual(Handler.told, [("https", "127.0.0.1")])

    def test_control_port(self) -> None:
        """The control port can be that port: clients sign in there as before."""
        self.start_with("0")
        port = self.publish(it=("http", self.serve_http(), "www.ended.example"))
        self.assertEqual(port, self.control_port)
        self.assertEqual(self.curl("www.ended.example", port, "--data-binary", "hello"), "hello")
