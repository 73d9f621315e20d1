"""Streams of a link while the server is killed: what the programs see is a pause."""

from __future__ import annotations

import contextlib
import signal
import socket

from .links import MIB, LinkTestCase, Traffic, exchange
from .processes import dialled

SIZE = 48 * MIB
KILLS = 3


class ServerKilled(LinkTestCase):
    client = "resume_timeout = 30s"

    def test_transfer(self) -> None:
        """A transfer in both directions survives several kills of the server, byte by byte."""
        with self.tunnel.stream() as stream:
            traffic = Traffic(stream, SIZE)
            for number in range(KILLS):
                traffic.wait_for((number + 1) * SIZE // (KILLS + 2))
                self.assertLess(min(traffic.taken), SIZE, "it is not under way any more")
                self.tunnel.restart_server()
            traffic.finish()
        self.assert_nothing_left()

    def test_kill_after_kill(self) -> None:
        """Servers that die before anybody is back change nothing."""
        with self.tunnel.stream() as stream:
            traffic = Traffic(stream, SIZE)
            traffic.wait_for(SIZE // 4)
            for _ in range(KILLS):
                self.tunnel.restart_server()
            traffic.finish()

    def test_resting_streams(self) -> None:
        """Streams that rest, also those with one direction ended, go on after a kill."""
        with contextlib.ExitStack() as streams:
            whole, ended, answered = (streams.enter_context(self.tunnel.stream()) for _ in range(3))
            ended.near.shutdown(socket.SHUT_WR)
            self.assertEqual(ended.far.recv(1), b"")
            answered.far.shutdown(socket.SHUT_WR)
            self.assertEqual(answered.near.recv(1), b"")
            self.tunnel.restart_server()
            exchange(*whole)
            self.check_half(ended.far, ended.near)
            self.check_half(answered.near, answered.far)
        self.assert_nothing_left()

    def test_ends_while_away(self) -> None:
        """What programs write, and that they end, while the server is away arrives later."""
        with self.tunnel.stream() as (near, far):
            self.tunnel.server.kill()
            near.sendall(b"last words")
            near.shutdown(socket.SHUT_WR)
            far.sendall(b"more last words")
            far.shutdown(socket.SHUT_WR)
            self.tunnel.restart_server()
            self.assertEqual(whole(far), b"last words")
            self.assertEqual(whole(near), b"more last words")
        self.assert_nothing_left()

    def test_new_streams_wait(self) -> None:
        """Streams opened while the server is away wait for it, and work."""
        tunnel = self.tunnel
        tunnel.server.kill()
        with contextlib.ExitStack() as connections:
            nears = [connections.enter_context(dialled(tunnel.port)) for _ in range(5)]
            for number, near in enumerate(nears):
                near.sendall(b"%d" % number)
            tunnel.restart_server()
            for _ in nears:
                far = connections.enter_context(tunnel.service.accept())
                exchange(nears[int(far.recv(1))], far)

    def test_reset_while_away(self) -> None:
        """A program that dies while the server is away is known dead at the other end later."""
        with self.tunnel.stream() as (near, far):
            self.tunnel.server.kill()
            reset(near)
            self.tunnel.restart_server()
            self.assert_reset(far)
        self.assert_nothing_left()

    def test_silent_provider(self) -> None:
        """A provider that is stopped and goes on is no dead one: the stream goes on."""
        with self.tunnel.stream() as stream:
            traffic = Traffic(stream, SIZE)
            traffic.wait_for(MIB)
            self.tunnel.provider.signal(signal.SIGSTOP)
            self.tunnel.restart_server()
            self.tunnel.provider.signal(signal.SIGCONT)
            traffic.finish()

    def test_many_kills(self) -> None:
        """Nothing is left of servers that were killed: sockets are as many as before."""
        clients = {"provider": self.tunnel.provider, "visitor": self.tunnel.visitor}
        with self.tunnel.stream() as stream:
            self.tunnel.restart_server()
            exchange(*stream)
        level = self.tunnel.settled_level(**clients)
        with self.tunnel.stream() as stream:
            for _ in range(KILLS):
                self.tunnel.restart_server()
                exchange(*stream)
        self.tunnel.assert_back_at(level, **clients)

    def check_half(self, sender: socket.socket, receiver: socket.socket) -> None:
        """The other direction still works, to its end."""
        sender.sendall(b"still there")
        sender.shutdown(socket.SHUT_WR)
        self.assertEqual(whole(receiver), b"still there")


def whole(connection: socket.socket) -> bytes:
    """All that comes, to an end in order."""
    parts = []
    while data := connection.recv(MIB):
        parts.append(data)
    return b"".join(parts)


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
