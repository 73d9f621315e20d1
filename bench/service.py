"""The service at the far end of every subject: an echo and a sink on one port.

Run as a script in its own process; prints its port.  The first byte of a connection says what it
is: ``S`` and eight bytes of length is a sink, answered with one byte once all has arrived; ``P``
is a ping-pong partner; anything else is an echo, of which there may be thousands.

The sink receives with MSG_TRUNC, so that the kernel drops the bytes instead of copying them: on a
machine with two cores the load must stay cheaper than what it measures.  Sink and ping-pong are
served one at a time, blocking, for the same reason.
"""

from __future__ import annotations

import select
import socket
import struct

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
                    del self._connections[descriptor]
                    connection.close()

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
        data = connection.recv(1)
        if data == b"S":
            return self._sink(connection)
        if data == b"P":
            _ping_pong(connection)
            return False
        if data:
            connection.send(data)
        return bool(data)

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
