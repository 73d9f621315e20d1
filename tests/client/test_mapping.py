"""Tests of L{relaytun.client.mapping}: when a router is asked for a port, and for how long."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client import mapping as module
from relaytun.client.mapping import PATIENCE, SILENCE, UPNP_PATIENCE, Mapping, Mappings
from relaytun.nat.portmap import MappedPort, NoMapping, PortMapper

MAPPED = MappedPort("203.0.113.1", 7, "pcp", 600)


class FakeMapper:
    """
    @ivar asked: what is asked for, with the answer that is waited for and who hears of changes.
    @ivar given_back: what is.
    @ivar searches: for the router.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, Deferred[MappedPort], Any]] = []
        self.given_back: list[tuple[str, int]] = []
        self.searches: list[Deferred[bool]] = []
        self.closed = False

    def search(self) -> Deferred[bool]:
        self.searches.append(Deferred())
        return self.searches[-1]

    def map(self, protocol: str, port: int, changed: Any) -> Deferred[MappedPort]:
        answer: Deferred[MappedPort] = Deferred()
        self.asked.append((protocol, port, answer, changed))
        return answer

    def unmap(self, protocol: str, port: int) -> None:
        self.given_back.append((protocol, port))

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class MappingsTests(SynchronousTestCase):
    """With a router that the test plays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.mapper = FakeMapper()
        self.mappings = Mappings(self.clock, self.mapper)  # type: ignore[arg-type]

    def ask(self) -> Mapping:
        mapping = self.mappings.ask("udp", 5)
        assert mapping is not None
        return mapping

    def test_given(self) -> None:
        """Who waits hears as soon as the router has answered; changes come later."""
        mapping = self.ask()
        waiting = mapping.within(1)
        ((protocol, port, answer, changed),) = self.mapper.asked
        self.assertEqual((protocol, port, self.mappings.known), ("udp", 5, False))
        self.assertNoResult(waiting)
        answer.callback(MAPPED)
        self.successResultOf(waiting)
        self.assertEqual((mapping.mapped, self.mappings.known), (MAPPED, True))
        self.successResultOf(mapping.within(1))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        changed(None)
        self.assertIsNone(mapping.mapped)
        mapping.release()
        self.assertEqual(self.mapper.given_back, [("udp", 5)])

    def test_late(self) -> None:
        """Nobody waits longer than he wants, and a late answer still counts for the next time."""
        mapping = self.ask()
        self.successResultOf(mapping.within(0))
        waiting = mapping.within(1)
        self.clock.advance(1)
        self.successResultOf(waiting)
        self.mapper.asked[0][2].callback(MAPPED)
        self.assertTrue(self.mappings.known)

    def test_given_up(self) -> None:
        """Who waits may give it up."""
        waiting = self.ask().within(1)
        waiting.cancel()
        self.failureResultOf(waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent(self) -> None:
        """A router that gave nothing is not asked again for a while."""
        mapping = self.ask()
        waiting = mapping.within(9)
        self.mapper.asked[0][2].errback(NoMapping("it does not answer"))
        self.successResultOf(waiting)
        self.assertIsNone(mapping.mapped)
        self.clock.advance(SILENCE - 1)
        self.assertIsNone(self.mappings.ask("tcp", 6))
        self.clock.advance(1)
        self.assertIsNotNone(self.mappings.ask("tcp", 6))
        self.assertIsNotNone(self.mappings.ask("tcp", 6))

    def test_another_network(self) -> None:
        """In another network there is another router, which is looked for."""
        self.ask()
        self.mapper.asked[0][2].errback(NoMapping("it does not answer"))
        self.mappings.forget()
        self.assertEqual(len(self.mapper.searches), 1)
        self.ask()

    def test_search(self) -> None:
        """A router that is found before a port is needed counts as one that gives some."""
        self.mappings.search()
        self.mappings.search()
        self.ask()
        self.mapper.asked[0][2].errback(NoMapping("it was too early"))
        (search,) = self.mapper.searches
        self.assertFalse(self.mappings.known)
        search.callback(True)
        self.assertEqual((self.mappings.known, self.mappings.patience), (True, UPNP_PATIENCE))
        self.ask()
        self.mappings.search()
        self.assertEqual(len(self.mapper.searches), 1)

    def test_search_in_vain(self) -> None:
        """One that is not found is looked for again the next time."""
        self.mappings.search()
        self.mapper.searches[0].callback(False)
        self.assertFalse(self.mappings.known)
        self.mappings.search()
        self.assertEqual(len(self.mapper.searches), 2)

    def test_found_in_another_network(self) -> None:
        """What was found in the network before is not there any more."""
        self.mappings.search()
        self.mappings.forget()
        self.mapper.searches[0].callback(True)
        self.assertFalse(self.mappings.known)
        self.mapper.searches[1].callback(True)
        self.assertTrue(self.mappings.known)

    def test_question_given_up(self) -> None:
        """A question that was given up says nothing of the router; a fault is logged."""
        self.ask()
        self.mapper.asked[0][2].cancel()
        self.ask()
        self.mapper.asked[1][2].errback(RuntimeError("a fault"))
        self.ask()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_patience(self) -> None:
        """A router that only knows UPnP gets the time that this takes."""
        self.assertEqual(self.mappings.patience, PATIENCE)
        self.ask()
        self.mapper.asked[0][2].callback(MappedPort("203.0.113.1", 7, "upnp", 600))
        self.assertEqual(self.mappings.patience, UPNP_PATIENCE)

    def test_close(self) -> None:
        """At the end all is given back."""
        self.mappings.close()
        self.assertTrue(self.mapper.closed)

    def test_upnp(self) -> None:
        """UPnP is used where its library is."""
        for installed in (False, True):
            self.patch(module, "is_installed", lambda there=installed: there)
            self.patch(module, "Upnp", lambda reactor: "UPnP")
            made = Mappings(self.clock)._mapper  # type: ignore[arg-type]
            assert isinstance(made, PortMapper)
            self.assertEqual(made._upnp, "UPnP" if installed else None)
