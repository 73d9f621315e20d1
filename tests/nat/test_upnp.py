"""Tests of L{relaytun.nat.upnp} with a fake library; L{tests.natlab} has a real router."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.portmap import MappedPort, NoMapping
from relaytun.nat.upnp import Upnp

#: A process that ends while its router is looked for.
ENDING = """
import threading
from twisted.internet import reactor
from relaytun.nat.upnp import Upnp

class Library:
    def discover(self):
        reactor.callFromThread(reactor.stop)
        threading.Event().wait()

Upnp(reactor, Library).search()
reactor.run()
print("ended")
"""


class Reactor:
    """Threads that are none."""

    def callFromThread(self, act: Any, *args: Any) -> None:
        act(*args)


class Library:
    """What C{miniupnpc.UPnP} has, and a router behind it."""

    lanaddr = "192.168.1.10"

    def __init__(self) -> None:
        self.found = 1
        self.url = "http://192.168.1.1:5000/rootDesc.xml"
        self.outer = "203.0.113.5"
        self.taken: set[int] = set()
        self.calls: list[tuple[Any, ...]] = []

    def discover(self) -> int:
        self.calls.append(("discover",))
        return self.found

    def selectigd(self) -> str:
        return self.url

    def externalipaddress(self) -> str:
        return self.outer

    def addportmapping(self, port: int, *rest: Any) -> bool:
        if port in self.taken:
            raise Exception("ConflictInMappingEntry")
        self.calls.append(("add", port, *rest))
        return True

    def addanyportmapping(self, port: int, *rest: Any) -> int:
        self.calls.append(("any", port, *rest))
        return 4711

    def deleteportmapping(self, port: int, protocol: str) -> bool:
        self.calls.append(("delete", port, protocol))
        raise Exception("NoSuchEntryInArray")


class UpnpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.library = Library()
        self.upnp = Upnp(
            Reactor(),  # type: ignore[arg-type]
            lambda: self.library,
            lambda: "192.168.1.1",
            lambda work: work(),
        )

    def map(self) -> Deferred[MappedPort]:
        return self.upnp.map("udp", 5000, 6000, 600)

    def test_mapping(self) -> None:
        """It is found once, maps what was wished for, and gives it back, heard or not."""
        expected = MappedPort("203.0.113.5", 6000, "upnp", 600)
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.map()), expected)
        self.successResultOf(self.upnp.unmap("udp", 6000))
        add = "add", 6000, "UDP", "192.168.1.10", 5000, "relaytun", "", 600
        self.assertEqual(self.library.calls, [("discover",), add, add, ("delete", 6000, "UDP")])

    def test_taken(self) -> None:
        """Where another host has the port, the router chooses one."""
        self.library.taken.add(6000)
        self.assertEqual(self.successResultOf(self.map()).port, 4711)

    def test_none(self) -> None:
        """No router, one that is not the gateway, or one with no address: no mapping."""
        for name, value in (
            ("found", 0),
            ("url", "http://192.168.1.66:5000/rootDesc.xml"),
            ("outer", ""),
            ("outer", "0.0.0.0"),
        ):
            self.setUp()
            setattr(self.library, name, value)
            self.failureResultOf(self.map(), NoMapping)

    def test_search(self) -> None:
        """It may be searched for beforehand, and anew, by which it may get lost."""
        self.assertFalse(self.upnp.ready)
        for _ in range(2):
            self.assertTrue(self.successResultOf(self.upnp.search()))
            self.assertTrue(self.upnp.ready)
        self.assertEqual(self.library.calls, [("discover",)] * 2)
        self.successResultOf(self.map())
        self.assertEqual(self.library.calls.count(("discover",)), 2)
        self.library.found = 0
        self.assertFalse(self.successResultOf(self.upnp.search()))
        self.assertFalse(self.upnp.ready)

    def test_ending(self) -> None:
        """Nobody who ends waits for it."""
        ended = subprocess.run(
            [sys.executable, "-c", ENDING],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((ended.returncode, ended.stdout), (0, "ended\n"))

    def test_trouble(self) -> None:
        """Whatever the library raises is told, and the next time the router is searched again."""
        self.library.taken.add(6000)
        self.library.addanyportmapping = lambda *_: 1 / 0  # type: ignore[method-assign]
        error = self.failureResultOf(self.map(), NoMapping)
        self.assertEqual(error.getErrorMessage(), "UPnP: division by zero")
        self.failureResultOf(self.map(), NoMapping)
        self.assertEqual(self.library.calls.count(("discover",)), 2)
