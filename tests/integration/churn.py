"""Streams that are opened and closed one after the other, in all the ways in which programs do."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from .processes import dialled, receive_exactly

_RESET = struct.pack("ii", 1, 0)


def _in_order(connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    check(receive_exactly(connection, len(sent) + 1), sent)


def _answered(connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)
    check(receive_exactly(connection, len(sent)), sent)


def _unanswered(connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)


def _reset(connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _silent(connection: socket.socket, sent: bytes) -> None:
    pass


#: What a program does before it closes; most are answered.
WAYS: list[Callable[[socket.socket, bytes], None]] = [
    *(_in_order, _answered, _in_order, _unanswered),
    *(_in_order, _answered, _reset, _silent),
]


def check(received: bytes, sent: bytes) -> None:
    """@raise AssertionError: if they differ."""
    if received != sent:
        raise AssertionError(f"sent {sent!r}, got {received!r}")


def open_and_close(port: int, count: int, threads: int = 4) -> None:
    """
    Open and close C{count} streams to an echo service.

    @raise BaseException: the first error that any of them had.
    """
    numbers = iter(range(count))
    lock = threading.Lock()
    errors: list[BaseException] = []

    def mine() -> Iterator[int]:
        while not errors:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            yield number

    def work() -> None:
        try:
            for number, way in zip(mine(), itertools.cycle(WAYS)):
                with dialled(port) as connection:
                    way(connection, b"stream %d" % number)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
