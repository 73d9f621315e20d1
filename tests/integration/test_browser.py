"""Chromium, a web page and its WebSocket, with the tunnel in between."""

from __future__ import annotations

import sys

from .browser import browse, page, told
from .processes import Process, needs
from .services import digest
from .shared import Keeper
from .test_https_hosts import HttpsTestCase
from .test_websocket import SERVER as WEBSOCKET_SERVER
from .web import service_section, start_sites

SIZE = 16 * 1024 * 1024


class BrowserTestCase(HttpsTestCase):
    """A web service and, beside it, a WebSocket."""

    def begin_server(self, keeper: Keeper, http: str) -> Process:
        needs("chromium")
        return keeper.start_server(
            config=f"[http]\nvhost_http_port = 0\nvhost_https_port = 0\n{http}"
        )

    def begin(self, keeper: Keeper) -> Process:
        server = super().begin(keeper)
        service = keeper.start("websocket", sys.executable, "-c", WEBSOCKET_SERVER)
        socket = int(service.wait_for(r"listening on (\d+)")[1])
        start_sites(
            keeper,
            "sockets",
            service_section(
                "ws", socket, protocol="ws", locations="/ws",
                custom_domains="ended.example, *.ended.example",
            ),
        )  # fmt: skip
        self.web.page = page(SIZE)
        return server


class Browser(BrowserTestCase):
    def check(self, scheme: str, host: str) -> None:
        browse(self, f"{scheme}://{host}:{self.listening(scheme)}/page")
        self.assertEqual(
            told(self.web),
            {
                "text": "web /text",
                "missing": 403,
                "many": 30,
                "socket": ["text", 300000, 4321],
                "size": SIZE,
            },
        )
        self.assertEqual(bytes.fromhex(self.web.wait_for("/up").sha256), digest(SIZE))

    def test_http(self) -> None:
        """A page fetches, talks over a WebSocket, downloads, and uploads what is equal by hash."""
        self.check("http", "ended.example")

    def test_https(self) -> None:
        """It does so by HTTPS and WSS, too."""
        self.check("https", "any.ended.example")
