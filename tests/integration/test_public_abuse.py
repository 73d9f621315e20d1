"""Hostile strangers, and hostile clients, on the public side: clear errors, and nobody waits."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from ..foreign_client import Client, Message, tcp_service
from .processes import Echo, Process
from .public import ALLOWED
from .shared import Keeper
from .web import SUBDOMAIN_HOST, WebService, WebTestCase, service_section, start_sites

#: What nobody may have, or what is nothing, as keys of an exposure.
HOSTILE: list[dict[str, Any]] = [
    *({"remotePort": each} for each in (-1, 65536, 1, "80", 1.5, None, 10**30)),
    *(
        {"customDomains": [each]}
        for each in ("a\r\nb", "a\0b", "%2e", "a" * 300, "ünï.example", "..", "", "*", "*.*", "a b")
    ),
    *({"customDomains": [each]} for each in ("*.test", f"x.{SUBDOMAIN_HOST}", "127.0.0.1")),
    *({"subdomain": each} for each in ("a\r\nb", "a.b", "*", "ü", "\0", "-a")),
    *(
        {"customDomains": ["l.example"], "locations": [each]}
        for each in ("/a\r\nb", "/\0", "nope", "/ü", "/" + 300 * "a")
    ),
    *(
        {"customDomains": ["h.example"], field: [each]}
        for field in ("requestHeaders", "responseHeaders")
        for each in (["X\r\nY", "v"], ["X", "v\r\nY: z"], ["Content-Length", "5"], ["X"], "X")
    ),
    {"customDomains": ["r.example"], "hostHeaderRewrite": "a\r\nb"},
    {"customDomains": ["u.example"], "httpPassword": "without a user"},
    {"customDomains": [f"u{number}.example" for number in range(65)]},
    {"service": "nope", "remotePort": 0},
    {},
]
#: Connections of a flood.
MANY = 1000


class PublicAbuse(WebTestCase):
    def begin(self, keeper: Keeper) -> Process:
        """A server with all kinds of public ports."""
        return keeper.start_server(
            config=f"[public]\nallow_ports = {ALLOWED}\n[http]\nvhost_http_port = 0\n"
            f"vhost_https_port = 0\nsubdomain_host = {SUBDOMAIN_HOST}\n"
        )

    def answers(self, client: Client, *services: Message, **exposure: Any) -> list[Message]:
        """What a client is told when it asks for this and nothing else."""
        client.heard.clear()
        client.say(
            "update_services",
            services=services,
            exposures=[{"service": services[0]["id"], **exposure}],
        )
        client.say("heartbeat", timestamp=1)
        client.wait_for("heartbeat")
        return list(client.heard)

    def test_exposures(self) -> None:
        """What nobody may have is a clear error, whatever a client sends."""
        client = self.client()
        service = {**tcp_service("it"), "protocol": "http"}
        for number, exposure in enumerate(HOSTILE):
            if number == len(HOSTILE) // 2:
                client = self.client("another")  # A client may say a hundred things a second.
            (told,) = self.answers(client, service, **exposure)
            error = told["payload"].get("error") or told["payload"].get("code")
            self.assertIn(error, {"bad_message", "forbidden", "id_in_use", "unknown_service"}, told)
            self.assertTrue(told["payload"]["message"].isprintable(), told)

    def test_garbage(self) -> None:
        """Nothing that strangers send surprises any public port."""
        echo = Echo()
        self.addCleanup(echo.close)
        ports = [self.port(self.provider(echo.port)), self.http_port, self.listening("https")]
        chance = random.Random(1)
        begun, hello = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = ssl.create_default_context().wrap_bio(begun, hello, server_hostname="a.example")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        request = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
        for sample in (hello.read(), request, chance.randbytes(2000)):
            for port in ports:
                for _ in range(25):
                    data = bytearray(sample)
                    for _ in range(5):
                        data[chance.randrange(len(data))] = chance.randrange(256)
                    with contextlib.suppress(OSError):
                        stranger = socket.create_connection(("127.0.0.1", port), 5)
                        with stranger:
                            stranger.sendall(data)
                            stranger.shutdown(socket.SHUT_WR)
        self.assert_echo(ports[0])

    def test_floods(self) -> None:
        """Whoever is honest is answered at once beside a flood of those who are silent."""
        web = WebService()
        self.addCleanup(web.close)
        provider = start_sites(
            self,
            "flooded",
            service_section("web", web.port, subdomain="flooded"),
            service_section("port", web.port, protocol="tcp", remote_port="0"),
        )
        port, https = self.port(provider), self.listening("https")
        page = self.http_port, lambda: self.assert_page("flooded.web.test", "/x", "web /x")
        floods: list[tuple[int, bytes, Callable[[], object]]] = [
            (page[0], b"", page[1]),
            (page[0], b"GET / HTTP/1.1\r\nHost: flooded.web.test\r\n", page[1]),
            (port, b"", lambda: self.assert_answers(port)),
            (https, b"\x16\x03\x01", lambda: self.assert_refuses(https)),
        ]
        for number, first, honest in floods:
            with contextlib.ExitStack() as closing:
                strangers = [closing.enter_context(socket.socket()) for _ in range(MANY)]
                for stranger in strangers:
                    stranger.setblocking(False)
                    stranger.connect_ex(("127.0.0.1", number))
                for stranger in strangers:
                    with contextlib.suppress(OSError):
                        stranger.send(first)
                began = time.monotonic()
                honest()
                self.assertLess(time.monotonic() - began, 2)

    def assert_answers(self, port: int) -> None:
        """A port of a web service."""
        with socket.create_connection(("127.0.0.1", port), 10) as visitor:
            visitor.sendall(b"GET /x HTTP/1.0\r\n\r\n")
            self.assertTrue(visitor.recv(100).startswith(b"HTTP/1.1 200"))

    def assert_refuses(self, port: int) -> None:
        """An HTTPS port, for a name that nobody has."""
        with (
            socket.create_connection(("127.0.0.1", port), 10) as visitor,
            self.assertRaises(ssl.SSLError),
        ):
            ssl.create_default_context().wrap_socket(visitor, server_hostname="nobody.example")
