"""
Small services for the tests to start as processes: C{python services.py echo|source|sink}.

C{echo} sends back what comes.  C{source} reads a count, eight bytes, and sends so many bytes of
L{content}.  C{sink} reads to the end, and answers with the SHA-256 of what came, 32 bytes.
All pass an end of stream on.  It imports nothing of relaytun.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import struct
import sys
import threading
from collections.abc import Iterator

#: An odd length, so that a gap or a repetition of any usual buffer size shows.
_BLOCK = random.Random(7).randbytes(1024 * 1024 - 3)
_COUNT = struct.Struct("!Q")


def content(count: int) -> Iterator[memoryview]:
    """The first C{count} bytes of what a source sends, in parts."""
    whole = memoryview(_BLOCK)
    while count > 0:
        yield whole[:count]
        count -= len(whole)


def digest(count: int) -> bytes:
    """Their SHA-256."""
    total = hashlib.sha256()
    for part in content(count):
        total.update(part)
    return total.digest()


def ask_source(connection: socket.socket, count: int) -> None:
    """Have a source send C{count} bytes."""
    connection.sendall(_COUNT.pack(count))


def take(connection: socket.socket, count: int) -> int:
    """Read C{count} bytes and throw them away; returns how many came."""
    room = memoryview(bytearray(1024 * 1024))
    taken = 0
    while taken < count:
        size = connection.recv_into(room[: count - taken])
        if not size:
            break
        taken += size
    return taken


def digest_of(connection: socket.socket) -> tuple[int, bytes]:
    """Read to the end; returns how many bytes came, and their SHA-256."""
    total = hashlib.sha256()
    room = memoryview(bytearray(1024 * 1024))
    count = 0
    while size := connection.recv_into(room):
        total.update(room[:size])
        count += size
    return count, total.digest()


def _source(connection: socket.socket) -> None:
    asked = connection.recv(_COUNT.size, socket.MSG_WAITALL)
    if len(asked) == _COUNT.size:
        for part in content(_COUNT.unpack(asked)[0]):
            connection.sendall(part)


def _sink(connection: socket.socket) -> None:
    connection.sendall(digest_of(connection)[1])


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        pass
    finally:
        writer.close()


def _serve_threads(kind: str) -> None:
    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                (_source if kind == "source" else _sink)(connection)
                connection.shutdown(socket.SHUT_WR)
                take(connection, sys.maxsize)
            except OSError:
                pass  # Its user went away.

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        print("listening on", listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


async def _serve_echo() -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0, backlog=1024)
    print("listening on", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        asyncio.run(_serve_echo())
    else:
        _serve_threads(sys.argv[1])
