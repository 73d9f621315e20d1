"""A game-like service of datagrams: many senders, numbered datagrams, all sizes."""

from __future__ import annotations

import struct
from collections import Counter

from .command import CommandTestCase
from .processes import RELAYTUN, eventually
from .udp import EchoService, UdpTestCase

PLAYERS = 40
ROUNDS = 100
_HEAD = struct.Struct("!II")
#: Around the sizes at which something changes: empty, an Ethernet packet, loopback's, the largest.
SIZES = [0, 1, 9, 508, 1200, 1231, 1232, 1400, 1500, 9000, 32768, 65449, 65450, 65480, 65507]


class Players(UdpTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.echo = self.echo_service()
        self.run_tunnel(self.echo.port)

    def test_players(self) -> None:
        """
        Many senders at once: each gets its own answers, in order and once; the service sees each
        as a sender of its own; and C{status} counts them.
        """
        self.wait_for_usual_path()
        players = [self.sender() for _ in range(PLAYERS)]
        for turn in range(ROUNDS):
            for number, player in enumerate(players):
                player.send(_HEAD.pack(number, turn) + bytes(turn))
            for number, player in enumerate(players):
                answer = player.receive()
                self.assertEqual(answer, _HEAD.pack(number, turn) + bytes(turn))
        self.assertEqual(Counter(self.echo.heard.values()), {ROUNDS: PLAYERS})
        moved = PLAYERS * sum(_HEAD.size + turn for turn in range(ROUNDS))
        for name in ("visitor", "provider"):
            session = self.session(name)
            self.assertEqual(session["streams"], PLAYERS)
            self.assertEqual((session["bytesIn"], session["bytesOut"]), (moved, moved))
            counts = session["datagrams"]
            count, other = counts["byUdp"], counts["byLink"]
            if self.blocked:
                count, other = other, count
            self.assertEqual((count, other, counts["dropped"]), (PLAYERS * ROUNDS, 0, 0))
        session = self.session("server")
        self.assertGreater(min(session["bytesIn"], session["bytesOut"]), moved)


class PlayersBlocked(Players):
    """The same where UDP does not get to the relay."""

    blocked = True


class Game(UdpTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.echo = self.echo_service()
        self.run_tunnel(self.echo.port)

    def test_sizes(self) -> None:
        """Datagrams of all sizes come back as they were, those that UDP does not take, too."""
        self.wait_for_path("udp")
        player = self.sender()
        for size in SIZES:
            payload = bytes(size % 251 for _ in range(size))
            self.assertEqual(player.ask(payload), payload, f"{size} bytes")
        counts = self.session("visitor")["datagrams"]
        self.assertEqual(counts["byUdp"] + counts["byLink"], len(SIZES))
        # The last ones are larger than what is left when they are sealed.
        self.assertGreaterEqual(counts["byLink"], 2)
        self.assertEqual(counts["dropped"], 0)

    def test_service_away(self) -> None:
        """
        The very first datagram is answered, whichever way it takes.  Without a service nothing
        comes back, and the provider says so.
        """
        port = self.echo.port
        player = self.sender()
        self.assertEqual(player.ask(b"hello"), b"hello")
        self.echo.close()
        self.assertFalse(player.answered(b"anybody?"))
        player.answered(b"anybody?")  # The kernel told of the first one when the next was sent.
        self.daemons["provider"].wait_for(
            rf"the udp service does not answer at 127\.0\.0\.1:{port}: connection refused"
        )


class Elsewhere(UdpTestCase):
    """Other orders and addresses."""

    def test_visitor_first(self) -> None:
        """A visitor that is there first opens its UDP port when it hears what the service is."""
        echo = self.echo_service()
        self.run_server()
        visitor = self.start_client(
            "visitor", "[connect:it]\ntarget = provider\nservice = game\nlocal_port = 0\n"
        )
        visitor.wait_for("waiting for provider/game")
        self.run_provider(echo.port)
        port = int(visitor.wait_for(r"udp 127\.0\.0\.1:(\d+) leads to provider/game")[1])
        self.assertEqual(self.sender(port).ask(b"hello"), b"hello")

    def test_ipv6(self) -> None:
        """Senders and the service may be at IPv6 addresses."""
        echo = EchoService("::1")
        self.addCleanup(echo.close)
        self.run_server()
        self.run_provider(echo.port, host="::1")
        visitor = self.start_client(
            "visitor",
            "[connect:it]\ntarget = provider\nservice = game\nlocal_host = ::1\nlocal_port = 0\n",
        )
        port = int(visitor.wait_for(r"udp \S*:(\d+) leads to provider/game")[1])
        players = [self.sender(port, "::1") for _ in range(3)]
        for number, player in enumerate(players):
            self.assertEqual(player.ask(b"%d" % number), b"%d" % number)
        self.assertEqual(len(echo.heard), 3)


class Connect(CommandTestCase, UdpTestCase):
    """C{relaytun connect}."""

    def test_connect(self) -> None:
        """It opens a UDP port for a udp service, and counts what goes through."""
        echo = self.echo_service()
        self.run_server()
        self.run_provider(echo.port)
        connect = self.start("connect", *RELAYTUN, "connect", *self.connect_options(service="game"))
        port = int(connect.wait_for(r"^127\.0\.0\.1:(\d+) leads to provider/game$")[1])
        players = [self.sender(port) for _ in range(3)]
        for number, player in enumerate(players):
            self.assertEqual(player.ask(b"player %d" % number), b"player %d" % number)
        self.assertEqual(self.session("provider")["streams"], 3)
        self.assertEqual(len(echo.heard), 3)
        connect.stop()
        eventually(
            lambda: not self.status("provider")["sessions"],
            lambda: "the provider keeps the session",
        )
