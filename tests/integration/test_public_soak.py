"""The short forms of C{tests.soak.public}: much traffic of the public, in seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

from .cuts import PublicTunnel
from .links import MIB, Kills, Traffic
from .processes import PATIENCE, Process, ProcessTestCase, dialled, eventually, receive_exactly
from .public import ALLOWED
from .shared import Keeper
from .test_abuse import Crowd
from .test_https_hosts import HttpsTestCase
from .web import WebService, WebTestCase, service_section, start_sites


class Noting(ProcessTestCase):
    """A test that has figures to tell."""

    def note(self, figure: str, value: str) -> None:
        """Only the long form keeps it."""


class PublicPortCut(Noting):
    """One connection to a public port, both directions at once, with cuts on the provider's way."""

    SIZE = 64 * MIB
    CUTS = 3
    PATIENCE = PATIENCE
    #: Bytes by which a daemon may grow.
    GROWTH = 24 * MIB

    def test_cuts(self) -> None:
        """Every byte arrives although the link under the connection is cut again and again."""
        tunnel = PublicTunnel()
        self.addCleanup(tunnel.kept.close)
        with tunnel.stream() as stream:
            Traffic(stream, self.SIZE // 4).finish(self.PATIENCE)
        daemons = tunnel.server, tunnel.provider
        before = [daemon.memory() for daemon in daemons]
        begin = time.monotonic()
        with tunnel.stream(self.PATIENCE) as stream:
            traffic = Traffic(stream, self.SIZE)
            cuts = Kills(tunnel.cut, traffic)
            cuts.go_on(lambda: len(cuts.rests) >= self.CUTS and min(traffic.taken) >= self.SIZE)
            traffic.finish(self.PATIENCE)
        self.note("MiB each way, equal by hash", f"{min(traffic.taken) // MIB}")
        self.note("seconds, with the hashes", f"{time.monotonic() - begin:.0f}")
        self.note("cuts, each 0.3 s after bytes moved again", f"{len(cuts.rests)}")
        longest = max(since for _, since in cuts.rests)
        self.note("seconds of rest after a cut, at most", f"{longest:.2f}")
        for daemon, then in zip(daemons, before, strict=True):
            grown = daemon.memory() - then
            self.note(f"MiB that the {daemon.name} grew", f"{grown / MIB:.1f}")
            self.assertLess(grown, self.GROWTH, daemon.name)
            self.assertNotIn("Traceback", daemon.output)


class HttpSteady(WebTestCase, Noting):
    """Requests on kept connections and on new ones."""

    REQUESTS = 1000
    GROWTH = 8 * MIB

    def test_back_at_the_start(self) -> None:
        """After many requests server and client hold what they held before."""
        self.start_service_to_load()
        provider = start_sites(
            self,
            "provider",
            *(
                service_section(mode, self.local, custom_domains=f"{mode}.example", mode=mode)
                for mode in ("link", "raw")
            ),
        )
        daemons = {"server": self.server, "provider": provider}
        self.load(self.REQUESTS)
        self.drop()
        level = self.settled_level(**daemons)
        memory = {name: daemon.memory() for name, daemon in daemons.items()}
        self.load(self.REQUESTS)
        self.drop()
        eventually(
            lambda: self.holds_no_more(level, **daemons),
            lambda: f"at the start {level}, now {self.level(**daemons)}",
        )
        for name, daemon in daemons.items():
            held = level[name]
            self.note(f"sockets of the {name}", f"{held['sockets']}, then {daemon.sockets()}")
            grown = daemon.memory() - memory[name]
            self.note(f"MiB that the {name} grew", f"{grown / MIB:.1f}")
            self.assertLess(grown, self.GROWTH, name)
            self.assertNotIn("Traceback", daemon.output)

    def holds_no_more(self, level: dict[str, Any], **daemons: Process) -> bool:
        """
        Whether each daemon holds at most what it held when C{level} was taken.

        A link may have taken a second channel by now, and spare legs may be fewer.
        """
        now = self.level(**daemons)
        return not now["provider"]["streams"] and all(
            held["sockets"] <= level[name]["sockets"] + 2
            and held["sessions"] == level[name]["sessions"]
            and not held["closeWaits"]
            for name, held in now.items()
        )

    def start_service_to_load(self) -> None:
        """Start what is to answer, at the port C{local}."""
        self.web = WebService()
        self.addCleanup(self.web.close)
        self.local = self.web.port

    def drop(self) -> None:
        """Have no connections to the service wait for further requests."""
        self.web.drop()

    def load(self, amount: int) -> None:
        """Ask so many times, half of it on new connections."""
        for mode in ("link", "raw"):
            together([lambda host=f"{mode}.example": self.ask(host, amount // 16)] * 4)  # type: ignore[misc]

    def ask(self, host: str, count: int) -> None:
        for kept in (True, False):
            connection = HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE)
            for number in range(count):
                connection.request("GET", f"/{number}", headers={"Host": host})
                body = connection.getresponse().read()
                assert body == f"web /{number}".encode(), body
                if not kept:
                    connection.close()
            connection.close()


class SilentVisitors(HttpsTestCase, Noting):
    """Connections that say nothing, at each public place."""

    SILENT = 300
    #: What is promised: seconds for an honest request.
    MOST = 2.0

    def begin_server(self, keeper: Keeper, http: str) -> Process:
        # What these tests start is to have room for all of them.
        self.crowd = Crowd()
        keeper.kept.callback(self.crowd.close)
        return keeper.start_server(
            config=f"[public]\nallow_ports = {ALLOWED}\n[http]\nvhost_http_port = 0\n"
            f"vhost_https_port = 0\n{http}"
        )

    def test_honest_ones(self) -> None:
        """Beside them an honest visitor is answered in time."""
        self.addCleanup(self.crowd.close)
        _, echo = self.start_service("echo")
        port = self.port(self.provider(echo))
        places = {"http": self.http_port, "https": self.listening("https"), "tcp": port}
        sockets = self.server.sockets()
        for number in places.values():
            self.crowd.grow(number, self.SILENT)
        visits: dict[str, Callable[[], object]] = {
            "http": lambda: self.assert_page("ended.example", "/", "web /"),
            "https": lambda: self.assertEqual(self.secure("ended.example").text, "web /"),
            "tcp": lambda: self.assert_answer(port),
        }
        slowest = dict.fromkeys(visits, 0.0)
        for _ in range(3):
            for name, visit in visits.items():
                begin = time.monotonic()
                visit()
                slowest[name] = max(slowest[name], time.monotonic() - begin)
        held = self.server.sockets() - sockets
        self.note("silent connections at each of HTTP, HTTPS, TCP port", f"{self.SILENT:,}")
        self.note("sockets of the server for them", f"{held:,}")
        for name, seconds in slowest.items():
            self.note(f"seconds of an honest visit by {name}, at most", f"{seconds:.2f}")
            self.assertLess(seconds, self.MOST, name)

    def assert_answer(self, port: int) -> None:
        with dialled(port) as connection:
            connection.sendall(b"hello")
            self.assertEqual(receive_exactly(connection, 5), b"hello")


def together(acts: list[Callable[[], None]]) -> None:
    """
    Do all at once.

    @raise BaseException: the first error of any.
    """
    errors: list[BaseException] = []

    def guarded(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
