"""
A relay that lies, for tests: it stands where the clients look for the relay port.

It passes legs on to the real relay, and does to the bytes between the clients what its deed says.
The real server is told to name another loopback address as its own (C{public_host}), and this
listens there, at the same port number.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from relaytun.link.handshake import PROTOCOL
from relaytun.link.identity import Identity

from .links import Tunnel
from .processes import Process

ADDRESS = "127.0.0.2"
_PREAMBLE = 64
_VISITOR = 1


class Cut(Exception):
    """
    The channel is to end here.

    @ivar last: bytes that go out before.
    """

    def __init__(self, last: bytes = b"") -> None:
        super().__init__()
        self.last = last


class Leg:
    """
    One leg of a client's, and the relay's end of it.

    @ivar visitor: whether it is the visitor's.
    @ivar session: the session's id.
    @ivar seen: bytes so far between the clients, from this client and to it.
    """

    def __init__(self, client: socket.socket, preamble: bytes) -> None:
        self.client = client
        self.preamble = preamble
        self.visitor = preamble[4] == _VISITOR
        self.session = preamble[8:24]
        self.relay: socket.socket | None = None
        self.seen = [0, 0]

    def close(self) -> None:
        """Both sides of it."""
        for each in (self.client, self.relay):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)  # Closing alone does not wake a reader.
                each.close()


#: What is done to bytes: the leg, whether they go to the client, where they begin, and they.
Deed = Callable[[Leg, bool, int, bytes], bytes]


def at(place: int, act: Callable[[bytes, int], bytes]) -> Deed:
    """Do C{act} to the part that holds the byte number C{place}, once in each leg and direction."""

    def deed(leg: Leg, down: bool, start: int, data: bytes) -> bytes:
        if start <= place < start + len(data):
            return act(data, place - start)
        return data

    return deed


def flip(data: bytes, where: int) -> bytes:
    """One bit is another."""
    return data[:where] + bytes([data[where] ^ 0x10]) + data[where + 1 :]


def drop(data: bytes, where: int) -> bytes:
    """A few bytes are missing."""
    return data[:where] + data[where + 40 :]


def repeat(data: bytes, where: int) -> bytes:
    """Bytes come twice."""
    return data + data[where:]


def insert(data: bytes, where: int) -> bytes:
    """Bytes of its own, that look like a TLS record."""
    return data[:where] + b"\x17\x03\x03\x00\x20" + bytes(32) + data[where:]


def swap(data: bytes, where: int) -> bytes:
    """What follows comes first."""
    return data[where:] + data[:where]


def end(data: bytes, where: int) -> bytes:
    """An end in order, in the middle: a forged end."""
    raise Cut(data[:where])


class EvilRelay:
    """
    @ivar deed: what is done from now on; L{None}: nothing, it is honest.
    @ivar deeds: how many parts were tampered with.
    @ivar takes: gets a leg instead of the real relay, and returns whether it has taken it.
    """

    def __init__(self, port: int) -> None:
        self.deed: Deed | None = None
        self.deeds = 0
        self.takes: Callable[[Leg], bool] = lambda leg: False
        self._port = port
        self._legs: list[Leg] = []
        self._listening = socket.create_server((ADDRESS, port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Everything."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Break every channel that there is, in a row."""
        legs, self._legs = self._legs, []
        for leg in legs:
            leg.close()

    def honest(self) -> None:
        """Do nothing evil any more."""
        self.deed = None
        self.takes = lambda leg: False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            preamble = client.recv(_PREAMBLE, socket.MSG_WAITALL)
            if len(preamble) < _PREAMBLE:
                client.close()
                return
            leg = Leg(client, preamble)
            self._legs.append(leg)
            if self.takes(leg):
                return
            leg.relay = socket.create_connection(("127.0.0.1", self._port))
            leg.relay.sendall(preamble)
            threading.Thread(target=self._pass_on, args=(leg, True), daemon=True).start()
            self._pass_on(leg, False)

    def _pass_on(self, leg: Leg, down: bool) -> None:
        assert leg.relay is not None
        source, sink = (leg.relay, leg.client) if down else (leg.client, leg.relay)
        with contextlib.suppress(OSError):
            if down:  # The verdict.
                sink.sendall(source.recv(1))
            while data := source.recv(65536):
                start = leg.seen[down]
                leg.seen[down] += len(data)
                deed = self.deed
                if deed is not None and leg.visitor:
                    try:
                        changed = deed(leg, down, start, data)
                    except Cut as cut:
                        self.deeds += 1
                        sink.sendall(cut.last)
                        break
                    self.deeds += changed != data
                    data = changed
                sink.sendall(data)
        leg.close()


class EvilTunnel(Tunnel):
    """
    A tunnel through an L{EvilRelay}.

    @ivar relay: that one.
    """

    def __init__(self, client: str = "") -> None:
        super().__init__(client, server=f"public_host = {ADDRESS}")

    def run_server(self) -> Process:
        if not hasattr(self, "relay"):
            self.relay = EvilRelay(self.ports[1])
            self.kept.callback(self.relay.close)
        return super().run_server()

    def config(self, client_id: str, sections: str, client: str = "") -> Path:
        """The control port is where it is: only legs come by here."""
        path = super().config(client_id, sections, client)
        lines = path.read_text().splitlines()
        lines[1] = f"invite = {self.invite.replace(ADDRESS, '127.0.0.1')}"
        path.write_text("\n".join(lines))
        return path


class Impostor:
    """Somebody with an identity of its own, for TLS in the middle."""

    def __init__(self, folder: Path) -> None:
        self.identity = Identity.make("impostor")
        path = folder / "impostor.pem"
        path.write_bytes(self.identity.to_pem())
        self._contexts = {}
        for side in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
            context = ssl.SSLContext(side)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.load_cert_chain(path)
            context.set_alpn_protocols([PROTOCOL.decode()])
            self._contexts[side] = context

    def answer(self, leg: Leg) -> ssl.SSLSocket:
        """
        Tell the client that its partner is there, and be that.

        @raise OSError: if the client does not want this partner; ssl.SSLError is one.
        """
        leg.client.sendall(b"+")
        side = ssl.PROTOCOL_TLS_SERVER if leg.visitor else ssl.PROTOCOL_TLS_CLIENT
        return self._contexts[side].wrap_socket(leg.client, server_side=leg.visitor)
