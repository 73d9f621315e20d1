"""What tests of host names share: a web service that keeps what it is asked, curl, and nginx."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from .processes import PATIENCE, Process, ProcessTestCase, program
from .public import ALLOWED, PublicTestCase
from .services import content
from .shared import Keeper

#: Under it are the subdomains of the tests.
SUBDOMAIN_HOST = "web.test"
_MIB = 1024 * 1024
#: Bytes of a body that are kept.
_BEGIN = 4096


class Asked(NamedTuple):
    """
    A request, as the service saw it.

    @ivar fields: in the order in which they came, names as they were written.
    @ivar size, sha256: of the body.
    @ivar begin: its first bytes.
    """

    method: str
    path: str
    fields: list[tuple[str, str]]
    size: int
    sha256: str
    begin: bytes

    def field(self, name: str) -> str | None:
        """The value of a header field; those of several are joined."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        return ", ".join(values) if values else None


class WebService(ThreadingHTTPServer):
    """
    A web service in this process::

        /bytes/N      N bytes of services.content, with their length
        /chunks/N     in chunks
        /rest/N       to the end of the connection
        /half/N, /half-chunks/N, /half-rest/N
                      half of that, and nothing more until release()
        /never        nothing at all, until release()
        /forbidden    403, with an X-Made-By of its own
        /page         what C{page} is
        anything else C{word} and the path; after a body, its size and SHA-256

    @ivar asked: all requests so far.
    @ivar page: a web page.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, word: str = "web", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Answering)
        self.word = word
        self.asked: list[Asked] = []
        self.page = b""
        self.halved = threading.Semaphore(0)
        self._released = threading.Event()
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self.port = int(self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Visitors go away: that is their business."""

    def release(self) -> None:
        """Let all that wait go on."""
        self._released.set()

    def wait_until_released(self) -> None:
        self._released.wait(PATIENCE)

    def keep(self, asked: Asked) -> None:
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()

    def wait_for(self, path: str, patience: float = PATIENCE) -> Asked:
        """The request for this path, as soon as it is there."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: next((each for each in self.asked if each.path == path), None), patience
            )
        if found is None:
            raise AssertionError(f"{self.word} was never asked for {path}: {self.asked}")
        return found

    def close(self) -> None:
        """End, with all connections."""
        self.release()
        self.shutdown()
        self.server_close()
        self._thread.join()
        self.drop()

    def drop(self) -> None:
        """End all connections."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers leave at once.
    disable_nagle_algorithm = True
    server: WebService

    def do_GET(self) -> None:
        self._keep(0, "", b"")
        _, kind, *rest = [*self.path.split("/"), ""]
        if kind == "never":
            self.server.wait_until_released()
            self.close_connection = True
        elif kind == "forbidden":
            self._whole(403, b"no", ("X-Made-By", "the service"))
        elif kind == "page":
            self._whole(200, self.server.page, ("Content-Type", "text/html; charset=utf-8"))
        elif kind.removeprefix("half-") in ("bytes", "chunks", "rest", "half"):
            halved = kind.startswith("half")
            self._bytes(kind.removeprefix("half-"), int(rest[0]), halved)
        else:
            self._whole(200, f"{self.server.word} {self.path}".encode())

    do_HEAD = do_GET

    def do_POST(self) -> None:
        total, size, begin = hashlib.sha256(), 0, b""
        for part in self._body():
            total.update(part)
            size += len(part)
            begin = begin or part[:_BEGIN]
        self._keep(size, total.hexdigest(), begin)
        answer = {"size": size, "sha256": total.hexdigest()}
        self._whole(200, json.dumps(answer).encode(), ("Content-Type", "application/json"))

    do_PUT = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _keep(self, size: int, sha256: str, begin: bytes) -> None:
        fields = list(self.headers.items())
        self.server.keep(Asked(self.command, self.path, fields, size, sha256, begin))

    def _whole(self, status: int, body: bytes, *fields: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *fields):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _bytes(self, kind: str, count: int, halved: bool) -> None:
        chunked = kind == "chunks"
        self.send_response(200)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif kind == "rest":
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(count))
        self.end_headers()
        if self.command == "HEAD":
            return
        for part in content(count // 2 if halved else count):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
        if halved:
            self.server.halved.release()
            self.server.wait_until_released()
            self.close_connection = True
        elif chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            part = self.rfile.read(min(left, _MIB))
            if not part:
                raise ConnectionError("the body is not complete")
            left -= len(part)
            yield part


class Curl(NamedTuple):
    """
    What came of a call of curl.

    @ivar code: its exit code.
    @ivar head: of the last answer, with all interim ones before it.
    """

    code: int
    status: int
    head: str
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class WebTestCase(PublicTestCase):
    """
    Tests with one server between them that has an HTTP port, and with clients that they share.

    @cvar http: further lines for its [http] section.
    @ivar http_port: its HTTP port.
    """

    http = ""

    def setUp(self) -> None:
        super().setUp()
        self.http_port = self.listening("http")

    def begin(self, keeper: Keeper) -> Process:
        """Start the server, with port numbers that the system picks."""
        return keeper.start_server(
            config=f"[public]\nallow_ports = {ALLOWED}\n[http]\nvhost_http_port = 0\n"
            f"subdomain_host = {SUBDOMAIN_HOST}\n{self.http}"
        )

    def listening(self, name: str) -> int:
        """One of the server's ports."""
        return int(self.status("server")["listening"][name]["port"])

    def curl(self, host: str, path: str = "/", *options: str, scheme: str = "http") -> Curl:
        """Ask for a page of a host name, and come to the end."""
        port = self.listening(scheme)
        files = self.folder / "curl-head", self.folder / "curl-body"
        for file in files:
            file.unlink(missing_ok=True)
        curl = self.start(
            "curl",
            *(program("curl"), "--silent", "--show-error", "--max-time", str(PATIENCE)),
            *("--resolve", f"{host}:{port}:127.0.0.1", "--noproxy", "*"),
            *("--dump-header", str(files[0]), "--output", str(files[1])),
            *("--write-out", "%{http_code}", *options, f"{scheme}://{host}:{port}{path}"),
        )
        code = curl.wait(2 * PATIENCE)
        status = curl.lines[-1][-3:] if curl.lines else ""
        head, body = (file.read_bytes() if file.exists() else b"" for file in files)
        return Curl(code, int(status) if status.isdigit() else 0, head.decode("latin-1"), body)

    def assert_page(self, host: str, path: str, text: str, *options: str, **other: Any) -> Curl:
        """A page of a host name is what it is to be; returns it."""
        answer = self.curl(host, path, *options, **other)
        self.assertEqual((answer.code, answer.status, answer.body), (0, 200, text.encode()))
        return answer

    def begin_downloads(self, service: WebService, host: str, *options: str) -> list[Process]:
        """
        Have curl download a file of each kind; C{service} has sent half of each, and waits.

        @param options: for curl, with the beginning of the URL as the last one.
        """
        *others, base = options
        curls = []
        for path, version in (
            ("half", "--http1.1"),
            ("half-chunks", "--http1.1"),
            ("half-rest", "--http1.1"),
            ("half-rest", "--http1.0"),
        ):
            curls.append(
                self.start(
                    f"curl {path} {version} {host}",
                    *(program("curl"), "--silent", "--show-error", "--noproxy", "*", version),
                    *(*others, "--header", f"Host: {host}", "--output", "/dev/null"),
                    f"{base}/{path}/{8 * _MIB}",
                )
            )
            self.assertTrue(service.halved.acquire(timeout=PATIENCE))
        return curls

    def assert_failed(self, curls: list[Process]) -> None:
        """Nobody takes half of a file for the whole."""
        for curl in curls:
            self.assertNotEqual(curl.wait(), 0, curl.name)

    @contextlib.contextmanager
    def kept_connection(self) -> Iterator[HTTPConnection]:
        """One connection to the HTTP port, for several requests."""
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE)
        connection.connect()
        try:
            yield connection
        finally:
            connection.close()


def service_section(name: str, port: int, **keys: str | Sequence[str]) -> str:
    """One C{[service:...]} of a client; sequences become lines."""
    lines = {"protocol": "http", "local_host": "127.0.0.1", "local_port": str(port), **keys}
    return f"\n[service:{name}]\n" + "".join(
        f"{key} = {value if isinstance(value, str) else _lines(value)}\n"
        for key, value in lines.items()
    )


def start_sites(case: ProcessTestCase, name: str, *sections: str, client: str = "") -> Process:
    """Start a client whose services are all public; returns when they are."""
    process = case.start_client(name, "".join(sections), f"reconnect_interval = 50ms\n{client}")
    for section in sections:
        service = section.partition("[service:")[2].partition("]")[0]
        process.wait_for(f"{service} is public: ")
    return process


def read_to_end(connection: socket.socket) -> tuple[bytes, bool]:
    """What comes, and whether it broke."""
    parts = []
    try:
        while data := connection.recv(_MIB):
            parts.append(data)
    except ConnectionError:
        return b"".join(parts), True
    return b"".join(parts), False


def _lines(values: Sequence[str]) -> str:
    return "".join(f"\n    {value}" for value in values)
