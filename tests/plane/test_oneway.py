"""Tests for L{relaytun.plane.oneway}, and for all that the reactor watches for one thing only."""

from __future__ import annotations

import importlib
import pkgutil
import select
import socket

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import relaytun
from relaytun.plane.oneway import ReadOnly, WriteOnly


def watched_classes() -> set[type]:
    """All classes of ours that the reactor watches."""
    found = set()
    for module in pkgutil.walk_packages(relaytun.__path__, "relaytun."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if (
                isinstance(value, type)
                and value.__module__.startswith("relaytun.")
                and (IReadDescriptor.implementedBy(value) or IWriteDescriptor.implementedBy(value))
            ):
                found.add(value)
    return found


@implementer(IReadDescriptor)
class _Reader(ReadOnly):
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lost = False

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "reader"

    def doRead(self) -> None:
        pass

    def connectionLost(self, reason: object) -> None:
        self.lost = True


class OneWayTests(SynchronousTestCase):
    def test_all(self) -> None:
        """Whatever the reactor watches can be told of both events."""
        classes = watched_classes()
        self.assertGreater(len(classes), 10)
        lacking = [
            f"{each.__module__}.{each.__name__}"
            for each in classes
            if not (hasattr(each, "doRead") and hasattr(each, "doWrite"))
        ]
        self.assertEqual(lacking, [])

    def test_event_of_another(self) -> None:
        """An event that it was never watched for costs a reader nothing."""
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        reader = _Reader(one)
        reactor = EPollReactor()
        self.addCleanup(reactor._poller.close)
        for waker in reactor._internalReaders:
            self.addCleanup(waker.connectionLost, None)
        reactor.addReader(reader)
        reactor._doReadOrWrite(reader, one.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self.assertFalse(reader.lost)
        self.assertIn(reader, reactor.getReaders())
        reactor.removeReader(reader)

    def test_nothing(self) -> None:
        """The other event does nothing."""
        ReadOnly().doWrite()
        WriteOnly().doRead()
