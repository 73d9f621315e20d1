"""
Outgoing connections, as bare sockets.

A literal address is dialled directly.  A name goes through Twisted's L{HostnameEndpoint} (every
address, IPv6 and IPv4 side by side) the first time; the address that answered is remembered, and
forgotten as soon as it fails.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from functools import lru_cache
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import IStreamClientEndpoint, IWriteDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from .accept import prepare
from .oneway import WriteOnly
from .room import Room

#: Seconds for one connection to be made.
TIMEOUT = 10.0

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN}


class Dialer:
    """
    Makes connections, and remembers which address of a name answered.

    @ivar room: for them, and for what else there is in the process.
    """

    def __init__(self, reactor: IReactor, timeout: float = TIMEOUT) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self.room = Room()
        self._answered: dict[tuple[str, int], str] = {}

    def dial(self, host: str, port: int) -> Deferred[socket.socket]:
        """
        @return: fires with a connected socket, prepared as L{prepare} says.
        @raise twisted.internet.error.ConnectError: (its subclasses) if nobody answers; also
            C{DNSLookupError} and C{OSError}, in the Deferred.
        """
        if not self.room.for_legs():
            return fail(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        literal = host if is_literal(host) else self._answered.get((host, port))
        if literal is None:
            return self._dial_name(host, port)
        connecting = self._dial_literal(literal, port)
        if literal is not host:
            connecting.addErrback(self._retry_by_name, host, port)
        return connecting

    def _dial_literal(self, address: str, port: int) -> Deferred[socket.socket]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            return fail()
        try:
            prepare_dialled(sock, address)
            code = sock.connect_ex((address, port))
            if code in _IN_PROGRESS:
                # Over loopback the handshake is over by now: spare the reactor a turn.
                sock.getpeername()
                code = 0
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                sock.close()
                return fail(error)
            return _Connecting(self._reactor, sock, self._timeout).done
        if code:
            sock.close()
            return fail(_connect_error(code))
        return succeed(sock)

    def _dial_name(self, host: str, port: int) -> Deferred[socket.socket]:
        endpoint = HostnameEndpoint(self._reactor, host, port, timeout=self._timeout)

        def connected(protocol: _Detach) -> socket.socket:
            self._answered[host, port] = protocol.sock.getpeername()[0]
            return protocol.sock

        def failed(failure: Failure) -> Failure:
            if failure.check(ValueError):  # The endpoint's word, which repeats the name as it is.
                return Failure(DNSLookupError("that is no host name"))
            return failure

        return connect(endpoint, Factory.forProtocol(_Detach)).addCallbacks(connected, failed)

    def _retry_by_name(self, failure: Failure, host: str, port: int) -> Deferred[socket.socket]:
        self._answered.pop((host, port), None)
        if failure.check(CancelledError):
            return fail(failure)  # Whoever had asked does not want it any more.
        return self._dial_name(host, port)


@lru_cache(1024)
def connect(endpoint: IStreamClientEndpoint, factory: Factory[Any]) -> Deferred[Any]:
    """
    As C{endpoint.connect}; but if it is cancelled it says so as everything does, whatever it was
    about to do.
    """

    def cancel(done: Deferred[Any]) -> None:
        done.errback(CancelledError())
        connecting.cancel()

    def over(result: Any) -> None:
        if not done.called:
            done.callback(result)

    done: Deferred[Any] = Deferred(cancel)
    connecting = endpoint.connect(factory)
    connecting.addBoth(over)
    return done


def is_literal(host: str) -> bool:
    """Whether C{host} is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def prepare_dialled(sock: socket.socket, address: str) -> None:
    """As L{prepare}; but a peer on this machine cannot vanish unnoticed, so is not probed."""
    prepare(sock, probed=not (address.startswith("127.") or address == "::1"))


def _connect_error(code: int) -> ConnectError:
    return ConnectError(code, os.strerror(code))


@implementer(IWriteDescriptor)
class _Connecting(WriteOnly):
    """A C{connect(2)} under way."""

    def __init__(self, reactor: IReactor, sock: socket.socket, timeout: float) -> None:
        self.done: Deferred[socket.socket] = Deferred(lambda _: self._finish())
        self._reactor = reactor
        self._sock = sock
        self._timeout = reactor.callLater(timeout, self._finish, TimeoutError())
        reactor.addWriter(self)

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "dial"

    def doWrite(self) -> None:
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._finish(_connect_error(code))
            return
        try:
            self._sock.getpeername()
        except OSError:
            return  # Not yet: it was another socket's event.
        self._stop()
        self.done.callback(self._sock)

    def connectionLost(self, reason: Failure) -> None:
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._finish(_connect_error(code or errno.ECONNABORTED))

    def _finish(self, error: Exception | None = None) -> None:
        self._stop()
        self._sock.close()
        if error is not None:
            self.done.errback(error)

    def _stop(self) -> None:
        self._reactor.removeWriter(self)
        if self._timeout.active():
            self._timeout.cancel()


class _Detach(Protocol):
    """Takes the socket out of a Twisted connection that has just been made."""

    sock: socket.socket

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.stopReading()
        self.sock = transport.getHandle()
        prepare(self.sock)
