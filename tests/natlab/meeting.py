"""
Two clients in a lab that are told each other's addresses, as the server would, and then meet.

Everything that blocks is in the constructors, which may run in a thread.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThread

from relaytun.nat.candidates import FIRST_HOPS, TIMEOUT
from relaytun.nat.classify import classify, next_places
from relaytun.nat.guessing import Hard, Policy
from relaytun.nat.path import IDLE, UdpPath
from relaytun.nat.punching import UdpPunch
from relaytun.nat.tcpopen import TcpOpen, share_port

from .lab import SERVER, SERVER_TOO, Lab

Address = tuple[str, int]

#: NATs that map each destination to another port.
HARD = {"symmetric", "symseq"}
#: Between two homes of the lab there are three routers: so many hops, and no more, get a packet
#: out of its own home.
LAB_HOPS = 2
_PEERS = {"a": "b", "b": "a"}


class UdpMeeting:
    """
    @ivar paths: what was found; closed by L{close}.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._hard = [host for host, kind in zip("ab", lab.types, strict=True) if kind in HARD]
        self._sockets = {host: lab.udp(host, "0.0.0.0") for host in "ab"}
        self._mapped: dict[str, Address] = {}
        self._predicted: dict[str, tuple[Address, ...]] = {}
        self._candidates: dict[str, list[Address]] = {}
        self.paths: list[UdpPath] = []
        self._punches: list[UdpPunch] = []
        with contextlib.ExitStack() as closing:
            servers = [
                closing.enter_context(lab.udp("s", address)) for address in (SERVER, SERVER_TOO)
            ]
            for host, sock in self._sockets.items():
                first, last = (_seen(sock, server) for server in servers)
                self._mapped[host] = last or (lab.address(host), 0)
                own = lab.address(host), sock.getsockname()[1]
                nat = classify(own, [place for place in (first, last) if place])
                self._predicted[host] = tuple(next_places(nat, self._mapped[host]))
                self._candidates[host] = [own, last] if last else [own]

    async def go(
        self,
        reactor: Any,
        policy: Policy = "no",
        hops: int = FIRST_HOPS,
        timeout: float = TIMEOUT,
        idle: float = IDLE,
    ) -> str:
        """
        @return: how the path was found: the better of the two words.
        @raise relaytun.nat.candidates.NoPath: if there is none.
        """
        meeting = []
        for host, peer in _PEERS.items():
            hard = None
            if len(self._hard) == 1:
                predicted = self._predicted[self._hard[0]]
                hard = Hard(self._hard == [host], self._mapped[peer], predicted, policy)
            punch = UdpPunch(
                reactor,
                self._sockets[host],
                bytes(32),
                bytes(16),
                host == "a",
                self._candidates[peer],
                hard=hard,
                timeout=timeout,
                first_hops=hops,
                idle=idle,
                make_socket=lambda host=host: self._lab.udp(host, "0.0.0.0"),  # type: ignore[misc]
            )
            self._punches.append(punch)
            meeting.append(punch.start())
        results = await DeferredList(meeting, consumeErrors=True)
        self.paths += [result for success, result in results if success]
        for success, result in results:
            if not success:
                result.raiseException()
        found = {path.found for path in self.paths}
        return next(w for w in ("birthday", "predicted", "reflexive", "candidate") if w in found)

    def close(self) -> None:
        for punch in self._punches:
            punch.stop()
        for path in self.paths:
            path.close()
        for sock in self._sockets.values():
            sock.close()


class TcpMeeting:
    """The same by TCP: the mapping is that of a connection to the server."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._kept: list[socket.socket] = []
        self._own: dict[str, Address] = {}
        self._candidates: dict[str, list[Address]] = {}
        listening = lab.listen("s", SERVER)
        self._kept.append(listening)
        for host in "ab":
            sock = lab.open_socket(host)
            share_port(sock)
            sock.bind(("0.0.0.0", 0))
            sock.connect(listening.getsockname())
            accepted, mapped = listening.accept()
            self._kept += [sock, accepted]
            self._own[host] = "0.0.0.0", sock.getsockname()[1]
            self._candidates[host] = [sock.getsockname(), mapped]

    async def go(self, reactor: Any, timeout: float = TIMEOUT, skew: float = 0) -> Address:
        """
        @param skew: seconds by which b starts later.
        @return: the address of b that a is connected to, over which a byte went.
        @raise relaytun.nat.candidates.NoPath: if there is none.
        """
        received: Deferred[socket.socket] = Deferred()
        connected: dict[str, list[socket.socket]] = {"a": [], "b": []}

        def from_b(sock: socket.socket) -> None:
            connected["b"].append(sock)
            sock.send(b"%d" % len(connected["b"]))

        def to_a(sock: socket.socket) -> None:
            connected["a"].append(sock)
            sock.settimeout(30)
            deferToThread(sock.recv, 1).addCallbacks(came, lambda _: None, [sock])

        def came(data: bytes, sock: socket.socket) -> None:
            if data and not received.called:
                received.callback(sock)

        def failed(failure: Any) -> None:
            if not received.called:
                received.errback(failure)

        handlers: dict[str, Callable[[socket.socket], None]] = {"a": to_a, "b": from_b}
        openings = {
            host: TcpOpen(
                reactor,
                self._own[host],
                self._candidates[peer],
                handlers[host],
                timeout=timeout,
                make_socket=lambda family, host=host: self._lab.open_socket(host),  # type: ignore[misc]
            )
            for host, peer in _PEERS.items()
        }
        openings["a"].start().addErrback(failed)
        later = reactor.callLater(skew, lambda: openings["b"].start().addErrback(failed))
        try:
            return (await received).getpeername()  # type: ignore[no-any-return]
        finally:
            if later.active():
                later.cancel()
            for opening in openings.values():
                opening.stop()
            self._kept += connected["a"] + connected["b"]

    def close(self) -> None:
        for sock in self._kept:
            sock.close()


def _seen(sock: socket.socket, server: socket.socket) -> Address | None:
    """A client's address in the eyes of the server; nothing if UDP does not pass."""
    usual = sock.gettimeout()
    for each in (sock, server):
        each.settimeout(0.5)
    try:
        sock.sendto(b"?", server.getsockname())
        _, address = server.recvfrom(9)
        server.sendto(b"!", address)
        sock.recv(9)
    except TimeoutError:
        return None
    finally:
        sock.settimeout(usual)
    return address[0], address[1]
