"""What is measured: throughput of what is started, and how soon a direct path is there."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

from tests.natlab.daemons import Daemons

from ..processes import RunFailed
from .subjects import AUTO, OFF, Place, Running

Row = dict[str, float]

_LONGEST_RUN = 60.0
_DIRECT = ("lan", "tcp-direct", "quic")
#: Streams one after the other, over a link that is there already.
_LATER = 4


def throughput(running: Running, mib: int) -> Row:
    """One stream, one way: MB/s (10^6 bytes), and CPU seconds for each GiB (2^30 bytes)."""
    size = mib << 20
    running.check()
    with running.start_load(size) as load:
        load.hear(_LONGEST_RUN)
        before = running.cpu(load)
        load.tell()
        seconds = json.loads(load.hear(_LONGEST_RUN))["seconds"]
        after = running.cpu(load)
    running.check()
    row = {f"cpu_{role}": (after[role] - before[role]) * 2**30 / size for role in before}
    clients = [row[f"cpu_{role}"] for role in ("provider", "visitor") if f"cpu_{role}" in row]
    return row | {
        "mb_s": size / 1e6 / seconds,
        "cpu_clients": sum(clients),
        "cpu_all": sum(row.values()),
    }


def openings(place: Place, count: int) -> Iterator[tuple[Row, Row]]:
    """
    How a visitor that has just started opens its first stream: with direct = auto, and without.

    Each row has seconds from a program's connection to its first byte back (C{first}), and the same
    for streams that follow (C{later}).  The first row has C{direct} too: seconds from the same
    connection until C{status} says that the path is direct.
    """
    auto = Daemons(place.lab, client=AUTO, port=place.port)
    place.kept.callback(auto.close)
    off = Daemons(place.lab, client=OFF, port=place.port)
    place.kept.callback(off.close)
    for number in range(count):
        rows: dict[Daemons, Row] = {}
        for daemons in (auto, off) if number % 2 == 0 else (off, auto):
            if number:
                daemons.restart_visitor()
            rows[daemons] = _opening(daemons, seek=daemons is auto)
        yield rows[auto], rows[off]


def _opening(daemons: Daemons, seek: bool) -> Row:
    row: Row = {}
    began = time.perf_counter()
    with daemons.dial() as stream:
        _echo(stream)
        row["first"] = time.perf_counter() - began
        if seek:
            daemons.await_path(_DIRECT.__contains__)
            row["direct"] = time.perf_counter() - began
        later = []
        for _ in range(_LATER):
            began = time.perf_counter()
            with daemons.dial() as another:
                _echo(another)
            later.append(time.perf_counter() - began)
    return row | {"later": sorted(later)[_LATER // 2]}


def _echo(stream: socket.socket) -> None:
    stream.sendall(b"E")
    if stream.recv(1) != b"E":
        raise RunFailed("a stream ended before it answered")
