"""The load for UDP: a sink and a source of datagrams, each in a process of its own.

``sink`` prints its port, then, for each line that it reads, how many datagrams of the source it has
received so far (an integer).  A datagram of one byte is sent back: that is how the bench learns
that the way is open.

``source PORT SIZE`` reads lines ``RATE SECONDS`` and sends at that rate; it answers each with a
line of JSON: how many datagrams it sent and in how many seconds.

Both pass many datagrams to the kernel in one system call, by ``sendmmsg`` and ``recvmmsg``, which
Python's socket module does not have.  So each costs a fraction of what it measures, and what
reaches the subject are plain datagrams, one by one: no segmentation offload.  A source that the
scheduler kept waiting does not make up for it: at most `_DEPTH` datagrams leave at once, which fit
the socket buffer that a program has by default.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import select
import socket
import sys
import time

_BURST = 32
_DEPTH = 64
_PAUSE_SECONDS = 0.0001
_LARGEST = 2048
_SO_RCVBUFFORCE = 33
_SINK_BUFFER = 32 << 20

_LIBC = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``: a header, and the length that the kernel fills in."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


class Burst:
    """`_BURST` buffers of `size` bytes and what the kernel has to know of them."""

    def __init__(self, size: int) -> None:
        self._buffers = ctypes.create_string_buffer(_BURST * size)
        start = ctypes.addressof(self._buffers)
        self._vectors = (_Vector * _BURST)()
        self._messages = (_Message * _BURST)()
        for index in range(_BURST):
            self._vectors[index] = _Vector(start + index * size, size)
            header = self._messages[index].header
            header.vectors = ctypes.pointer(self._vectors[index])
            header.vector_count = 1

    def send(self, descriptor: int, count: int) -> int:
        """Send the first `count` buffers; how many the kernel took."""
        return self._call(_LIBC.sendmmsg, descriptor, count, 0)

    def receive(self, descriptor: int) -> list[int]:
        """The length of each datagram that was there."""
        count = self._call(_LIBC.recvmmsg, descriptor, _BURST, socket.MSG_DONTWAIT, None)
        return [self._messages[index].length for index in range(count)]

    def _call(self, function: ctypes._CFuncPtr, descriptor: int, count: int, *rest: object) -> int:
        done: int = function(descriptor, self._messages, count, *rest)
        if done >= 0:
            return done
        code = ctypes.get_errno()
        if code in (errno.EAGAIN, errno.EWOULDBLOCK):
            return 0
        raise OSError(code, os.strerror(code))


def sink() -> None:
    """Count datagrams until the end of stdin."""
    listener = socket.socket(type=socket.SOCK_DGRAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _SINK_BUFFER)
    except PermissionError:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SINK_BUFFER)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    poll, burst, received = select.poll(), Burst(_LARGEST), 0
    poll.register(listener, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == sys.stdin.fileno():
                if not os.read(descriptor, 1):
                    return
                print(received, flush=True)
                continue
            data, address = listener.recvfrom(_LARGEST, socket.MSG_PEEK)
            if len(data) == 1:
                listener.recv(1)
                listener.sendto(data, address)
                continue
            while lengths := burst.receive(descriptor):
                received += sum(length > 1 for length in lengths)
                if len(lengths) < _BURST:
                    break


def source(port: int, size: int) -> None:
    """Send as told, one line after the other."""
    sender = socket.socket(type=socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", port))
    burst, clock = Burst(size), time.perf_counter
    _open_way(sender)
    print("ready", flush=True)
    for line in sys.stdin:
        rate, seconds = map(float, line.split())
        began = looked = clock()
        sent, due = 0, 0.0
        while (now := clock()) < began + seconds:
            due = min(due + (now - looked) * rate, _DEPTH)
            looked = now
            if due >= 1:
                done = burst.send(sender.fileno(), min(int(due), _BURST))
                sent, due = sent + done, due - done
            if due < _BURST:
                time.sleep(_PAUSE_SECONDS)
        print(json.dumps({"sent": sent, "seconds": clock() - began}), flush=True)


def _open_way(sender: socket.socket) -> None:
    """Send one byte until one comes back: the first datagrams may go where nobody listens yet."""
    sender.settimeout(0.2)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            sender.send(b"E")
            if sender.recv(_LARGEST):
                return
        except OSError:
            time.sleep(0.05)
    sys.exit("no datagram came back")


def main() -> None:
    """Run the mode that the command line names."""
    parser = argparse.ArgumentParser()
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("sink")
    sending = modes.add_parser("source")
    sending.add_argument("port", type=int)
    sending.add_argument("size", type=int)
    options = parser.parse_args()
    if options.mode == "sink":
        sink()
    else:
        source(options.port, options.size)


if __name__ == "__main__":
    main()
