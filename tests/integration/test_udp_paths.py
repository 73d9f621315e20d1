"""Datagrams when the way changes: UDP blocked, a NAT that forgets, a process killed."""

from __future__ import annotations

from .processes import eventually, side_by_side
from .udp import UdpTestCase


class Blocked(UdpTestCase):
    """
    A router in between decides which UDP passes.

    It is a process of the test: no privileges are needed, and nothing of the machine is changed.
    """

    def setUp(self) -> None:
        super().setUp()
        self.echo = self.echo_service()
        self.router = self.run_tunnel_behind_router(self.echo.port)
        self.player = self.sender()

    def test_blocked_from_the_start(self) -> None:
        """Where UDP never passes, datagrams of all sizes take the link, the first one, too."""
        self.router.block()
        player = self.player
        for size in (5, 0, 1200, 65507):
            payload = bytes(size % 251 for _ in range(size))
            self.assertEqual(player.ask(payload), payload)
        self.assertEqual(self.paths(), {"link"})

    def test_for_a_while(self) -> None:
        """They come back to UDP."""
        side_by_side(*map(Blocked, ("there_and_back", "nat_forgets")))

    def there_and_back(self) -> None:
        """UDP that is blocked is left for the link; unblocked, it is taken again by itself."""
        self.wait_for_path("udp")
        self.assertEqual(self.player.ask(b"by udp"), b"by udp")
        self.router.block()
        self.wait_for_answer(self.player)
        self.wait_for_path("link")
        sizes = (1, 1200, 65507)
        answers = [len(self.player.ask(b"x" * size)) for size in sizes]
        self.assertEqual(answers, list(sizes))
        self.router.unblock()
        self.wait_for_path("udp")
        before = self.session("visitor")["datagrams"]["byUdp"]
        self.assertEqual(self.player.ask(b"by udp again"), b"by udp again")
        self.assertEqual(self.session("visitor")["datagrams"]["byUdp"], before + 1)

    def test_large_ones_blocked(self) -> None:
        """On a path that only takes small packets, those take UDP and large ones the link."""
        self.router.passes = lambda packet: len(packet) <= 1300
        self.wait_for_path("udp")
        self.assertEqual(self.player.ask(b"small"), b"small")
        self.assertEqual(self.player.ask(bytes(1400)), bytes(1400))
        counts = self.session("visitor")["datagrams"]
        self.assertEqual((counts["byUdp"], counts["byLink"]), (1, 1))

    def nat_forgets(self) -> None:
        """A NAT that has forgotten both clients is no end: they are found at their new ports."""
        self.wait_for_path("udp")
        self.assertEqual(self.player.ask(b"before"), b"before")
        self.router.forget()
        self.wait_for_answer(self.player)
        eventually(
            lambda: self.player.answered(b"after") and self.paths() == {"udp"},
            lambda: f"they take {self.paths()}",
        )


class Killed(UdpTestCase):
    """SIGKILL to one of the processes."""

    def test_each(self) -> None:
        """It is only a pause, whoever is killed."""
        side_by_side(*map(Killed, ("server", "provider", "visitor")))

    def run_game(self, resume_timeout: str = "120s") -> None:
        """All three, and one datagram."""
        self.echo = self.echo_service()
        self.run_server()
        self.run_provider(self.echo.port, client=f"resume_timeout = {resume_timeout}")
        self.run_visitor()
        self.player = self.sender()
        self.wait_for_path("udp")
        self.assertEqual(self.player.ask(b"before"), b"before")

    def assert_goes_on(self) -> None:
        """Datagrams of the same program, and of another, flow again, by UDP at last."""
        self.wait_for_answer(self.player)
        self.wait_for_path("udp")
        for player in (self.player, self.sender()):
            self.assertEqual(player.ask(b"after"), b"after")
        for name in ("visitor", "provider", "server"):
            eventually(
                lambda name=name: len(self.status(name)["sessions"]) == 1,
                lambda name=name: f"{name} has {self.status(name)['sessions']}",
            )

    def server(self) -> None:
        """A server that is killed and started again is found by both, and the flow goes on."""
        self.run_game()
        self.daemons["server"].kill()
        self.run_server()
        self.assert_goes_on()
        # The link is the same one, so the service never saw another sender.
        self.assertEqual(len(self.echo.heard), 2)

    def provider(self) -> None:
        """A provider that is killed and started again gets the datagrams."""
        self.run_game()
        self.daemons["provider"].kill()
        self.run_provider(self.echo.port)
        self.assert_goes_on()

    def visitor(self) -> None:
        """A visitor that is killed and started again carries them, at the same port."""
        # Its link dies with it: so long the provider waits for it to come back.
        self.run_game(resume_timeout="2s")
        self.daemons["visitor"].kill()
        self.run_visitor(self.port)
        self.assert_goes_on()
