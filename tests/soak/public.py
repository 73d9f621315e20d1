"""The long forms of what the public does: long streams, large uploads, many requests, silence."""

from __future__ import annotations

import hashlib
import re
import time

from ..integration.browser import browse, page, told
from ..integration.links import MIB
from ..integration.nginx import start_nginx
from ..integration.processes import needs, program
from ..integration.services import content
from ..integration.test_browser import BrowserTestCase
from ..integration.test_public_soak import (
    HttpSteady as ShortHttpSteady,
    PublicPortCut as ShortPublicPortCut,
    SilentVisitors as ShortSilentVisitors,
)
from .links import watching
from .long import Soak

_GIB = 1024 * MIB


class PublicPortCut(Soak, ShortPublicPortCut):
    """Many cuts."""

    SIZE = _GIB
    CUTS = 20
    PATIENCE = 120.0


class BrowserUpload(Soak, BrowserTestCase):
    """A browser that uploads what is larger than any buffer."""

    PART = 64 * MIB
    TIMES = 16
    PATIENCE = 120.0
    #: Bytes by which a daemon may grow meanwhile.
    GROWTH = 24 * MIB

    def test_by_hash(self) -> None:
        """It arrives as it was, and is never in the memory of a daemon."""
        daemons = {"server": self.server, "provider": self.sites}
        self.assertEqual(len(self.curl("ended.example", f"/bytes/{self.PART}").body), self.PART)
        before = {name: daemon.memory() for name, daemon in daemons.items()}
        self.web.page = page(self.PART, self.TIMES)
        begin = time.monotonic()
        with watching(daemons) as most:
            browse(self, f"http://ended.example:{self.http_port}/page")
            self.assertEqual(told(self.web, self.PATIENCE)["size"], self.PART * self.TIMES)
        self.note("MiB that a browser uploaded, equal by hash", f"{self.PART * self.TIMES // MIB}")
        self.note("seconds, with all that its page does", f"{time.monotonic() - begin:.0f}")
        total = hashlib.sha256()
        for _ in range(self.TIMES):
            for part in content(self.PART):
                total.update(part)
        self.assertEqual(self.web.wait_for("/up").sha256, total.hexdigest())
        for name, then in before.items():
            grown = most[name] - then
            self.note(f"MiB that the {name} grew, at most", f"{grown / MIB:.1f}")
            self.assertLess(grown, self.GROWTH, name)


class HttpSteady(Soak, ShortHttpSteady):
    """wrk and nginx, for a minute."""

    SECONDS = 60

    def start_service_to_load(self) -> None:
        needs("wrk", "nginx")
        # Idle connections are soon over, so that in the end nothing is left.
        _, self.local = start_nginx(self, "keepalive_timeout 2s; location / { return 200 hello; }")

    def drop(self) -> None:
        """nginx does it by itself."""

    def load(self, amount: int) -> None:
        """As much as goes: a third of it first, for the level."""
        self.loads = getattr(self, "loads", 0) + 1
        seconds = self.SECONDS // (12 if self.loads == 1 else 4)
        for mode in ("link", "raw"):
            for kind, options in (("kept", ()), ("new", ("--header", "Connection: close"))):
                wrk = self.start(
                    "wrk", program("wrk"), "--threads", "1", "--connections", "16",
                    "--duration", str(seconds), "--header", f"Host: {mode}.example", *options,
                    f"http://127.0.0.1:{self.http_port}/",
                )  # fmt: skip
                self.assertEqual(wrk.wait(2 * self.SECONDS), 0, wrk.output)
                self.assertNotIn("Non-2xx", wrk.output)
                rate = re.search(r"Requests/sec: +(\d+)", wrk.output)
                assert rate is not None, wrk.output
                if self.loads > 1:
                    self.note(f"requests a second, {mode}, {kind} connections", rate[1])


class SilentVisitors(Soak, ShortSilentVisitors):
    """Many of them."""

    SILENT = 2000
