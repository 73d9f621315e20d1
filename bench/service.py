"""The service at the far end of every subject: an echo and several sinks on one port.

Run as a script in its own process; prints its port.  The first byte of a connection says what it
is:

- ``S`` and eight bytes of length: a sink, answered with one byte once all has arrived;
- ``P``: a ping-pong partner;
- ``M``: one of many sinks, which goes on until its end;
- ``B``: the same beside a ping-pong: a sink with a thread of its own;
- ``R``: the report: eight bytes, big-endian, for each living ``M`` and ``B``: the bytes it has;
- anything else: an echo, of which there may be thousands.

A sink receives with MSG_TRUNC, so that the kernel drops the bytes instead of copying them: on a
machine with two cores the load must stay cheaper than what it measures.  ``S`` and ``P`` are
served one at a time, blocking, for the same reason.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading

_CHUNK = 4 << 20


class Service:
    """An epoll loop over one listener and its connections."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(4096)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._connections: dict[int, socket.socket] = {}
        self._discarded = bytearray(_CHUNK)
        self._sunk: dict[int, int] = {}

    @property
    def port(self) -> int:
        """The port that the kernel chose."""
        port: int = self._listener.getsockname()[1]
        return port

    def run(self) -> None:
        """Serve until the process is killed."""
        listening = self._listener.fileno()
        self._epoll.register(listening, select.EPOLLIN)
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor == listening:
                    self._accept()
                    continue
                connection = self._connections[descriptor]
                try:
                    alive = self._serve(connection)
                except OSError:
                    alive = False
                if not alive:
                    self._forget(connection)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = connection.fileno()
        self._connections[descriptor] = connection
        self._epoll.register(descriptor, select.EPOLLIN)

    def _serve(self, connection: socket.socket) -> bool:
        """Answer what has come; False when the connection is over."""
        descriptor = connection.fileno()
        if descriptor in self._sunk:
            return self._drop(connection)
        data = connection.recv(1)
        if data == b"S":
            return self._sink(connection)
        if data == b"P":
            _ping_pong(connection)
            return False
        if data == b"R":
            connection.sendall(struct.pack(f">{len(self._sunk)}Q", *self._sunk.values()))
            return False
        if data in (b"M", b"B"):
            self._sunk[descriptor] = 0
            if data == b"B":
                self._epoll.unregister(descriptor)
                threading.Thread(target=self._drain, args=[connection], daemon=True).start()
        elif data:
            connection.send(data)
        return bool(data)

    def _drop(self, connection: socket.socket) -> bool:
        got = connection.recv_into(self._discarded, _CHUNK, socket.MSG_TRUNC)
        self._sunk[connection.fileno()] += got
        return got > 0

    def _drain(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self._drop(connection):
                pass
        self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        self._sunk.pop(connection.fileno(), None)
        del self._connections[connection.fileno()]
        connection.close()

    def _sink(self, connection: socket.socket) -> bool:
        (left,) = struct.unpack(">Q", connection.recv(8, socket.MSG_WAITALL))
        receive, buffer, drop = connection.recv_into, self._discarded, socket.MSG_TRUNC
        while left:
            got = receive(buffer, min(left, _CHUNK), drop)
            if not got:
                return False
            left -= got
        connection.send(b"K")
        return True


def _ping_pong(connection: socket.socket) -> None:
    receive, send = connection.recv, connection.send
    while byte := receive(1):
        send(byte)


if __name__ == "__main__":
    service = Service()
    print(service.port, flush=True)
    service.run()
