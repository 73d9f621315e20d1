"""Real visitors and real services at the two sides of an HTTP port."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SkipTest

from . import test_nginx
from .nginx import start_nginx
from .processes import PATIENCE, Process, ProcessTestCase, needs, program

try:
    from websockets.exceptions import ConnectionClosedOK
    from websockets.sync.client import connect
    from websockets.sync.server import ServerConnection, serve

    from ..foreign_client import insecure_context
except ImportError:
    websockets = False
else:
    websockets = True

HTTP_PORT = Path(__file__).with_name("httpport.py")
LARGE = 48 * 1024 * 1024
REQUESTS = 300


class HttpPrograms(ProcessTestCase):
    make = test_nginx.Nginx.make

    def setUp(self) -> None:
        super().setUp()
        needs("curl")
        self.www = self.folder / "www"
        (self.www / "upload").mkdir(parents=True)

    def start_nginx(self) -> tuple[Process, int]:
        return start_nginx(self, "location /upload/ { dav_methods PUT; }")

    def start_port(self, service: int) -> tuple[str, str]:
        """Addresses of the port, plain and with TLS, each without its scheme."""
        port = self.start("port", sys.executable, str(HTTP_PORT), str(service))
        plain = port.wait_for(r"http on (\d+)")[1]
        secure = port.wait_for(r"https on (\d+)")[1]
        return f"://127.0.0.1:{plain}/", f"s://127.0.0.1:{secure}/"

    def curl(self, *arguments: str) -> Process:
        return self.start(
            "curl", program("curl"), "-sS", "--insecure", "--http1.1", "--fail", *arguments
        )

    def fetched(self, url: str) -> str:
        """The SHA-256 of what curl gets."""
        done = subprocess.run(
            [program("curl"), "-sSf", "--insecure", "--http1.1", url],
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        return hashlib.sha256(done.stdout).hexdigest()

    def test_nginx(self) -> None:
        """Files go down and up unharmed, with and without TLS, and connections are kept."""
        needs("nginx")
        _, service = self.start_nginx()
        addresses = self.start_port(service)
        expected = self.make("large", LARGE // 4)
        self.make("small", 1000)
        for address in addresses:
            url = f"http{address}"
            self.assertEqual(self.fetched(url + "large"), expected)
            for options in ([], ["-H", "Transfer-Encoding: chunked"]):
                upload = self.curl("-T", str(self.www / "large"), *options, url + "upload/x")
                self.assertEqual(upload.wait(), 0, upload.output)
                arrived = (self.www / "upload" / "x").read_bytes()
                self.assertEqual(hashlib.sha256(arrived).hexdigest(), expected)
                (self.www / "upload" / "x").unlink()
            many = self.curl(
                "-w", "%{num_connects} %{http_code}\n", "-o", "/dev/null",
                f"{url}small?[1-{REQUESTS}]",
            )  # fmt: skip
            self.assertEqual(many.wait(), 0, many.output)
            self.assertEqual(many.lines, ["1 200"] + ["0 200"] * (REQUESTS - 1))

    def test_old_service(self) -> None:
        """A service of HTTP/1.0, whose answers end with their connections."""
        expected = self.make("large", 1024 * 1024)
        service = self.start(
            "service", sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1",
            "--directory", str(self.www),
        )  # fmt: skip
        port = int(service.wait_for(r"port (\d+)")[1])
        for address in self.start_port(port):
            self.assertEqual(self.fetched(f"http{address}large"), expected)
        service.kill()
        gone = self.curl("-o", "/dev/null", f"http{address}large")
        self.assertEqual(gone.wait(), 22)
        self.assertIn("503", gone.output)

    def test_killed_service(self) -> None:
        """Half a file is an error to curl: never the whole."""
        needs("nginx")
        self.make("large", LARGE)
        nginx, service = self.start_nginx()
        plain, _ = self.start_port(service)
        curl = self.curl("--limit-rate", "1M", "-o", str(self.folder / "got"), f"http{plain}large")
        while not (self.folder / "got").exists():
            self.assertIsNone(curl.popen.poll(), curl.output)
        nginx.kill()
        self.assertIn(curl.wait(), (18, 56), curl.output)

    def test_websocket(self) -> None:
        """A WebSocket talks through it, both kinds, and its end in order is one."""
        if not websockets:
            raise SkipTest("not installed: websockets")

        def echo(connection: ServerConnection) -> None:
            for message in connection:
                connection.send(message)

        with serve(echo, "127.0.0.1", 0, max_size=None) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            addresses = self.start_port(server.socket.getsockname()[1])
            trusting = insecure_context()
            for address in addresses:
                context = trusting if address.startswith("s") else None
                with connect(f"ws{address}x", ssl=context, max_size=None) as connection:
                    for message in ("hello", b"\x00" * (4 << 20), ""):
                        connection.send(message)
                        self.assertEqual(connection.recv(PATIENCE), message)
                    connection.close(1000, "done")
                    self.assertRaises(ConnectionClosedOK, connection.recv)
            server.shutdown()
