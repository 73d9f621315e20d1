"""Whatever visitors send, services get good requests only."""

from __future__ import annotations

import random

import h11

from .support import GET, OK, HttpTestCase, Peer
from .test_smuggling import BODIES, HEADS, NEXT, chunked, post

GOOD = [
    GET,
    chunked(b"5;x\r\nhello\r\n0\r\nA: b\r\n\r\n"),
    post(b"Content-Length: 5\r\n", b"hello"),
    post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc"),
    GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    NEXT,
]
#: What mutations put in.
PARTS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b":", b"0\r\n\r\n", b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"\x0b", b",", b"\x80", b"/", b"Host: b.example\r\n", b"5",
]  # fmt: skip


class FuzzTests(HttpTestCase):
    def mutated(self, chosen: random.Random) -> bytes:
        corpus = [*HEADS.values(), *BODIES.values(), *GOOD * 10]
        data = bytearray(b"".join(chosen.choice(corpus) for _ in range(chosen.randint(1, 3))))
        for _ in range(chosen.randint(0, 3)):
            position = chosen.randrange(len(data))
            data[position : position + chosen.randint(0, 3)] = chosen.choice(PARTS)
        return bytes(data)

    def read_by_h11(self, got: bytes) -> list[tuple[bytes, bytes, bool]]:
        """Method, target and completeness of each request; fails if there is anything else."""
        requests: list[tuple[bytes, bytes, bool]] = []
        while got:
            connection = h11.Connection(h11.SERVER)
            connection.receive_data(got)
            request = connection.next_event()
            assert isinstance(request, h11.Request), (request, got)
            names = [name for name, _ in request.headers]
            for name in (b"host", b"x-forwarded-for", b"x-forwarded-proto"):
                self.assertEqual(names.count(name), 1, got)
            self.assertEqual(dict(request.headers)[b"x-forwarded-for"], b"192.0.2.7")
            complete = False
            while True:
                event = connection.next_event()
                if isinstance(event, h11.EndOfMessage):
                    complete = True
                    break
                if not isinstance(event, h11.Data):
                    break
            requests.append((request.method, request.target, complete))
            got = connection.trailing_data[0] if complete else b""
        return requests

    def test_mutations(self) -> None:
        """
        What arrives at a service is complete requests, each with the server's own fields, or one
        that is seen to be broken; visitors get well-formed answers.
        """
        self.route("*")
        chosen = random.Random(7)
        answered = 0
        for _ in range(1500):
            data = self.mutated(chosen)
            visitor = self.visit()
            cut = chosen.randrange(len(data) + 1)
            first = len(self.opened)
            try:
                for part in (data[:cut], data[cut:]):
                    visitor.send(part)
                    answered += self.answer(self.opened)
            except OSError:
                pass  # Refused before its end.
            visitor.settle()
            visitor.close()
            self.settle()
            for service in self.opened:
                for _, _, complete in self.read_by_h11(service.got)[-1:]:
                    self.assertTrue(complete or service.broken or service.ended, service.got)
                service.got = b""
            del self.opened[: first - 40]
        self.assertGreater(answered, 300)

    def settle(self) -> None:
        """Go round until nothing happens any more, to any service."""
        for _ in range(10000):
            if not (self.reactor.turn() | any([service.read() for service in self.opened])):
                return
        self.fail("it never comes to rest")

    def answer(self, services: list[Peer]) -> int:
        """Answer all that is complete; returns how many."""
        count = 0
        self.settle()
        for service in services:
            if service.ended or not service.got:
                continue
            if self.read_by_h11(service.got)[-1][2]:
                service.got = b""
                count += 1
                try:
                    service.send(OK)
                except OSError:
                    service.ended = True
                self.settle()
        return count
