"""Streams of a link whose client dies: an error for the program that is left, never an end."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from .links import MIB, RESUME_TIMEOUT, LinkTestCase, port_of
from .processes import dialled

#: Seconds for what is to be known at once, on a busy machine.
SOON = 10.0


class ClientEnds(LinkTestCase):
    def test_provider_killed(self) -> None:
        """A killed provider resets the visitor's program, also if it comes back at once."""
        with self.under_way() as near:
            begin = time.monotonic()
            self.tunnel.provider.kill()
            self.provider_back()
            self.assert_reset(near)
        self.assertLess(time.monotonic() - begin, RESUME_TIMEOUT + SOON)
        self.tunnel.visitor.wait_for("the provider's process has died")
        self.assert_works_again()

    def test_provider_gone(self) -> None:
        """A killed provider that stays away resets the program after resume_timeout."""
        with self.under_way() as near, self.tunnel.stream() as (resting, _):
            begin = time.monotonic()
            self.tunnel.provider.kill()
            for connection in (near, resting):
                self.assert_reset(connection)
        self.assertGreaterEqual(time.monotonic() - begin, RESUME_TIMEOUT - 0.5)
        self.provider_back()
        self.assert_works_again()

    def test_visitor_killed(self) -> None:
        """A killed visitor resets the service within resume_timeout, also if it comes back."""
        with self.tunnel.stream() as (near, far), self.tunnel.stream() as (_, resting):
            near.sendall(b"the beginning")
            begin = time.monotonic()
            self.tunnel.visitor.kill()
            self.visitor_back()
            for connection in (far, resting):
                self.assert_reset(connection)
            self.assertLess(time.monotonic() - begin, RESUME_TIMEOUT + SOON)
            self.assert_works_again()

    def test_provider_stopped(self) -> None:
        """SIGTERM of the provider resets the programs at both ends, at once."""
        with self.tunnel.stream() as (near, far):
            self.assertIsNotNone(self.tunnel.provider.stop())
            for connection in (near, far):
                self.assert_reset(connection)
        self.provider_back()
        self.assert_works_again()

    def test_visitor_stopped(self) -> None:
        """SIGTERM of the visitor resets the programs at both ends, at once."""
        with self.tunnel.stream() as (near, far):
            self.tunnel.visitor.stop()
            for connection in (near, far):
                self.assert_reset(connection)
        self.visitor_back()
        self.assert_works_again()

    def test_stopped_in_transfer(self) -> None:
        """SIGTERM in the middle of a transfer never looks like the end of a file."""
        for daemon, back in (("provider", self.provider_back), ("visitor", self.visitor_back)):
            with self.under_way() as near:
                getattr(self.tunnel, daemon).stop()
                self.assert_reset(near)
            back()
            self.assert_works_again()

    def test_server_stays_away(self) -> None:
        """Without any server both programs are reset after resume_timeout; then all works again."""
        with self.tunnel.stream() as (near, far), contextlib.ExitStack() as later:
            self.tunnel.server.kill()
            waiting = later.enter_context(dialled(self.tunnel.port))
            waiting.sendall(b"somebody there?")
            for connection in (near, far, waiting):
                self.assert_reset(connection)
        self.tunnel.restart_server()
        self.assert_works_again()

    @contextlib.contextmanager
    def under_way(self) -> Iterator[socket.socket]:
        """The near end of a stream on which more comes than it can have read."""
        with self.tunnel.stream() as (near, far):
            far.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    far.send(bytes(MIB))
            self.assertEqual(len(near.recv(100, socket.MSG_WAITALL)), 100)
            yield near

    def provider_back(self) -> None:
        """Another process for the provider."""
        self.tunnel.provider = self.tunnel.launch_provider()

    def visitor_back(self) -> None:
        """Another process for the visitor."""
        self.tunnel.visitor = self.tunnel.launch_visitor()
        self.tunnel.port = port_of(self.tunnel.visitor)

    def assert_works_again(self) -> None:
        """New streams work, and nothing is left of the old ones."""
        self.tunnel.await_link()
        self.assert_nothing_left()
