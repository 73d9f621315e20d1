"""
A listening port of the server: its endpoint is Twisted's, its connections are taken by an
L{Acceptor}.

The control port hands them back to Twisted, for TLS and WebSockets; the relay port keeps them as
bare sockets.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from ..endpoints import server_endpoint
from ..errors import UserError
from ..interfaces import IReactor
from ..plane.accept import Acceptor, end_in_order
from ..plane.datagrams import prepare_datagrams
from .access import hand_on

#: Logins taken in one turn of the reactor; each costs about a millisecond until it is registered.
LOGINS_AT_ONCE = 16
#: Numbers that are tried for TCP and UDP together, if any will do.
MOST_MOVES = 20

_ANY_NUMBER = re.compile(r"tcp6?:(port=)?0(:|\Z)")


class ListeningPort(Service):
    """A port that can be had at once or not at all."""

    _listening: IListeningPort | None = None
    _acceptor: Acceptor | None = None

    def __init__(
        self,
        reactor: IReactor,
        description: str,
        host: str,
        accepted: Callable[[socket.socket, Any], None],
        **acceptor: Any,
    ) -> None:
        """
        @param description: a port number, or an endpoint description.
        @param host: the address to listen on, for a port number.
        @param accepted, acceptor: as for L{Acceptor}.
        @raise UserError: if the description is none.
        """
        self._reactor = reactor
        self._accepted = accepted
        self._options = acceptor
        try:
            self.description = server_endpoint(description, host)
            self._endpoint = serverFromString(reactor, self.description)
        except ValueError as error:
            raise UserError(f"cannot listen on {description}: {error}") from None

    @property
    def number(self) -> int:
        """The port number, 0 where there are none."""
        return getattr(self._listening.getHost(), "port", 0) if self._listening else 0

    @property
    def address(self) -> dict[str, Any]:
        """Where it listens; empty and 0 for what is no TCP port."""
        host = getattr(self._listening.getHost(), "host", "") if self._listening else ""
        return {"host": host, "port": self.number}

    def privilegedStartService(self) -> None:
        """@raise UserError: if the port cannot be had."""
        failures: list[Failure] = []
        factory = Factory[Any]()
        factory.noisy = False
        listening: Deferred[IListeningPort] = self._endpoint.listen(factory)
        listening.addCallbacks(self._listens, failures.append)
        if failures:  # Endpoints of this machine know at once.
            self._failed(failures[0].value)

    @property
    def is_listening(self) -> bool:
        """Whether connections are taken."""
        return self._acceptor is not None

    def close(self) -> None:
        """No new connections; those that there are go on."""
        self.stopService()

    def free(self) -> None:
        """Listen no more, so that the number can be had at once: Twisted takes a turn for it."""
        listening: Any = self._listening
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.socket.shutdown(socket.SHUT_RDWR)
        self.stopService()

    def move(self) -> bool:
        """
        Listen on another number, if the kernel chose this one.

        @return: whether it does; not if the number was asked for.
        """
        listening = self._listening
        if listening is None or not _ANY_NUMBER.match(self.description):
            return False
        if self._acceptor is not None:
            self._acceptor.stop()
        self.privilegedStartService()
        listening.stopListening()
        return True

    def stopService(self) -> Deferred[Any] | None:
        super().stopService()
        if self._acceptor is not None:
            self._acceptor.stop()
            self._acceptor = None
        if self._listening is None:
            return None
        listening, self._listening = self._listening, None
        stopped: Deferred[Any] | None = listening.stopListening()
        return stopped

    def _listens(self, listening: IListeningPort) -> None:
        self._listening = listening
        self._acceptor = Acceptor(self._reactor, listening, self._accepted, **self._options)

    def _failed(self, error: BaseException | None) -> None:
        why = error.socketError if isinstance(error, CannotListenError) else error
        why = getattr(why, "strerror", None) or why
        raise UserError(f"cannot listen on {self.description}: {why}")


def udp_beside(tcp: ListeningPort, name: str) -> socket.socket | None:
    """
    @param tcp: listens; where the kernel chose its number, it may get another one.
    @param name: what it is called.
    @return: a prepared UDP socket at the same host and number; C{None} if it has no number.
    @raise UserError: if it cannot be had.
    """
    for _ in range(MOST_MOVES):
        host, port = tcp.address["host"], tcp.number
        if not port:
            return None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            # A number that the kernel chose for TCP may be taken for UDP.
            if error.errno == errno.EADDRINUSE and tcp.move():
                continue
            raise UserError(
                f"cannot listen on udp:{port}, which goes with the {name}: {error.strerror}"
            ) from None
        prepare_datagrams(sock, whole=True)
        return sock
    raise UserError(f"no number is free for the {name}, in both TCP and UDP")


def hand_to_twisted(
    reactor: IReactor, factory: Factory[Any]
) -> Callable[[socket.socket, Any], None]:
    """
    @return: for an L{Acceptor}: makes each connection one of C{factory}'s protocols, which is told
        the address that came with it: not the transport's peer if that is a load balancer.
    """

    def accepted(sock: socket.socket, address: Any) -> None:
        end_in_order(sock)
        # Twisted has a duplicate.  It asks who the peer is, which fails if that has gone already.
        with sock, contextlib.suppress(OSError):
            transport: Any = reactor.adoptStreamConnection(  # type: ignore[func-returns-value]
                sock.fileno(),
                sock.family,
                _From(factory, address),  # type: ignore[arg-type]
            )
            hand_on(sock, transport.socket)  # Twisted forgets it when the connection is lost.

    return accepted


class _From:
    """A factory for the one connection from C{address}."""

    def __init__(self, factory: Factory[Any], address: Any) -> None:
        self._factory = factory
        self._address = address

    def buildProtocol(self, peer: IAddress) -> Any:
        address = self._address
        if isinstance(address, tuple):
            kind = IPv6Address if ":" in address[0] else IPv4Address
            peer = kind("TCP", *address[:2])
        return self._factory.buildProtocol(peer)
