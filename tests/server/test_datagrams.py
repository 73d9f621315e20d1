"""Tests for L{relaytun.server.datagrams}."""

from __future__ import annotations

import base64
import gc
import socket
from typing import Any

from hypothesis import given, settings, strategies as st
from twisted.application.service import Service
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.errors import UserError
from relaytun.plane.meter import Meter
from relaytun.plane.rates import Rate
from relaytun.server import datagrams
from relaytun.server.datagrams import COOKIE_SLOT, DatagramRelay
from relaytun.server.port import ListeningPort
from relaytun.wire import messages, stun
from relaytun.wire.datagram import (
    BIND_SIZE,
    HEADER,
    NO_COOKIE,
    Kind,
    decode_bind,
    encode_bind,
    split,
)
from relaytun.wire.preamble import Role

from ..plane.test_datagrams import taken_by_udp, udp as bound
from ..plane.test_splice import until
from .support import ANN, BOB, BrokerCase, udp

KEYS = {role: bytes([role]) * 32 for role in Role}
VISITOR = ("192.0.2.1", 1000)
PROVIDER = ("192.0.2.2", 2000)
STRANGER = ("203.0.113.9", 9)


class FakeSession:
    """What the relay needs of a session."""

    def __init__(self, limit: int = 0) -> None:
        self.channel_keys = KEYS
        self.exhausted = 0
        self.meter = Meter(limit, self._exhausted)
        self.live = True

    def welcomes(self, role: Role) -> bool:
        return self.live

    def _exhausted(self) -> None:
        self.exhausted += 1


class FakeSocket:
    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int, Any]] = []

    def send_run(self, run: memoryview, size: int, address: Any) -> int:
        self.sent.append((bytes(run), size, address))
        return -(-len(run) // size)


class FakeSessions(dict[int, Any]):
    def by_datagram(self, number: int) -> Any:
        return self.get(number)


def packet(data: bytes, session: int = 7) -> bytes:
    return HEADER.pack(session, len(data)) + data


class RelayTests(SynchronousTestCase):
    """The relay, without a socket."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = FakeSessions()
        self.session = self.sessions[7] = FakeSession()
        self.relay = DatagramRelay(self.clock, self.sessions, None)  # type: ignore[arg-type]
        self.socket = FakeSocket()
        self.relay._socket = self.socket  # type: ignore[assignment]
        self.counter = 0

    def says(self, data: bytes, address: Any, size: int = 0) -> list[tuple[bytes, int, Any]]:
        """@return: what the relay sends then."""
        self.socket.sent.clear()
        self.relay.received(memoryview(data), size or len(data), address)
        return list(self.socket.sent)

    def ask(
        self, role: Role, cookie: bytes = NO_COOKIE, counter: int | None = None, session: int = 7
    ) -> bytes:
        self.counter += 1
        return encode_bind(KEYS[role], session, role, Kind.ASK, counter or self.counter, cookie)

    def cookie(self, role: Role, address: Any) -> bytes:
        ((answer, _, to),) = self.says(self.ask(role), address)
        self.assertEqual(to, address)
        bind = decode_bind(answer)
        self.assertIs(bind.kind, Kind.COOKIE)
        self.assertTrue(bind.is_authentic(KEYS[role]))
        return bind.cookie

    def bind(self, role: Role, address: Any) -> None:
        cookie = self.cookie(role, address)
        ((answer, _, to),) = self.says(self.ask(role, cookie), address)
        self.assertEqual((decode_bind(answer).kind, to), (Kind.BOUND, address))
        self.assertEqual(decode_bind(answer).counter, self.counter)

    def bound(self) -> None:
        self.bind(Role.VISITOR, VISITOR)
        self.bind(Role.PROVIDER, PROVIDER)

    def test_forwards(self) -> None:
        """Between two bound addresses packets pass as they are, whole runs at a time, counted."""
        self.bound()
        run = packet(b"abc") * 3 + packet(b"x")
        self.assertEqual(self.says(run, VISITOR, 9), [(run, 9, PROVIDER)])
        self.assertEqual(self.says(packet(b"back"), PROVIDER), [(packet(b"back"), 10, VISITOR)])
        meter = self.session.meter
        self.assertEqual((meter.forward, meter.backward), (10, 4))

    def test_unbound(self) -> None:
        """Data from an address that is not bound, or for a side that is not there, is dropped."""
        self.assertEqual(self.says(packet(b"abc"), VISITOR), [])
        self.bind(Role.VISITOR, VISITOR)
        self.assertEqual(self.says(packet(b"abc"), VISITOR), [])
        self.bind(Role.PROVIDER, PROVIDER)
        self.assertEqual(self.says(packet(b"abc"), STRANGER), [])
        self.assertEqual(self.relay.dropped, 3)
        self.assertEqual(self.session.meter.total, 0)

    def test_another_session(self) -> None:
        """A bound address speaks for its own session only; a run is looked at packet by packet."""
        self.bound()
        self.sessions[8] = FakeSession()
        run = packet(b"abc") + packet(b"evil", 8)[:9] + packet(b"abc")
        good = (packet(b"abc"), 9, PROVIDER)
        self.assertEqual(self.says(run, VISITOR, 9), [good, good])
        self.assertEqual(self.says(packet(b"abc", 8), VISITOR), [])
        self.assertEqual(self.says(packet(b"abc", 9), VISITOR), [])

    def test_stun(self) -> None:
        """What may be STUN is handed on, also from the middle of a run; if nobody is there, not."""
        asked = stun.encode_request(bytes(12))
        self.assertEqual(self.says(asked, STRANGER), [])
        self.assertEqual(self.relay.dropped, 1)
        self.bound()
        self.relay.reflect = lambda packet, address: packet[:20].tobytes()
        answer = asked[:20], 20, STRANGER
        self.assertEqual(self.says(asked, STRANGER), [answer])
        same = packet(bytes(len(asked) - HEADER.size))
        size = len(asked)
        self.assertEqual(
            self.says(same + asked + same, VISITOR, size),
            [(same, size, PROVIDER), (asked[:20], 20, VISITOR), (same, size, PROVIDER)],
        )
        self.relay.reflect = lambda packet, address: None
        self.assertEqual(self.says(asked, STRANGER), [])

    def test_malformed(self) -> None:
        """What is no packet is dropped."""
        self.bound()
        for data in (b"", b"x", packet(b"abc")[:-1], packet(b"abc") + b"x"):
            self.assertEqual(self.says(data, VISITOR), [])
        bind = bytearray(self.ask(Role.VISITOR))
        bind[12] = 1
        self.assertEqual(self.says(bytes(bind), VISITOR), [])

    def test_bind_among_data(self) -> None:
        """A bind packet that came in one run with data is answered, and the data goes on."""
        self.bound()
        for data in (bytes(BIND_SIZE - HEADER.size), bytes(100)):
            run = packet(data) + packet(data) + self.ask(Role.VISITOR)
            sent = self.says(run, VISITOR, len(data) + HEADER.size)
            self.assertEqual([to for _, _, to in sent], [PROVIDER, PROVIDER, VISITOR])

    def test_no_answer(self) -> None:
        """Wrong tags, unknown sessions, replays and answers of its own are not answered."""
        wrong = bytearray(self.ask(Role.VISITOR))
        wrong[-1] ^= 1
        good = self.ask(Role.VISITOR)
        self.assertEqual(self.says(bytes(wrong), STRANGER), [])
        self.assertEqual(self.says(self.ask(Role.VISITOR, session=9), STRANGER), [])
        ((answer, _, _),) = self.says(good, VISITOR)
        self.assertEqual(self.says(good, STRANGER), [])
        self.assertEqual(self.says(good, VISITOR), [])
        self.assertEqual(self.says(self.ask(Role.VISITOR, counter=1), VISITOR), [])
        self.assertEqual(self.says(answer, VISITOR), [])
        other = encode_bind(KEYS[Role.PROVIDER], 7, Role.VISITOR, Kind.ASK, 100)
        self.assertEqual(self.says(other, VISITOR), [])

    def test_spoofed(self) -> None:
        """
        Somebody who has the key but not the address binds nothing there: the cookie does not come
        to him, and another address's does not serve.
        """
        self.bound()
        mine = self.cookie(Role.VISITOR, STRANGER)
        victim = ("198.51.100.1", 53)
        for cookie in (NO_COOKIE, mine, bytes(16)):
            ((answer, _, to),) = self.says(self.ask(Role.VISITOR, cookie), victim)
            self.assertEqual((decode_bind(answer).kind, to), (Kind.COOKIE, victim))
        self.assertEqual(self.says(packet(b"flood"), PROVIDER)[0][2], VISITOR)

    def test_cookies_are_of_one_side(self) -> None:
        """A cookie of one role or session is none of another."""
        cookie = self.cookie(Role.VISITOR, VISITOR)
        ((answer, _, _),) = self.says(self.ask(Role.PROVIDER, cookie), VISITOR)
        self.assertIs(decode_bind(answer).kind, Kind.COOKIE)

    def test_cookies_age(self) -> None:
        """A cookie is good for the time between two keep-alives, and not for ever."""
        cookie = self.cookie(Role.VISITOR, VISITOR)
        self.clock.advance(COOKIE_SLOT)
        ((answer, _, _),) = self.says(self.ask(Role.VISITOR, cookie), VISITOR)
        self.assertIs(decode_bind(answer).kind, Kind.BOUND)
        self.clock.advance(COOKIE_SLOT)
        ((answer, _, _),) = self.says(self.ask(Role.VISITOR, cookie), VISITOR)
        self.assertIs(decode_bind(answer).kind, Kind.COOKIE)

    def test_rebind(self) -> None:
        """A client whose address has changed moves there; its old address is nobody's."""
        self.bound()
        moved = ("192.0.2.77", 1)
        self.bind(Role.VISITOR, moved)
        self.assertEqual(self.says(packet(b"x"), PROVIDER)[0][2], moved)
        self.assertEqual(self.says(packet(b"x"), VISITOR), [])

    def test_rebind_without_control(self) -> None:
        """When no new legs are welcome, a side that is bound may still move; no new one comes."""
        self.bind(Role.VISITOR, VISITOR)
        self.session.live = False
        self.bind(Role.VISITOR, ("192.0.2.77", 1))
        self.assertEqual(self.says(self.ask(Role.PROVIDER), PROVIDER), [])

    def test_amplification(self) -> None:
        """No answer is larger than its question, and there are few, whatever the questions."""
        asked = answered = 0
        for step in range(300):
            question = self.ask(Role.VISITOR)
            asked += len(question)
            answers = self.says(question, ("198.51.100.1", step))
            answered += sum(len(run) for run, _, _ in answers)
            self.assertLessEqual(sum(len(run) for run, _, _ in answers), len(question))
            self.clock.advance(0.1)
        self.assertLessEqual(answered, (datagrams.ANSWERS_AT_ONCE + 30) * BIND_SIZE)

    @given(st.binary(max_size=120), st.integers(1, 130))
    @settings(max_examples=50)
    def test_strangers(self, data: bytes, size: int) -> None:
        """Whatever strangers send, nothing is sent and nothing is kept."""
        self.assertEqual(self.says(data, STRANGER, size), [])
        self.assertEqual(len(self.relay._ends), 0)

    def test_rate(self) -> None:
        """What exceeds a rate is dropped and costs it nothing; the other direction is free."""
        rate = Rate(self.clock, 1024)
        self.session.meter.forward_rates = (rate,)
        self.bound()
        rate.take(rate.level - 15)
        self.assertEqual(len(self.says(packet(bytes(10)), VISITOR)), 1)
        self.assertEqual(self.says(packet(bytes(10)), VISITOR), [])
        self.assertEqual((rate.level, self.relay.dropped), (5, 1))
        self.assertEqual(len(self.says(packet(bytes(10)), PROVIDER)), 1)
        self.clock.advance(0.01)
        self.assertEqual(len(self.says(packet(bytes(10)), VISITOR)), 1)
        self.assertEqual((self.session.meter.forward, self.session.meter.backward), (20, 10))

    def test_raised_limit(self) -> None:
        """A limit that is raised when it is reached lets pass what reached it."""
        self.session = self.sessions[7] = FakeSession(limit=10)
        self.session.meter.exhausted = lambda: setattr(self.session.meter, "limit", 20)
        self.bound()
        self.assertEqual(len(self.says(packet(bytes(15)), VISITOR)), 1)

    def test_byte_limit(self) -> None:
        """What would exceed the session's limit does not pass, and ends the session."""
        self.session = self.sessions[7] = FakeSession(limit=10)
        self.bound()
        self.assertEqual(len(self.says(packet(bytes(10)), VISITOR)), 1)
        self.assertEqual(self.session.exhausted, 0)
        self.assertEqual(self.says(packet(b"x"), PROVIDER), [])
        self.assertEqual(self.session.exhausted, 1)

    def test_forgotten(self) -> None:
        """With a session goes all that was kept of it."""
        self.bound()
        self.assertEqual(len(self.relay._ends), 1)
        self.sessions.clear()
        self.assertEqual(self.says(packet(b"x"), VISITOR), [])
        del self.session
        gc.collect()
        self.assertEqual(len(self.relay._ends), 0)


class GrantedTests(BrokerCase):
    """The relay, with sessions as signalling makes them."""

    def test_granted(self) -> None:
        """A udp session's number and keys, as its two clients are told them, are good here."""
        provider = self.client("b", udp("dns", mode="link"), identity=BOB)
        visitor = self.client("a", identity=ANN)
        session, offer = self.offered(visitor, provider, "dns", mode="link")
        relay = DatagramRelay(self.clock, self.broker.sessions, None)  # type: ignore[arg-type]
        fake = FakeSocket()
        relay._socket = fake  # type: ignore[assignment]

        def bind(role: Role, told: Any, address: Any) -> bool:
            key = base64.b64decode(told.channel_key)
            cookie = NO_COOKIE
            for _ in range(2):
                self.counter += 1
                asked = encode_bind(
                    key, told.datagram_session, role, Kind.ASK, self.counter, cookie
                )
                fake.sent.clear()
                relay.received(memoryview(asked), len(asked), address)
                if not fake.sent:
                    return False
                cookie = decode_bind(fake.sent[0][0]).cookie
            return decode_bind(fake.sent[0][0]).kind is Kind.BOUND

        self.counter = 0
        # The provider's first packet may overtake its word.
        self.assertTrue(bind(Role.PROVIDER, offer, PROVIDER))
        provider.says(messages.AcceptSession(session_id=offer.session_id))
        created = visitor.take(messages.CreateSession)
        self.assertTrue(bind(Role.VISITOR, created, VISITOR))
        fake.sent.clear()
        data = memoryview(packet(b"query", session.datagram_session or 0))
        relay.received(data, len(data), VISITOR)
        self.assertEqual(fake.sent, [(bytes(data), len(data), PROVIDER)])
        visitor.says(messages.CloseSession(session_id=session.id))
        self.assertFalse(bind(Role.VISITOR, created, VISITOR))
        del session
        gc.collect()
        self.assertEqual(len(relay._ends), 0)


class PortTests(TestCase):
    """The relay with its socket."""

    timeout = 20

    def port(self, number: int = 0, host: str = "127.0.0.1") -> tuple[ListeningPort, DatagramRelay]:
        tcp = ListeningPort(reactor, str(number), host, lambda sock, address: sock.close())  # type: ignore[arg-type]
        sessions = FakeSessions({7: FakeSession()})
        return tcp, DatagramRelay(reactor, sessions, tcp)  # type: ignore[arg-type]

    def start(self, *services: Service) -> None:
        for service in services:
            service.privilegedStartService()
            service.startService()
            self.addCleanup(service.stopService)

    def test_same_number(self) -> None:
        """It has the number of the TCP port, also when the kernel has chosen that."""
        tcp, relay = self.port()
        self.assertIsNone(relay.address)
        self.start(tcp, relay)
        self.assertEqual(relay.address, ("127.0.0.1", tcp.number))

    def test_busy(self) -> None:
        """A busy UDP port is an error of one line."""
        with taken_by_udp() as taken:
            tcp, relay = self.port(taken.getsockname()[1])
            self.start(tcp)
            error = self.assertRaises(UserError, relay.privilegedStartService)
        self.assertEqual(
            str(error),
            f"cannot listen on udp:{tcp.number}, which goes with the relay port: "
            "Address already in use",
        )
        relay.stopService()

    def test_any_number(self) -> None:
        """A number that the kernel chose, and that is busy for UDP, is given up for another."""
        tcp, relay = self.port()
        self.start(tcp)
        first = tcp.number
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", first))
            self.start(relay)
        self.assertNotEqual(tcp.number, first)
        with socket.create_connection(("127.0.0.1", tcp.number)):
            pass

    def test_no_number(self) -> None:
        """Beside a relay port without a number there are no datagrams."""
        _, relay = self.port()
        self.start(relay)
        self.assertIsNone(relay.address)

    async def test_end_to_end(self) -> None:
        """Two sockets bind and exchange batches."""
        tcp, relay = self.port()
        self.start(tcp, relay)
        sides: dict[Role, socket.socket] = {}
        for role in Role:
            sock = sides[role] = bound()
            self.addCleanup(sock.close)
            sock.connect(("127.0.0.1", tcp.number))
            cookie = NO_COOKIE
            for counter, kind in ((1, Kind.COOKIE), (2, Kind.BOUND)):
                sock.send(encode_bind(KEYS[role], 7, role, Kind.ASK, counter, cookie))
                answers: list[bytes] = []
                await until(lambda: self.take(sock, answers))  # noqa: B023
                bind = decode_bind(answers[0])
                self.assertIs(bind.kind, kind)
                cookie = bind.cookie
        sent = [packet(bytes([n]) * 1200) for n in range(150)]
        for each in sent:
            sides[Role.VISITOR].send(each)
        came: list[bytes] = []
        await until(lambda: self.take(sides[Role.PROVIDER], came) and len(came) == len(sent))
        self.assertEqual(came, sent)

    def take(self, sock: socket.socket, into: list[bytes]) -> bool:
        try:
            while True:
                data, marks, _, _ = sock.recvmsg(65536, 100)
                size = int.from_bytes(marks[0][2], "little") if marks else len(data)
                into += [bytes(each) for each in split(memoryview(data), size)]
        except BlockingIOError:
            return bool(into)
