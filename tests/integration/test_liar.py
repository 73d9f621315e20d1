"""A server whose signalling lies about who is at the other end, and what is to be had there."""

from __future__ import annotations

import sys
from typing import Any

from .links import QUICK, OwnTunnelTestCase, Tunnel
from .processes import Process, dialled, side_by_side

#: What a server runs that lies as soon as it is told how: it changes what it tells clients.
LIAR = """
import os
from msgspec import structs
from relaytun.server.peer import Peer
from relaytun.wire.messages import ConnectOffer, CreateSession

def lie(message):
    try:
        with open(os.environ["LIE"]) as stream:
            kind, _, value = stream.read().partition(" ")
    except FileNotFoundError:
        return message
    told, _, key = kind.partition(".")
    if told == type(message).__name__:
        if key == "service":
            return structs.replace(message, service=structs.replace(message.service, id=value))
        return structs.replace(message, **{key: value})
    return message

honest = Peer.send
Peer.send = lambda self, message: honest(self, lie(message))
from twisted.scripts.twistd import run
run()
"""
NOBODY = f"sha256:{'0' * 64}"


class LyingTunnel(Tunnel):
    """
    A tunnel whose server lies as C{lie} says.

    @ivar lie: a file: the message's class, a dot, what is changed in it, a blank, and to what.
    """

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        self.lie = self.folder / "lie"
        if name == "server":
            environment = {**environment, "LIE": str(self.lie)}
            arguments = (sys.executable, "-c", LIAR, *arguments[3:])
        return super().start(name, *arguments, **environment)


class Liar(OwnTunnelTestCase):
    client = "resume_timeout = 4s"
    tunnel: Any

    def make_tunnel(self) -> Tunnel:
        return LyingTunnel(f"{self.client}\n{QUICK}")

    def test_lies(self) -> None:
        """No lie gets anywhere; until streams are given up takes longer than all else."""
        lies = (
            *("other_provider", "other_visitor", "other_service", "other_client"),
            *("raw_to_visitor", "raw_to_provider"),
        )
        side_by_side(*map(Liar, lies))

    def check(self, lie: str, daemon: str, complaint: str) -> None:
        """
        C{daemon} refuses, with C{complaint}; running streams and new ones get an error, and no
        byte gets anywhere.
        """
        said = len(self.tunnel.daemons[daemon].lines)
        self.addCleanup(self.tunnel.lie.unlink, missing_ok=True)
        with self.tunnel.stream() as (near, far):
            self.tunnel.lie.write_text(lie)
            self.tunnel.restart_server()
            near.sendall(b"for nobody else")
            for connection in (near, far):
                self.assert_reset(connection)
        self.tunnel.daemons[daemon].wait_for(complaint, after=said)
        with dialled(self.tunnel.port) as near:
            self.assert_reset(near)
        self.assertFalse(self.tunnel.service.waits())
        self.tunnel.lie.unlink()
        self.tunnel.await_link()

    def other_provider(self) -> None:
        """A provider with another identity than the known one is refused by the visitor."""
        self.check(
            f"CreateSession.peer_fingerprint {NOBODY}",
            "visitor",
            "the identity of provider has changed",
        )

    def other_visitor(self) -> None:
        """A visitor with another identity than the known one is refused by the provider."""
        self.check(
            f"ConnectOffer.peer_fingerprint {NOBODY}",
            "provider",
            "the identity of visitor has changed",
        )

    def raw_to_visitor(self) -> None:
        """A service that was a link before is not visited in raw mode."""
        self.check("CreateSession.mode raw", "visitor", "raw mode|unencrypted")

    def raw_to_provider(self) -> None:
        """A link service is not offered in raw mode, whatever the server says."""
        self.check("ConnectOffer.mode raw", "provider", "offers it in mode raw, it is link")

    def other_service(self) -> None:
        """A session for another service than the one asked for is refused."""
        self.check("CreateSession.service other", "visitor", "granted another service")

    def other_client(self) -> None:
        """A session with another client than the one asked for is refused."""
        self.check("CreateSession.peer_client_id other", "visitor", "granted another service")
