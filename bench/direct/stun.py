"""The STUN server that frp's xtcp needs: one that names its other address (RFC 5780, section 7.4).

relaytun's own reflector answers nobody with more than was asked, and frp asks with a bare header.

Run as a script: ``stun.py ADDRESS OTHER PORT`` answers on that port of both addresses; for each,
the other one is the other one, with the same port.
"""

from __future__ import annotations

import select
import socket
import struct
import sys

_COOKIE = 0x2112A442
_BINDING, _SUCCESS = 0x0001, 0x0101
_MAPPED, _XOR_MAPPED, _OTHER = 0x0001, 0x0020, 0x802C


def answer(question: bytes, source: tuple[str, int], other: tuple[str, int]) -> bytes | None:
    """The answer to a Binding request, or None to anything else."""
    if len(question) < 20:
        return None
    kind, _, cookie = struct.unpack_from(">HHI", question)
    if kind != _BINDING or cookie != _COOKIE:
        return None
    body = _attribute(_MAPPED, source) + _attribute(_XOR_MAPPED, source, _COOKIE)
    body += _attribute(_OTHER, other)
    return struct.pack(">HHI", _SUCCESS, len(body), cookie) + question[8:20] + body


def _attribute(kind: int, place: tuple[str, int], mask: int = 0) -> bytes:
    host, port = place
    (number,) = struct.unpack(">I", socket.inet_aton(host))
    return struct.pack(">HHBBHI", kind, 8, 0, 1, port ^ (mask >> 16), number ^ mask)


def main() -> None:
    """Answer until killed."""
    places = [(address, int(sys.argv[3])) for address in sys.argv[1:3]]
    others: dict[socket.socket, tuple[str, int]] = {}
    for place, other in zip(places, reversed(places), strict=True):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(place)
        others[sock] = other
    print("ready", flush=True)
    while True:
        for sock in select.select(list(others), [], [])[0]:
            question, source = sock.recvfrom(2048)
            said = answer(question, source, others[sock])
            if said is not None:
                sock.sendto(said, source)


if __name__ == "__main__":
    main()
