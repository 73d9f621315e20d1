"""The load: one process that drives one measure through one port.

Run as a script.  It warms up, prints a line, waits for a line, works, prints its numbers as one
line of JSON and holds its connections until the next line (or the end of its input), so that CPU
and memory can be read at exactly these points.  What it talks to is ``service.py``.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import select
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable

#: Small enough to stay in a second-level cache, large enough that system calls do not count.
_BLOCK = memoryview(bytes(256 << 10))
_STALL_SECONDS = 20.0
_MOST_ERRORS = 200
_WARM_UP_SECONDS = 1.0

Result = dict[str, float]


class StreamOpener:
    """Opens streams, `width` at a time, and waits for one byte to come back through each."""

    def __init__(self, port: int, width: int, *, keep: bool) -> None:
        self._address = ("127.0.0.1", port)
        self._width = width
        self._keep = keep
        self._epoll = select.epoll()
        self._pending: dict[int, socket.socket] = {}
        self.kept: list[socket.socket] = []
        self.opened = 0
        self.errors = 0

    def run(self, more: Callable[[], bool]) -> None:
        """Open streams for as long as `more` says so, then wait for those under way."""
        while True:
            while len(self._pending) < self._width and more():
                self._start()
            if not self._pending:
                return
            events = self._epoll.poll(_STALL_SECONDS)
            if not events:
                sys.exit(f"no stream opened for {_STALL_SECONDS:.0f} s, {self.opened} are open")
            for descriptor, event in events:
                self._advance(self._pending[descriptor], event)

    @property
    def under_way(self) -> int:
        """Streams that were begun and have not answered yet."""
        return len(self._pending)

    def _start(self) -> None:
        stream = socket.socket()
        stream.setblocking(False)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pending[stream.fileno()] = stream
        code = stream.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            self._fail(stream, code)
            return
        self._epoll.register(stream.fileno(), select.EPOLLIN)
        try:
            stream.send(b"E")
        except BlockingIOError:
            self._epoll.modify(stream.fileno(), select.EPOLLOUT)
        except OSError as error:
            self._fail(stream, error.errno or 0)

    def _advance(self, stream: socket.socket, event: int) -> None:
        try:
            if event & select.EPOLLOUT:
                stream.send(b"E")
                self._epoll.modify(stream.fileno(), select.EPOLLIN)
                return
            echoed = stream.recv(1)
        except OSError as error:
            self._fail(stream, error.errno or 0)
            return
        if not echoed:
            self._fail(stream, 0)
            return
        self.opened += 1
        del self._pending[stream.fileno()]
        if self._keep:
            self._epoll.unregister(stream.fileno())
            self.kept.append(stream)
        else:
            stream.close()

    def _fail(self, stream: socket.socket, code: int) -> None:
        self.errors += 1
        del self._pending[stream.fileno()]
        stream.close()
        if self.errors > _MOST_ERRORS:
            sys.exit(f"too many streams failed, the last with {errno.errorcode.get(code, 'EOF')}")


def connect(port: int) -> socket.socket:
    """One stream to `port`."""
    stream = socket.create_connection(("127.0.0.1", port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def send_all(stream: socket.socket, size: int) -> None:
    """Send `size` bytes to the sink and wait until it has them all."""
    stream.sendall(b"S" + struct.pack(">Q", size))
    left, send, block = size, stream.send, _BLOCK
    while left >= len(block):
        left -= send(block)
    while left:
        left -= send(block[:left])
    if stream.recv(1) != b"K":
        sys.exit("the sink did not confirm the transfer")


def throughput(options: argparse.Namespace) -> Result:
    """Seconds for `options.bytes` one way over one stream that has been warmed up."""
    stream = connect(options.port)
    send_all(stream, min(options.bytes, 64 << 20))
    handshake("ready")
    began = time.perf_counter()
    send_all(stream, options.bytes)
    return finish({"seconds": time.perf_counter() - began}, [stream])


def streams(options: argparse.Namespace) -> Result:
    """MB that arrive over `options.width` streams at once in `options.seconds`.

    What counts is what the sinks have, asked for on a connection of its own to the service: what
    was sent may still lie in a buffer on the way.  `least` is the share of the slowest stream in
    what the average one carries.
    """
    held = [connect(options.port) for _ in range(options.width)]
    epoll = select.epoll()
    for stream in held:
        stream.send(b"M")
        stream.setblocking(False)
        epoll.register(stream.fileno(), select.EPOLLOUT)
    by_descriptor = {stream.fileno(): stream for stream in held}

    def pump(seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for descriptor, _ in epoll.poll(0.1):
                by_descriptor[descriptor].send(_BLOCK)

    until = time.perf_counter() + _STALL_SECONDS
    while (there := len(sunk(options.service))) != len(held):
        if time.perf_counter() > until:
            sys.exit(f"only {there} of {len(held)} streams reached the service")
        time.sleep(0.05)
    pump(_WARM_UP_SECONDS)
    handshake("ready")
    began, before = time.perf_counter(), sunk(options.service)
    pump(options.seconds)
    after, ended = sunk(options.service), time.perf_counter()
    each = [new - old for new, old in zip(after, before, strict=True)]
    least = min(each) * len(each) / max(1, sum(each))
    return finish({"bytes": sum(each), "seconds": ended - began, "least": least}, held)


def sunk(service: int) -> list[int]:
    """What each sink of the service has received so far, in bytes."""
    with connect(service) as stream:
        stream.send(b"R")
        with stream.makefile("rb") as answer:
            data = answer.read()
    return list(struct.unpack(f">{len(data) // 8}Q", data))


def bulk(options: argparse.Namespace) -> Result:
    """One stream that is kept full until this process is killed."""
    stream = connect(options.port)
    stream.send(b"B")
    handshake("ready")
    while True:
        stream.send(_BLOCK)


def rtt(options: argparse.Namespace) -> Result:
    """Microseconds for one byte there and back: `options.count` times, `options.most` seconds."""
    stream = connect(options.port)
    stream.send(b"P")
    ping_pong(stream, 1000, options.most / 4)
    handshake("ready")
    times = ping_pong(stream, options.count, options.most)
    ordered = sorted(times)
    return finish(
        {
            "p50": ordered[len(ordered) // 2] / 1000,
            "p99": ordered[len(ordered) * 99 // 100] / 1000,
            "mean": sum(ordered) / len(ordered) / 1000,
            "count": len(ordered),
        },
        [stream],
    )


def ping_pong(stream: socket.socket, count: int, seconds: float) -> list[int]:
    """Nanoseconds of each round trip, `count` of them unless `seconds` are over before."""
    send, receive, clock = stream.send, stream.recv, time.perf_counter_ns
    times = array("q", bytes(8 * count))
    until = clock() + seconds * 1e9
    for index in range(count):
        began = clock()
        if began > until:
            return list(times[:index])
        send(b"x")
        if not receive(1):
            sys.exit("the stream ended")
        times[index] = clock() - began
    return list(times)


def sequential(options: argparse.Namespace) -> Result:
    """New streams for each second, one after the other: connect, one byte there and back, close."""
    address, clock, count = ("127.0.0.1", options.port), time.perf_counter, 0

    def one() -> None:
        stream = socket.socket()
        stream.connect(address)
        stream.send(b"E")
        if not stream.recv(1):
            sys.exit("a stream ended before it answered")
        stream.close()

    for _ in range(20):
        one()
    handshake("ready")
    began = clock()
    until = began + options.seconds
    while clock() < until:
        one()
        count += 1
    return finish({"count": count, "seconds": clock() - began}, [])


def parallel(options: argparse.Namespace) -> Result:
    """The same with `options.width` streams under way at any time."""
    opener = StreamOpener(options.port, options.width, keep=False)
    warm_until = time.perf_counter() + min(0.5, options.seconds / 4)
    opener.run(lambda: time.perf_counter() < warm_until)
    opener.opened = 0
    handshake("ready")
    began = time.perf_counter()
    until = began + options.seconds
    opener.run(lambda: time.perf_counter() < until)
    seconds = time.perf_counter() - began
    return finish({"count": opener.opened, "seconds": seconds, "errors": opener.errors}, [])


def idle(options: argparse.Namespace) -> Result:
    """Open `options.count` streams that each answered once, hold them, and see that they live."""
    handshake("ready")
    began = time.perf_counter()
    opener = StreamOpener(options.port, options.width, keep=True)
    opener.run(lambda: opener.opened + opener.under_way < options.count)
    seconds = time.perf_counter() - began
    handshake(json.dumps({"seconds": seconds, "errors": opener.errors}))
    for stream in opener.kept:
        stream.settimeout(_STALL_SECONDS)
        stream.send(b"E")
        if stream.recv(1) != b"E":
            sys.exit("an idle stream had died")
    return finish({"alive": len(opener.kept)}, opener.kept)


def handshake(line: str) -> None:
    """Say `line` and wait for an answer."""
    print(line, flush=True)
    if not sys.stdin.readline():
        sys.exit(0)


def finish(result: Result, held: list[socket.socket]) -> Result:
    """Report `result` and hold the streams until told to go."""
    handshake(json.dumps(result))
    for stream in held:
        stream.close()
    return result


MODES = {run.__name__: run for run in (throughput, streams, bulk, rtt, sequential, parallel, idle)}


def main() -> None:
    """Run the mode that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--service", type=int, help="the service's own port")
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--most", type=float, default=20.0, help="seconds of round trips")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--core", type=int, help="the core to stay on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    MODES[options.mode](options)


if __name__ == "__main__":
    main()
