"""Tests of L{relaytun.ends.directdatagrams}, as the path of a link's datagrams uses it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.ends.directdatagrams import LINGER
from relaytun.ends.probing import LAST_RETRY
from relaytun.wire.datagram import OVERHEAD, PUNCHED
from relaytun.wire.preamble import Role

from .datagram_support import Network, Punched


class DirectTests(SynchronousTestCase):
    """
    @ivar came: what the provider's side got.
    @ivar lost: whose path was lost.
    """

    def setUp(self) -> None:
        self.net = Network()
        self.addCleanup(self.net.close)
        self.came: list[bytes] = []
        self.lost: list[Role] = []
        self.net.provider.received = lambda flow, batch: self.came.extend(map(bytes, batch))

    def adopt(self, ends: dict[Role, Punched] | None = None) -> dict[Role, Punched]:
        """Both sides adopt a path."""
        ends = ends or self.net.punch()
        for role, end in ends.items():
            self.adopt_one(role, end)
        return ends

    def adopt_one(self, role: Role, end: Punched) -> None:
        self.net.paths[role].use_punched(end, lambda: self.lost.append(role))

    def go_direct(self) -> dict[Role, Punched]:
        """Everything works, and is known to."""
        self.net.prove()
        ends = self.adopt()
        self.net.reactor.run(1)
        self.assertEqual(self.ways(), {"direct"})
        return ends

    def ways(self) -> set[str]:
        return {path.report()["path"] for path in self.net.paths.values()}

    def send(self, *payloads: bytes) -> str:
        """@return: which way they went, if they all arrived."""
        path = self.net.visitor
        before = path.report()
        self.came.clear()
        path.send(5, payloads, max(map(len, payloads)))
        path.flush()
        self.net.reactor.run(0.1)
        after = path.report()
        moved = {key for key in before if key[:2] == "by" and after[key] != before[key]}
        self.assertEqual(self.came, list(payloads))
        return "+".join(sorted(moved))

    def use(self, seconds: float) -> None:
        """Datagrams are under way, whether or not they arrive."""
        for _ in range(round(seconds * 5)):
            self.net.visitor.send(5, [b"x"], 1)
            self.net.visitor.flush()
            self.net.reactor.run(0.2)

    def test_better_than_the_relay(self) -> None:
        """A punched path is taken as soon as a probe on it was answered, both ways."""
        self.net.prove()
        self.assertEqual(self.send(b"before"), "byUdp")
        self.adopt()
        self.net.reactor.run(1)
        self.assertEqual(self.ways(), {"direct"})
        self.assertEqual(self.send(b"now", b"", bytes(1000)), "byDirect")
        answers: list[bytes] = []
        self.net.visitor.received = lambda flow, batch: answers.extend(batch)
        self.net.provider.send(5, [b"answer"], 6)
        self.net.provider.flush()
        self.net.reactor.run(0.1)
        self.assertEqual(answers, [b"answer"])
        self.assertIsNotNone(self.net.visitor.rtt)

    def test_without_a_relay(self) -> None:
        """It needs no session with a relay."""
        for path in self.net.paths.values():
            path.new_secret(1, bytes(64))
        self.adopt()
        self.assertEqual(self.send(b"before"), "byLink")
        self.net.reactor.run(1)
        self.assertEqual(self.send(b"now"), "byDirect")

    def test_no_answer(self) -> None:
        """A path that the other side does not use is not used."""
        self.net.prove()
        self.adopt_one(Role.VISITOR, self.net.punch()[Role.VISITOR])
        self.net.reactor.run(5)
        self.assertEqual(self.send(b"x"), "byUdp")

    def test_breaks(self) -> None:
        """When nothing passes any more the relay has them within seconds, and then not."""
        ends = self.go_direct()
        for end in ends.values():
            end.passes = lambda size: False
        self.use(6)
        self.assertEqual(self.send(b"x"), "byUdp")
        for end in ends.values():
            end.passes = lambda size: True
        self.net.reactor.run(LAST_RETRY)
        self.assertEqual(self.send(b"x"), "byDirect")
        self.assertEqual(self.lost, [])

    def test_relay_breaks(self) -> None:
        """The relay's end does no harm."""
        self.go_direct()
        self.net.passes = lambda size: False
        self.use(30)
        self.assertEqual(self.send(b"x"), "byDirect")
        for path in self.net.paths.values():
            path.use_session(None)
        self.assertEqual(self.send(b"x"), "byDirect")

    def test_lost(self) -> None:
        """A path that is lost is told of, and the next one is as good as the first."""
        ends = self.go_direct()
        for end in ends.values():
            end.die()
        self.assertEqual(self.lost, [Role.VISITOR, Role.PROVIDER])
        self.assertEqual(self.send(b"x"), "byUdp")
        self.adopt()
        self.net.reactor.run(1)
        self.assertEqual(self.send(b"x"), "byDirect")

    def test_sizes(self) -> None:
        """What is larger than the punched path takes goes through the relay."""
        ends = self.net.punch()
        limit = 1500 - 28
        for end in ends.values():
            end.passes = lambda size: size <= limit
        self.net.prove()
        self.adopt(ends)
        self.net.reactor.run(2)
        fits = limit - OVERHEAD
        self.assertEqual(self.send(bytes(fits)), "byDirect")
        self.assertEqual(self.send(bytes(fits + 1)), "byUdp")

    def test_not_taken(self) -> None:
        """What the kernel refuses is counted as dropped."""
        ends = self.go_direct()
        end = ends[Role.VISITOR]
        end.largest = 10
        end.passes = lambda size: False
        self.net.visitor.send(5, [b"x", b"y"], 1)
        self.net.visitor.flush()
        self.assertEqual(self.net.visitor.dropped, 2)

    def test_strangers(self) -> None:
        """What cannot be opened, is of another session or came before goes nowhere."""
        ends = self.go_direct()
        came: list[bytes] = []
        end = ends[Role.PROVIDER]
        sealed = self.net.visitor._sealing.seal(PUNCHED, 5, [b"once"])[0]
        other = self.net.visitor._sealing.seal(7, 5, [b"for the relay"])[0]
        self.net.provider.received = lambda flow, batch: came.extend(map(bytes, batch))
        for data in (b"", b"\x20", sealed[:-1] + b"x", sealed[:-1], other, sealed, sealed):
            end.arrived(data)
        self.assertEqual(came, [b"once"])

    def test_new_secrets(self) -> None:
        """While the link changes its channel, datagrams go on, whichever side is told first."""
        self.go_direct()
        for epoch in range(2, 6):
            first, second = list(self.net.paths.values())[:: 1 if epoch % 2 else -1]
            secret = bytes([epoch]) * 64
            first.new_secret(epoch, secret)
            self.assertEqual(self.send(b"x"), "byDirect")
            second.new_secret(epoch, secret)
            self.assertEqual(self.send(b"x"), "byDirect")
            self.net.reactor.run(2)

    def test_successor(self) -> None:
        """A second path takes over without a loss, and the first one is closed after a while."""
        old = self.go_direct()
        new = self.net.punch()
        self.adopt_one(Role.VISITOR, new[Role.VISITOR])
        self.use(3)
        self.assertEqual(self.send(b"over the old one"), "byDirect")
        self.adopt_one(Role.PROVIDER, new[Role.PROVIDER])
        for _ in range(20):
            self.assertEqual(self.send(b"x"), "byDirect")
        self.net.reactor.run(LINGER)
        self.assertEqual(self.ways(), {"direct"})
        self.net.reactor.run(LINGER)
        self.assertTrue(all(end.closed for end in old.values()))
        self.assertFalse(any(end.closed for end in new.values()))
        self.assertEqual((self.send(b"x"), self.lost), ("byDirect", []))

    def test_successors_lost(self) -> None:
        """The one in use stays when the next one is lost, and the next one when that in use is."""
        used = self.go_direct()[Role.VISITOR]
        first, second, third = (self.net.punch()[Role.VISITOR] for _ in range(3))
        self.adopt_one(Role.VISITOR, first)
        first.die()
        self.adopt_one(Role.VISITOR, second)
        self.adopt_one(Role.VISITOR, third)
        self.assertTrue(second.closed)
        self.assertFalse(used.closed)
        used.die()
        self.assertEqual(self.lost, [])
        third.die()
        self.assertEqual(self.lost, [Role.VISITOR])

    def test_old_ones_end(self) -> None:
        """A path that has a successor may be lost, or have to go for the successor's."""
        ends = [self.go_direct()]
        for _ in range(3):
            ends.append(self.adopt())
            self.net.reactor.run(1)
            self.assertEqual(self.ways(), {"direct"})
        self.assertEqual([end[Role.VISITOR].closed for end in ends], [True, True, False, False])
        ends[2][Role.VISITOR].die()
        self.assertEqual(self.lost, [])
        self.assertEqual(self.send(b"x"), "byDirect")

    def test_closed(self) -> None:
        """Nothing is left behind, and nobody told."""
        ends = [self.go_direct(), self.adopt()]
        self.net.reactor.run(1)
        self.ways()
        ends.append(self.adopt())
        self.net.close()
        self.assertTrue(all(end.closed for each in ends for end in each.values()))
        self.net.reactor.run(0.1)  # What is under way arrives where nobody is.
        self.assertFalse(self.net.reactor.getDelayedCalls())
        self.assertEqual(self.lost, [])
