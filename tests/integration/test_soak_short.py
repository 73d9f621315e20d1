"""The short forms of C{python -m tests.soak}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..soak.fuzz import run_for
from .churn import open_and_close
from .links import MIB, Kills, Traffic, Tunnel
from .processes import ProcessTestCase

COUNT = 2000
#: Bytes by which a process may grow over so many.
GROWTH = 8 * 1024 * 1024


class Churn(ProcessTestCase):
    def test_back_at_the_start(self) -> None:
        """
        After 2,000 streams, ended in all the ways there are, every daemon holds the sockets,
        sessions, legs and memory that it held before.
        """
        _, service = self.start_service("echo")
        daemons = {"server": self.start_server(), "provider": self.start_provider(service)}
        daemons["visitor"], port = self.start_visitor()
        open_and_close(port, COUNT // 2)
        level = self.settled_level(**daemons)
        memory = {name: daemon.memory() for name, daemon in daemons.items()}
        open_and_close(port, COUNT)
        self.assert_back_at(level, **daemons)
        for name, daemon in daemons.items():
            self.assertEqual(level[name]["closeWaits"], 0)
            self.assertLess(daemon.memory() - memory[name], GROWTH, name)
            self.assertNotIn("Traceback", daemon.output)


class LinkSurvivesKills(ProcessTestCase):
    SIZE = 256 * MIB
    KILLS = 5
    #: Bytes by which a client may be larger than before the first kill.
    GROWTH = 20 * MIB

    def test_kills(self) -> None:
        """A transfer in both directions outlives five kills, and costs no more memory for it."""
        tunnel = Tunnel()
        self.addCleanup(tunnel.kept.close)
        with tunnel.stream() as stream:
            Traffic(stream, self.SIZE // 4).finish()
        clients = tunnel.provider, tunnel.visitor
        before = [client.memory() for client in clients]
        with tunnel.stream() as stream:
            traffic = Traffic(stream, self.SIZE)
            kills = Kills(tunnel.restart_server, traffic)
            kills.go_on(lambda: len(kills.rests) == self.KILLS)
            traffic.finish()
        for client, then in zip(clients, before, strict=True):
            self.assertLess(client.memory() - then, self.GROWTH, client.name)


class FrameFuzz(SynchronousTestCase):
    def test_bounded_and_typed(self) -> None:
        """Whatever frames come for two seconds, nothing breaks, and much is tried."""
        seen = run_for(2.0, seed=1)
        for what in ("frames", "no frame", "steps", "answers", "ended by PROTOCOL"):
            self.assertGreater(seen[what], 0, seen)
