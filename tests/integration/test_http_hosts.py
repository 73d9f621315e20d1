"""HTTP host names with real programs at both ends: curl, nginx, WebSockets, a few raw requests."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import subprocess
import sys
from typing import ClassVar

from twisted.trial.unittest import SkipTest

from ..server.http.test_smuggling import BODIES, HEADS, NEXT
from .nginx import start_nginx
from .processes import PATIENCE, Process, dialled, eventually, needs, program
from .services import digest
from .shared import Keeper
from .test_websocket import SERVER as WEBSOCKET_SERVER
from .web import (
    SUBDOMAIN_HOST,
    WebService,
    WebTestCase,
    read_to_end,
    service_section,
    start_sites,
)

try:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect
except ImportError:
    connect = None  # type: ignore[assignment]

MIB = 1024 * 1024
SIZE = 8 * MIB

#: With the package ws where there is one, else with what node has of its own.
NODE = """
const [port, host] = process.argv.slice(1);
let WebSocket = null;
try { WebSocket = require("ws"); } catch {}
const text = "hello from node";
function done(how, answer) { console.log(how, answer === text); process.exit(0); }
if (WebSocket) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, {headers: {Host: host}});
    socket.on("open", () => socket.send(text));
    socket.on("message", data => done("ws", data.toString()));
} else {
    const crypto = require("crypto");
    const request = require("http").request({port, host: "127.0.0.1", headers: {
        Host: host, Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": crypto.randomBytes(16).toString("base64")}});
    request.on("upgrade", (response, socket, head) => {
        const mask = crypto.randomBytes(4);
        const data = Buffer.from(text).map((byte, index) => byte ^ mask[index % 4]);
        let got = head;
        socket.on("data", part => {
            got = Buffer.concat([got, part]);
            if (got.length >= 2 + text.length) done("http", got.subarray(2).toString());
        });
        socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | data.length]), mask, data]));
    });
    request.end();
}
"""


class Hosts(WebTestCase):
    """One server and one client, with many host names."""

    web: ClassVar[WebService]
    other: ClassVar[WebService]

    def begin(self, keeper: Keeper) -> Process:
        needs("curl")
        server = super().begin(keeper)
        web, other = WebService(), WebService("other")
        type(self).web, type(self).other = web, other
        keeper.kept.callback(web.close)
        keeper.kept.callback(other.close)
        headers = {
            "host_header_rewrite": "inside.example:8080",
            "request_headers": ("X-Tunnel: yes", "User-Agent: hidden"),
            "response_headers": ("X-Made-By: relaytun", "Cache-Control: no-store"),
        }
        start_sites(
            keeper,
            "sites",
            service_section("app", web.port, custom_domains="app.example", subdomain="app"),
            service_section(
                "api", other.port, custom_domains="app.example", locations=("/api", "/api/v2/x")
            ),
            service_section("wild", other.port, custom_domains="*.wild.example"),
            service_section("raw", web.port, custom_domains="raw.example", mode="raw"),
            service_section("headers", web.port, custom_domains="headers.example", **headers),
            service_section(
                "secret", web.port, subdomain="secret", http_user="me", http_password="pass:word"
            ),
            service_section("corpus", web.port, custom_domains="a.example"),
        )
        return server

    def setUp(self) -> None:
        super().setUp()
        self.web.asked.clear()
        self.other.asked.clear()

    def test_names(self) -> None:
        """A request finds its service: by name, wildcard, subdomain, and the longest location."""
        self.assert_page("app.example", "/x?y=1", "web /x?y=1")
        self.assert_page(f"app.{SUBDOMAIN_HOST}", "/", "web /")
        self.assert_page("APP.example", "/ap", "web /ap")
        self.assert_page("app.example", "/api/v1", "other /api/v1")
        self.assert_page("any.wild.example", "/", "other /")
        self.assert_page("deep.any.wild.example", "/", "other /")
        self.assert_page("raw.example", "/", "web /")
        for host in ("wild.example", "b.example", SUBDOMAIN_HOST, f"b.{SUBDOMAIN_HOST}"):
            self.assertEqual(self.curl(host).status, 404, host)

    def test_headers(self) -> None:
        """Host and header fields are what the service's owner has written."""
        answer = self.curl("headers.example", "/forbidden", "--user-agent", "curl")
        asked = self.web.wait_for("/forbidden")
        self.assertEqual(asked.field("Host"), "inside.example:8080")
        self.assertEqual((asked.field("X-Tunnel"), asked.field("User-Agent")), ("yes", "hidden"))
        self.assertEqual((answer.status, answer.body), (403, b"no"))
        self.assertIn("X-Made-By: relaytun\r\n", answer.head)
        self.assertIn("Cache-Control: no-store\r\n", answer.head)
        self.assertNotIn("the service", answer.head)

    def test_forwarded(self) -> None:
        """The service learns who asked, and for what; a visitor cannot say it for itself."""
        forged = "--header", "X-Forwarded-For: 1.2.3.4", "--header", "X-Forwarded-Proto: https"
        self.curl("app.example", "/who", *forged)
        asked = self.web.wait_for("/who")
        told = [asked.field(f"X-Forwarded-{name}") for name in ("For", "Proto", "Host")]
        self.assertEqual(told, ["127.0.0.1", "http", f"app.example:{self.http_port}"])
        self.assertEqual(asked.field("Host"), f"app.example:{self.http_port}")

    def test_password(self) -> None:
        """Who has none is not let in; who has it is, and the service does not see it."""
        host = f"secret.{SUBDOMAIN_HOST}"
        for options in ((), ("--user", "me:wrong"), ("--user", "me:")):
            answer = self.curl(host, "/", *options)
            self.assertEqual(answer.status, 401)
            self.assertIn("WWW-Authenticate: Basic ", answer.head)
        self.assertEqual(self.web.asked, [])
        self.assert_page(host, "/in", "web /in", "--user", "me:pass:word")
        self.assertIsNone(self.web.wait_for("/in").field("Authorization"))

    def test_kept(self) -> None:
        """One connection serves requests for several names, each with its own answer."""
        with self.kept_connection() as connection:
            here = connection.sock.getsockname()
            for number in range(20):
                for host, word in (("app.example", "web"), ("x.wild.example", "other")):
                    connection.request("GET", f"/{number}", headers={"Host": host})
                    answer = connection.getresponse()
                    self.assertEqual(answer.read(), f"{word} /{number}".encode())
                connection.request("GET", "/", headers={"Host": "nobody.example"})
                answer = connection.getresponse()
                self.assertEqual((answer.status, bool(answer.read())), (404, True))
                connection.request("HEAD", "/bytes/9", headers={"Host": "app.example"})
                answer = connection.getresponse()
                self.assertEqual((answer.getheader("Content-Length"), answer.read()), ("9", b""))
            self.assertEqual(connection.sock.getsockname(), here)

    def test_streams(self) -> None:
        """What is downloaded and uploaded is equal, with a length, in chunks, or to the end."""
        path = self.folder / "mine"
        path.write_bytes(random.randbytes(SIZE))
        expected = hashlib.sha256(path.read_bytes()).hexdigest()
        chunked = "--header", "Transfer-Encoding: chunked"
        for host in ("app.example", "raw.example"):
            for kind in ("bytes", "chunks", "rest"):
                answer = self.curl(host, f"/{kind}/{SIZE}")
                self.assertEqual((answer.code, answer.status), (0, 200))
                self.assertEqual(hashlib.sha256(answer.body).digest(), digest(SIZE), kind)
            for options in ((), chunked):
                answer = self.curl(host, "/up", "--upload-file", str(path), *options)
                self.assertEqual(json.loads(answer.text), {"size": SIZE, "sha256": expected})
        old = self.curl("app.example", f"/chunks/{SIZE}", "--http1.0")
        self.assertEqual(hashlib.sha256(old.body).digest(), digest(SIZE))

    def test_continue(self) -> None:
        """A service that is asked first says that it wants the body."""
        path = self.folder / "mine"
        path.write_bytes(b"x" * MIB)
        answer = self.curl(
            "app.example", "/", "--data-binary", f"@{path}", "--header", "Expect: 100-continue",
            "--expect100-timeout", "20",
        )  # fmt: skip
        self.assertEqual(json.loads(answer.text)["size"], MIB)
        self.assertIn("100 Continue", answer.head)
        self.assertEqual(self.web.wait_for("/").field("Expect"), "100-continue")

    def test_nginx(self) -> None:
        """nginx behind a host name: its files, its ranges, its redirects, its refusals."""
        needs("nginx")
        _, local = start_nginx(
            self,
            "absolute_redirect off; location = /moved { return 302 /small; }\n"
            "location /small { client_max_body_size 1k; dav_methods PUT; }",
        )
        (self.folder / "www" / "small").write_bytes(b"0123456789")
        start_sites(self, "nginx", service_section("www", local, custom_domains="nginx.example"))
        self.assert_page("nginx.example", "/moved", "0123456789", "--location")
        part = self.curl("nginx.example", "/small", "--range", "2-4")
        self.assertEqual((part.status, part.body), (206, b"234"))
        self.assertEqual(self.curl("nginx.example", "/none").status, 404)
        etag = self.curl("nginx.example", "/small").head.partition("ETag: ")[2].partition("\r")[0]
        same = self.curl("nginx.example", "/small", "--header", f"If-None-Match: {etag}")
        self.assertEqual((same.status, same.body), (304, b""))
        (self.folder / "large").write_bytes(bytes(SIZE))
        for expect in ("Expect:", "Expect: 100-continue"):
            options = "--upload-file", str(self.folder / "large"), "--header", expect
            self.assertEqual(self.curl("nginx.example", "/small", *options).status, 413)

    def test_websocket(self) -> None:
        """WebSockets of Python and of node: messages, a ping, a close code."""
        if connect is None:
            raise SkipTest("not installed: websockets")
        service = self.start("websocket", sys.executable, "-c", WEBSOCKET_SERVER)
        local = int(service.wait_for(r"listening on (\d+)")[1])
        start_sites(
            self,
            "sockets",
            service_section("ws", local, protocol="ws", custom_domains="ws.example"),
            service_section("raw-ws", local, custom_domains="raw-ws.example", mode="raw"),
        )
        message = random.randbytes(MIB)
        for host in ("ws.example", "raw-ws.example"):
            with (
                dialled(self.http_port) as sock,
                connect(
                    f"ws://{host}:{self.http_port}/",
                    sock=sock,
                    max_size=None,
                    open_timeout=PATIENCE,
                ) as connection,
            ):
                for sent in ("\u00e9", message, "", message):
                    connection.send(sent)
                    self.assertEqual(connection.recv(PATIENCE), sent)
                self.assertTrue(connection.ping().wait(PATIENCE))
                connection.send("close")
                with self.assertRaises(ConnectionClosed) as closed:
                    connection.recv(PATIENCE)
                self.assertEqual(closed.exception.rcvd.code, 4321)
        needs("node")
        said = subprocess.run(
            [program("node"), "-e", NODE, "--", str(self.http_port), "ws.example"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        self.assertRegex(said.stdout, r"^(ws|http) true$", said.stderr)

    def test_smuggling(self) -> None:
        """Of what has more than one reading, nothing reaches a service."""
        for requests in (HEADS, BODIES):
            for name, request in requests.items():
                with dialled(self.http_port) as connection:
                    connection.sendall(request + NEXT)
                    answer, _ = read_to_end(connection)
                    self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), (name, answer[:100]))
                    self.assertEqual(answer.count(b"HTTP/1.1 "), 1, (name, answer))
        self.assertEqual(self.web.asked, [])
        self.assert_page("a.example", "/", "web /")

    def test_expose(self) -> None:
        """One command makes a web service public, and says where."""
        process = self.expose(str(self.web.port), "--subdomain=mine")
        self.assertEqual(self.url(process), f"mine.{SUBDOMAIN_HOST}:{self.http_port}/")
        self.assert_page(f"mine.{SUBDOMAIN_HOST}", "/x", "web /x")
        self.interrupt(process)
        eventually(
            lambda: self.curl(f"mine.{SUBDOMAIN_HOST}").status == 404,
            lambda: "the host name stays",
        )

    def test_taken(self) -> None:
        """A host name that is another's is refused, with a reason; it goes on to lead there."""
        process = self.start_client(
            "thief", service_section("it", self.other.port, custom_domains="app.example")
        )
        self.assertIn("taken", self.refusal(process))
        self.assert_page("app.example", "/", "web /")


class Failures(WebTestCase):
    """What visitors see when services, clients, or the ways to them fail."""

    http = "response_timeout = 1s\n"

    def begin(self, keeper: Keeper) -> Process:
        needs("curl")
        return super().begin(keeper)

    def setUp(self) -> None:
        super().setUp()
        self.web = WebService()
        self.addCleanup(self.web.close)

    def sites(self) -> Process:
        """A client with one service in either mode."""
        name = self.name()
        return start_sites(
            self,
            name,
            *(
                service_section(mode, self.web.port, custom_domains=f"{mode}.{name}", mode=mode)
                for mode in ("link", "raw")
            ),
            client="resume_timeout = 2s",
        )

    def hosts(self) -> list[str]:
        return [f"{mode}.{self.name()}" for mode in ("link", "raw")]

    def test_down(self) -> None:
        """A service that does not listen is a bad gateway; one that is back is there at once."""
        port = self.web.port
        self.sites()
        for host in self.hosts():
            self.assert_page(host, "/", "web /")
        self.web.close()
        for host in self.hosts():
            self.assertEqual(self.curl(host, "/").status, 502, host)
        again = WebService(port=port)
        self.addCleanup(again.close)
        for host in self.hosts():
            self.assert_page(host, "/", "web /")

    def test_late(self) -> None:
        """Who does not answer in time has not answered, and is not waited for any longer."""
        self.sites()
        for host in self.hosts():
            answer = self.curl(host, "/never")
            self.assertEqual((answer.code, answer.status), (0, 504))
        eventually(
            lambda: self.streams(self.name()) == 0,
            lambda: f"streams are left: {self.status(self.name())}",
        )
        for host in self.hosts():
            self.assert_page(host, "/", "web /")

    def test_stalled(self) -> None:
        """A service that does not even read costs the server nothing once it is given up."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            start_sites(
                self,
                "stalled",
                *(
                    service_section(
                        mode,
                        listening.getsockname()[1],
                        custom_domains=f"{mode}.stalled",
                        mode=mode,
                    )
                    for mode in ("link", "raw")
                ),
            )
            (self.folder / "large").write_bytes(bytes(4 * SIZE))
            for mode in ("link", "raw"):
                upload = "--upload-file", str(self.folder / "large"), "--header", "Expect:"
                self.assertEqual(self.curl(f"{mode}.stalled", "/", *upload).status, 504)
            eventually(
                lambda: self.raw_streams("server") == 0 and self.streams("stalled") <= 1,
                lambda: f"streams are left: {self.status('server')}, {self.status('stalled')}",
            )

    def raw_streams(self, name: str) -> int:
        """How many raw ones a daemon knows of."""
        sessions = self.status(name)["sessions"]
        return sum(each["streams"] for each in sessions if each["mode"] == "raw")

    def test_killed(self) -> None:
        """When a client is killed, what is being downloaded never looks like the whole."""
        provider = self.sites()
        base = f"http://127.0.0.1:{self.http_port}"
        curls = [
            curl for host in self.hosts() for curl in self.begin_downloads(self.web, host, base)
        ]
        provider.kill()
        self.sites()
        self.assert_failed(curls)
        for host in self.hosts():
            self.assert_page(host, "/", "web /")

    def test_group(self) -> None:
        """Of two providers under one name the one whose health check fails gets no visitors."""
        port = self.web.port
        other = WebService("other")
        self.addCleanup(other.close)
        group = {
            "custom_domains": "group.example", "group": "both", "group_key": "secret",
            "health_check": "http /well", "health_check_interval": "100ms",
            "health_check_failures": "2",
        }  # fmt: skip
        one = start_sites(self, "one", service_section("it", port, **group))
        two = start_sites(self, "two", service_section("it", other.port, **group))
        seen = sorted(self.curl("group.example").text for _ in range(4))
        self.assertEqual(seen, ["other /"] * 2 + ["web /"] * 2)
        self.web.close()
        one.wait_for("it fails its health check")
        self.assertEqual([self.curl("group.example").text for _ in range(4)], ["other /"] * 4)
        other.close()
        two.wait_for("it fails its health check")
        self.assertEqual(self.curl("group.example").status, 503)
        for process, word, local in ((one, "web", port), (two, "other", other.port)):
            again = WebService(word, local)
            self.addCleanup(again.close)
            process.wait_for("it is well again")
            eventually(
                lambda word=word: self.curl("group.example").text == f"{word} /",
                lambda word=word: f"{word} does not come back",
            )
        one.kill()
        eventually(
            lambda: "one" not in self.status("server")["clients"],
            lambda: "the server keeps the dead one",
        )
        self.assertEqual([self.curl("group.example").text for _ in range(4)], ["other /"] * 4)

    def test_away(self) -> None:
        """While a client is away its name is not anybody's, and leads nowhere."""
        self.sites().stop()
        for host in self.hosts():
            eventually(
                lambda host=host: self.curl(host).status in (404, 503),
                lambda host=host: f"{host} answers: {self.curl(host)}",
            )
