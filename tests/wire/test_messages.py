"""Tests of L{relaytun.wire.messages}."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given, settings, strategies as st
from msgspec import UNSET, inspect
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import messages
from relaytun.wire.errors import WireError
from relaytun.wire.messages import FROM_CLIENT, FROM_SERVER, Code, Message

TABLES = (FROM_CLIENT, FROM_SERVER)
SESSION = "0123456789abcdef0123456789abcdef"
PRINT = "sha256:" + "0a" * 32


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Every value that a field of this type may have."""
    if isinstance(kind, inspect.StructType):
        return structs(kind.cls)
    if isinstance(kind, inspect.UnionType):
        return st.one_of(*map(values, kind.types))
    if isinstance(kind, inspect.VarTupleType):
        return st.lists(values(kind.item_type), max_size=3).map(tuple)
    if isinstance(kind, inspect.LiteralType):
        return st.sampled_from(kind.values)
    if isinstance(kind, inspect.StrType):
        if kind.pattern is not None:
            return matching(kind.pattern)
        return st.text(max_size=kind.max_length)
    if isinstance(kind, inspect.IntType):
        return st.integers(kind.ge, kind.le)
    if isinstance(kind, inspect.FloatType):
        return st.floats(kind.ge, kind.le, allow_nan=False, allow_infinity=False)
    if isinstance(kind, inspect.BoolType):
        return st.booleans()
    if isinstance(kind, inspect.TupleType):
        return st.tuples(*(values(each) for each in kind.item_types))
    assert isinstance(kind, inspect.NoneType), kind
    return st.none()


def matching(pattern: str) -> st.SearchStrategy[str]:
    """All that match; the digits of a hash are one draw rather than one each."""
    hexadecimal = re.fullmatch(r"\^([a-z0-9:]*)\[0-9a-f\]\{(\d+)\}\\Z", pattern)
    if hexadecimal is None:
        return st.from_regex(pattern)
    prefix, count = hexadecimal[1], int(hexadecimal[2])
    return st.text("0123456789abcdef", min_size=count, max_size=count).map(prefix.__add__)


@functools.cache
def structs(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Every value of a message or of a part of one, with and without what may be left out."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    required = {field.name: values(field.type) for field in described.fields if field.required}
    optional = {field.name: values(field.type) for field in described.fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: kind(**given))


every_message = st.sampled_from(TABLES).flatmap(
    lambda table: st.tuples(
        st.sampled_from(sorted(table)).flatmap(lambda name: structs(table[name])), st.just(table)
    )
)

#: What somebody may write in the place of anything.
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**26), 10**26),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.sampled_from(
        [
            12345678901234567890123456,
            -(2**63) - 1,
            2**64,
            1.5e308,
            -0.0,
            "\0",
            "\u202e\x1b[2J",
            "../../etc/passwd",
            "a" * 5000,
            SESSION,
            SESSION + "\n",
            "register",
        ]
    ),
)
junk = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each place in a JSON value, as its container and its key there."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, inner in pairs:
        yield value, key
        yield from places(inner)


class EveryMessageTests(SynchronousTestCase):
    """What holds for each message, those to come included."""

    @settings(max_examples=400)
    @given(every_message)
    def test_round_trip(self, sample: tuple[Message, dict[str, type[Message]]]) -> None:
        """A message is decoded to what was encoded, in value and in type."""
        message, table = sample
        data = messages.encode(message)
        read = messages.decode(data, table)
        self.assertEqual(read, message)
        self.assertIs(type(read), type(message))
        self.assertEqual(messages.encode(read), data)

    @settings(max_examples=200)
    @given(every_message)
    def test_envelope(self, sample: tuple[Message, dict[str, type[Message]]]) -> None:
        """On the wire there is UTF-8 JSON with type and payload, and nothing snake_case."""
        message, table = sample
        parsed = json.loads(messages.encode(message).decode("utf-8"))
        self.assertEqual(set(parsed), {"type", "payload"})
        self.assertIs(table[parsed["type"]], type(message))
        for container, key in places(parsed["payload"]):
            if isinstance(container, dict):
                self.assertNotIn("_", key)

    @settings(max_examples=300)
    @given(every_message, junk, st.randoms(use_true_random=False))
    def test_unknown_fields(
        self, sample: tuple[Message, dict[str, type[Message]]], value: Any, random: Any
    ) -> None:
        """Fields that a reader does not know change nothing, wherever they are."""
        message, table = sample
        parsed = json.loads(messages.encode(message))
        objects = [parsed] + [
            container[key] for container, key in places(parsed) if isinstance(container[key], dict)
        ]
        for unknown in ("fieldOfTomorrow", "session_id", "", "Type"):
            random.choice(objects)[unknown] = value
        self.assertEqual(messages.decode(json.dumps(parsed).encode(), table), message)

    @given(every_message, junk)
    def test_type_in_payload(
        self, sample: tuple[Message, dict[str, type[Message]]], value: Any
    ) -> None:
        """The type is that of the envelope, whatever the payload says about it."""
        message, table = sample
        parsed = json.loads(messages.encode(message))
        parsed["payload"]["type"] = value
        self.assertEqual(messages.decode(json.dumps(parsed).encode(), table), message)


class AnyBytesTests(SynchronousTestCase):
    """A stranger gets a message or a WireError out of the decoder, and no other exception."""

    def decodes_or_not(self, data: bytes) -> None:
        """Decode, and see that what comes out can be sent on."""
        for table in TABLES:
            try:
                message = messages.decode(data, table)
            except WireError as error:
                self.assertTrue(str(error).isprintable())
                self.assertLess(len(str(error)), 300)
            else:
                self.assertEqual(messages.decode(messages.encode(message), table), message)

    @settings(max_examples=300)
    @given(st.binary())
    @example(b"")
    @example(b"\xff\xfe{\0}\0")
    @example(b"\xef\xbb\xbf{}")
    @example(b"null")
    @example(b'"heartbeat"')
    @example(b'{"type":"heartbeat"')
    @example(b'{"type":"heartbeat"}garbage')
    @example(b'{"type":"heartbeat","payload":null}')
    @example(b'{"type":"heartbeat","payload":[]}')
    @example(b'{"type":["heartbeat"],"payload":{}}')
    @example(b'{"type":null}')
    @example(b'{"payload":{}}')
    def test_bytes(self, data: bytes) -> None:
        """Any bytes are a message or a WireError."""
        self.decodes_or_not(data)

    @settings(max_examples=300)
    @given(junk)
    def test_json(self, value: Any) -> None:
        """Any JSON is a message or a WireError."""
        self.decodes_or_not(json.dumps(value).encode())

    @settings(max_examples=300)
    @given(st.sampled_from(sorted({*FROM_CLIENT, *FROM_SERVER, "nonsense"})), junk)
    def test_payload(self, name: str, value: Any) -> None:
        """Any payload is a message or a WireError."""
        self.decodes_or_not(json.dumps({"type": name, "payload": value}).encode())

    @settings(max_examples=400)
    @given(every_message, junk, st.randoms(use_true_random=False))
    def test_one_thing_wrong(
        self, sample: tuple[Message, dict[str, type[Message]]], value: Any, random: Any
    ) -> None:
        """A good message with something else in one place is a message or a WireError."""
        parsed = json.loads(messages.encode(sample[0]))
        container, key = random.choice(list(places(parsed)))
        container[key] = value
        self.decodes_or_not(json.dumps(parsed).encode())

    @settings(max_examples=300)
    @given(every_message, st.integers(0, 2000), st.binary(min_size=1, max_size=4))
    def test_damaged(
        self, sample: tuple[Message, dict[str, type[Message]]], place: int, damage: bytes
    ) -> None:
        """A good message with some bytes overwritten is a message or a WireError."""
        data = messages.encode(sample[0])
        place %= len(data)
        self.decodes_or_not(data[:place] + damage + data[place + len(damage) :])

    def test_hostile(self) -> None:
        """Numbers without end, depth without end and numbers that are none are WireErrors."""
        beat = '{"type":"heartbeat","payload":{"timestamp":%s}}'
        for number in (
            "12345678901234567890123456",
            "-12345678901234567890123456",
            "9" * 60000,
            "1e999",
            "-1e999",
            "1.7e308",
            "NaN",
            "Infinity",
            "-Infinity",
            "true",
            '"1"',
            "[1]",
            "0x10",
            "01",
            "+1",
            "1_000",
        ):
            for table in TABLES:
                self.assertRaises(WireError, messages.decode, (beat % number).encode(), table)
        for deep in (
            "[" * 60000,
            '{"a":' * 10000,
            "[" * 30000 + "]" * 30000,
            beat % ("[" * 30000 + "]" * 30000),
            '{"type":"heartbeat","payload":{"more":' + '{"a":' * 9000 + "1" + "}" * 9002,
        ):
            self.assertRaises(WireError, messages.decode, deep.encode(), FROM_CLIENT)

    def test_number_that_no_field_takes(self) -> None:
        """A huge number is refused in every field that takes a number, and ignored elsewhere."""
        huge = "12345678901234567890123456"
        for data in (
            '{"type":"register","payload":{"services":[{"id":"a","protocol":"tcp","localPort":%s}]}}',
            '{"type":"heartbeat","payload":{"timestamp":%s}}',
        ):
            self.assertRaises(WireError, messages.decode, (data % huge).encode(), FROM_CLIENT)
        for data in (
            '{"type":"open_channel","payload":{"sessionId":"' + SESSION + '","channel":%s}}',
            '{"type":"session_closed","payload":{"sessionId":"' + SESSION + '","reason":"happy",'
            '"bytesTransferred":%s}}',
        ):
            self.assertRaises(WireError, messages.decode, (data % huge).encode(), FROM_SERVER)
        ignored = '{"type":"unregister","payload":{"unknown":' + huge + "}}"
        self.assertEqual(messages.decode(ignored.encode(), FROM_CLIENT), messages.Unregister())

    def test_key_twice(self) -> None:
        """A key that stands twice in an object, at whatever depth, is a WireError."""
        for data in (
            '{"type":"unregister","type":"heartbeat"}',
            '{"type":"heartbeat","payload":{},"payload":{}}',
            '{"type":"heartbeat","payload":{"timestamp":1,"timestamp":2}}',
            '{"type":"heartbeat","payload":{"timestamp":1,"time\\u0073tamp":2}}',
            '{"type":"register","payload":{"services":[{"id":"a","id":"b","protocol":"tcp",'
            '"localPort":1}]}}',
            '{"type":"heartbeat","payload":{"unknown":[{"a":1,"a":1}]}}',
        ):
            error = self.assertRaises(WireError, messages.decode, data.encode(), FROM_CLIENT)
            self.assertEqual(str(error), "a key stands twice in the message")

    def test_surrogates(self) -> None:
        """Half a surrogate pair is a WireError in any place; a pair is one character."""
        for half in (r"\ud83d", r"\udc00", r"\udc00\ud83d", r"x\uD800y"):
            for data in (
                '{"type":"%s"}',
                '{"type":"unregister","payload":{"unknown":"%s"}}',
                '{"type":"unregister","payload":{"%s":1}}',
                '{"%s":1,"type":"unregister"}',
            ):
                text = (data % half).encode()
                self.assertRaises(WireError, messages.decode, text, FROM_CLIENT)
        pair = r'{"type":"reject_session","payload":{"sessionId":"%s","reason":"\ud83d\ude00"}}'
        self.assertEqual(
            messages.decode((pair % SESSION).encode(), FROM_CLIENT),
            messages.RejectSession(session_id=SESSION, reason="\U0001f600"),
        )

    def test_other_encodings(self) -> None:
        """Only UTF-8 is JSON here: UTF-16, UTF-32, Latin-1 and a byte order mark are WireErrors."""
        text = '{"type":"error","payload":{"code":"internal","message":"\u00e9"}}'
        messages.decode(text.encode("utf-8"), FROM_CLIENT)
        for encoding in ("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig"):
            self.assertRaises(WireError, messages.decode, text.encode(encoding), FROM_CLIENT)

    def test_says_nothing_of_theirs(self) -> None:
        """The text of a WireError says what is wrong, and quotes nothing that came in."""
        for data, saying in {
            '{"type":"sentinel"}': "unknown message type",
            '{"type":"register","payload":{"clientId":"sentinel!"}}': "clientId",
            '{"type":"register","payload":{"services":[{"id":"a","localPort":1,'
            '"protocol":"sentinel - at `$.x`"}]}}': "services[0].protocol",
            '{"type":"heartbeat","payload":{"timestamp":"sentinel"}}': "timestamp",
            '{"type":"accept_session","payload":{"sentinel":1}}': "sessionId",
            '{"sentinel":1,"sentinel":1}': "twice",
            '{"sentinel"': "not JSON",
            '"sentinel"': "object",
            '{"type":"heartbeat","payload":"sentinel"}': "payload",
        }.items():
            error = self.assertRaises(WireError, messages.decode, data.encode(), FROM_CLIENT)
            self.assertIn(saying, str(error))
            self.assertNotIn("sentinel", str(error))


class ContractTests(SynchronousTestCase):
    """The messages as the protocol's specification writes them, letter by letter."""

    def reads(self, table: dict[str, type[Message]], text: str, message: Message) -> None:
        """C{text} means C{message}."""
        self.assertEqual(messages.decode(text.encode(), table), message)

    def writes(self, message: Message, text: str) -> None:
        """C{message} is written as C{text}, whatever the order of the keys."""
        self.assertEqual(json.loads(messages.encode(message)), json.loads(text))

    def both(self, table: dict[str, type[Message]], text: str, message: Message) -> None:
        """C{text} and C{message} are the same."""
        self.reads(table, text, message)
        self.writes(message, text)

    def test_types(self) -> None:
        """These are all the messages there are, in each direction."""
        self.assertEqual(
            set(FROM_CLIENT),
            {
                "register",
                "update_services",
                "service_health",
                "get_client_list",
                "connect_request",
                "accept_session",
                "reject_session",
                "close_session",
                "offer",
                "answer",
                "heartbeat",
                "unregister",
                "error",
            },
        )
        self.assertEqual(
            set(FROM_SERVER),
            {
                "register_response",
                "client_list",
                "connect_request",
                "create_session",
                "open_channel",
                "exposed",
                "going_away",
                "offer",
                "answer",
                "go",
                "session_closed",
                "heartbeat",
                "error",
            },
        )

    def test_register(self) -> None:
        """A register has clientId and services; a service's description may be missing."""
        self.reads(
            FROM_CLIENT,
            """{"type": "register", "payload": {"clientId": "client-a", "services": [
                {"id": "web-server", "protocol": "http", "localPort": 8080,
                 "localHost": "localhost", "description": "my web page"},
                {"id": "dns", "protocol": "udp", "localPort": 53, "localHost": "127.0.0.1"}]}}""",
            messages.Register(
                client_id="client-a",
                services=(
                    messages.Service(
                        id="web-server",
                        protocol="http",
                        local_port=8080,
                        local_host="localhost",
                        description="my web page",
                    ),
                    messages.Service(
                        id="dns", protocol="udp", local_port=53, local_host="127.0.0.1"
                    ),
                ),
            ),
        )

    def test_register_everything(self) -> None:
        """Token, certificate, proof, transient are fields; a service has mode and compression."""
        self.both(
            FROM_CLIENT,
            """{"type": "register", "payload": {"clientId": "c", "services": [
                {"id": "s", "protocol": "ws", "localPort": 1, "localHost": "h",
                 "description": null, "mode": "link", "compression": "zstd"}],
                "token": "t", "certificate": "MA==", "proof": "MQ==", "transient": true}}""",
            messages.Register(
                client_id="c",
                services=(
                    messages.Service(
                        id="s",
                        protocol="ws",
                        local_port=1,
                        local_host="h",
                        mode="link",
                        compression="zstd",
                    ),
                ),
                token="t",
                certificate="MA==",
                proof="MQ==",
                transient=True,
            ),
        )

    def test_register_nothing(self) -> None:
        """A client may leave its name to the server, and offer nothing."""
        for text in ('{"type":"register"}', '{"type":"register","payload":{"clientId":""}}'):
            self.reads(FROM_CLIENT, text, messages.Register())
        register = messages.Register()
        self.assertEqual(
            (register.token, register.certificate, register.proof), (UNSET, UNSET, UNSET)
        )

    def test_from_client(self) -> None:
        """The other messages of a client are these."""
        for text, message in (
            ('{"type":"get_client_list","payload":{}}', messages.GetClientList()),
            (
                '{"type":"connect_request","payload":{"toClientId":"a","serviceId":"s"}}',
                messages.ConnectRequest(to_client_id="a", service_id="s"),
            ),
            (
                '{"type":"connect_request","payload":{"toClientId":"a","serviceId":"s",'
                '"requestId":"7"}}',
                messages.ConnectRequest(to_client_id="a", service_id="s", request_id="7"),
            ),
            (
                '{"type":"connect_request","payload":{"toClientId":"a","serviceId":"s",'
                '"mode":"link"}}',
                messages.ConnectRequest(to_client_id="a", service_id="s", mode="link"),
            ),
            (
                '{"type":"accept_session","payload":{"sessionId":"' + SESSION + '"}}',
                messages.AcceptSession(session_id=SESSION),
            ),
            (
                '{"type":"reject_session","payload":{"sessionId":"' + SESSION + '",'
                '"reason":"busy"}}',
                messages.RejectSession(session_id=SESSION, reason="busy"),
            ),
            (
                '{"type":"close_session","payload":{"sessionId":"' + SESSION + '"}}',
                messages.CloseSession(session_id=SESSION),
            ),
            ('{"type":"unregister","payload":{}}', messages.Unregister()),
            (
                '{"type":"error","payload":{"code":"internal","message":"m"}}',
                messages.Error(code="internal", message="m"),
            ),
        ):
            self.both(FROM_CLIENT, text, message)
        self.reads(
            FROM_CLIENT,
            '{"type":"reject_session","payload":{"sessionId":"' + SESSION + '"}}',
            messages.RejectSession(session_id=SESSION),
        )
        self.reads(FROM_CLIENT, '{"type":"get_client_list"}', messages.GetClientList())

    def test_heartbeat(self) -> None:
        """A heartbeat comes back as it was, a whole number whole and a fraction a fraction."""
        for number in ("0", "1700000000", "1700000000000", "1700000000.25", "-1", "0.5"):
            text = '{"type":"heartbeat","payload":{"timestamp":' + number + "}}"
            for table in TABLES:
                echo = messages.encode(messages.decode(text.encode(), table))
                self.assertEqual(echo.decode(), text)

    def test_register_response(self) -> None:
        """A register_response has success, and assignedId or error."""
        self.both(
            FROM_SERVER,
            '{"type":"register_response","payload":{"success":true,"assignedId":"client-a"}}',
            messages.RegisterResponse(success=True, assigned_id="client-a"),
        )
        self.both(
            FROM_SERVER,
            '{"type":"register_response","payload":{"success":true,"assignedId":"a","relay":'
            '{"host":"r","port":9001,"protocol":"tcp"},"heartbeatTimeout":45.0,"wsPath":"/w"}}',
            messages.RegisterResponse(
                success=True,
                assigned_id="a",
                relay=messages.RelayAddress(host="r", port=9001),
                heartbeat_timeout=45.0,
                ws_path="/w",
            ),
        )
        self.both(
            FROM_SERVER,
            '{"type":"register_response","payload":{"success":false,"error":"id_in_use",'
            '"message":"taken"}}',
            messages.RegisterResponse(success=False, error="id_in_use", message="taken"),
        )

    def test_client_list(self) -> None:
        """A client_list has for each client its id, status and services."""
        self.both(
            FROM_SERVER,
            """{"type": "client_list", "payload": {"clients": [
                {"id": "a", "status": "online", "services": [
                    {"id": "s", "protocol": "tcp", "localPort": 22, "localHost": "localhost",
                     "description": null}]},
                {"id": "b", "status": "online", "services": []}]}}""",
            messages.ClientList(
                clients=(
                    messages.ClientEntry(
                        id="a",
                        status="online",
                        services=(messages.Service(id="s", protocol="tcp", local_port=22),),
                    ),
                    messages.ClientEntry(id="b", status="online", services=()),
                )
            ),
        )

    def test_connect_offer(self) -> None:
        """The connect_request to the provider names both clients, service, session, key, relay."""
        self.both(
            FROM_SERVER,
            """{"type": "connect_request", "payload": {"fromClientId": "b", "toClientId": "a",
                "serviceId": "s", "sessionId": "0123456789abcdef0123456789abcdef",
                "channelKey": "a2V5", "mode": "raw",
                "relayAddr": {"host": "r", "port": 9001, "protocol": "tcp"}}}""",
            messages.ConnectOffer(
                from_client_id="b",
                to_client_id="a",
                service_id="s",
                session_id=SESSION,
                channel_key="a2V5",
                relay_addr=messages.RelayAddress(host="r", port=9001),
            ),
        )

    def test_link_offer(self) -> None:
        """The one for a link has the visitor's fingerprint, and for udp the datagram number."""
        self.both(
            FROM_SERVER,
            """{"type": "connect_request", "payload": {"fromClientId": "b", "toClientId": "a",
                "serviceId": "s", "sessionId": "0123456789abcdef0123456789abcdef",
                "channelKey": "a2V5", "mode": "link", "peerFingerprint": "PRINT",
                "datagramSession": 4294967295,
                "relayAddr": {"host": "r", "port": 9001, "protocol": "tcp"}}}""".replace(
                "PRINT", PRINT
            ),
            messages.ConnectOffer(
                from_client_id="b",
                to_client_id="a",
                service_id="s",
                session_id=SESSION,
                channel_key="a2V5",
                relay_addr=messages.RelayAddress(host="r", port=9001),
                mode="link",
                peer_fingerprint=PRINT,
                datagram_session=2**32 - 1,
            ),
        )

    def test_create_session(self) -> None:
        """A create_session has session, peer, service, relay and key, and the request's id."""
        text = """{"type": "create_session", "payload": {
            "sessionId": "0123456789abcdef0123456789abcdef", "peerClientId": "a",
            "service": {"id": "s", "protocol": "tcp", "localPort": 22, "localHost": "localhost",
                        "description": null},
            "relayAddr": {"host": "r", "port": 9001, "protocol": "tcp"}, "channelKey": "a2V5",
            "mode": "raw", "requestId": "7"}}"""
        self.both(
            FROM_SERVER,
            text,
            messages.CreateSession(
                session_id=SESSION,
                peer_client_id="a",
                service=messages.Service(id="s", protocol="tcp", local_port=22),
                relay_addr=messages.RelayAddress(host="r", port=9001),
                channel_key="a2V5",
                request_id="7",
            ),
        )

    def test_create_link_session(self) -> None:
        """The one for a link has the provider's fingerprint, and for udp the datagram number."""
        text = """{"type": "create_session", "payload": {
            "sessionId": "0123456789abcdef0123456789abcdef", "peerClientId": "a",
            "service": {"id": "s", "protocol": "udp", "localPort": 53, "localHost": "localhost",
                        "description": null, "mode": "link"},
            "relayAddr": {"host": "r", "port": 9001, "protocol": "tcp"}, "channelKey": "a2V5",
            "mode": "link", "peerFingerprint": "PRINT", "datagramSession": 0}}"""
        self.both(
            FROM_SERVER,
            text.replace("PRINT", PRINT),
            messages.CreateSession(
                session_id=SESSION,
                peer_client_id="a",
                service=messages.Service(id="s", protocol="udp", local_port=53, mode="link"),
                relay_addr=messages.RelayAddress(host="r", port=9001),
                channel_key="a2V5",
                mode="link",
                peer_fingerprint=PRINT,
                datagram_session=0,
            ),
        )

    def test_fingerprint(self) -> None:
        """A fingerprint is sha256: and 64 lower-case digits, a datagram number has 32 bits."""
        good = {
            "sessionId": SESSION,
            "peerClientId": "a",
            "service": {"id": "s", "protocol": "udp", "localPort": 53},
            "relayAddr": {"host": "r", "port": 9001},
            "channelKey": "a2V5",
        }
        for field, wrong in (
            ("peerFingerprint", ("", PRINT.upper(), PRINT + "\n", PRINT[:-1], "md5:00", None)),
            ("datagramSession", (-1, 2**32, "1", 0.5, None)),
        ):
            for value in wrong:
                text = json.dumps({"type": "create_session", "payload": good | {field: value}})
                self.assertRaises(WireError, messages.decode, text.encode(), FROM_SERVER)

    def test_from_server(self) -> None:
        """The other messages of a server are these."""
        for text, message in (
            (
                '{"type":"open_channel","payload":{"sessionId":"' + SESSION + '","channel":1}}',
                messages.OpenChannel(session_id=SESSION, channel=1),
            ),
            (
                '{"type":"session_closed","payload":{"sessionId":"' + SESSION + '",'
                '"reason":"happy","bytesTransferred":9}}',
                messages.SessionClosed(session_id=SESSION, reason="happy", bytes_transferred=9),
            ),
            (
                '{"type":"error","payload":{"code":"timeout","message":"m"}}',
                messages.Error(code="timeout", message="m"),
            ),
            (
                '{"type":"error","payload":{"code":"rejected","message":"m","sessionId":"'
                + SESSION
                + '","requestId":"7"}}',
                messages.Error(code="rejected", message="m", session_id=SESSION, request_id="7"),
            ),
        ):
            self.both(FROM_SERVER, text, message)

    def test_codes(self) -> None:
        """The error codes are these words; none may change."""
        self.assertEqual(
            {code.value for code in Code},
            {
                "bad_message",
                "not_registered",
                "unauthorized",
                "id_in_use",
                "unknown_client",
                "client_offline",
                "unknown_service",
                "forbidden",
                "rejected",
                "session_limit",
                "byte_limit",
                "rate_limited",
                "too_large",
                "timeout",
                "internal",
            },
        )

    def test_direction(self) -> None:
        """A message of the wrong direction is of an unknown type."""
        for table, name in ((FROM_CLIENT, "create_session"), (FROM_SERVER, "register")):
            error = self.assertRaises(
                WireError, messages.decode, f'{{"type":"{name}","payload":{{}}}}'.encode(), table
            )
            self.assertEqual(str(error), "unknown message type")

    def test_unknown_type(self) -> None:
        """A type that nobody knows is a WireError, however it is written."""
        for name in ("", "REGISTER", "register ", "__class__", "heartbeat\\u0000", "type"):
            text = f'{{"type":"{name}","payload":{{}}}}'.encode()
            for table in TABLES:
                error = self.assertRaises(WireError, messages.decode, text, table)
                self.assertEqual(str(error), "unknown message type")


class FieldTests(SynchronousTestCase):
    """The values that fields take."""

    good: dict[str, Any] = {  # noqa: RUF012
        "type": "register",
        "payload": {
            "clientId": "client-a",
            "services": [{"id": "s", "protocol": "tcp", "localPort": 1}],
            "token": "t",
        },
    }

    def takes(self, field: str, value: object) -> bool:
        """Whether C{register} is taken with this value in that field, or in its service's."""
        message = copy.deepcopy(self.good)
        payload = message["payload"]
        inner = payload if field in ("clientId", "token", "services") else payload["services"][0]
        inner[field] = value
        try:
            messages.decode(json.dumps(message).encode(), FROM_CLIENT)
        except WireError:
            return False
        return True

    def check(self, field: str, good: tuple[object, ...], bad: tuple[object, ...]) -> None:
        """The field takes what is good and refuses what is bad."""
        self.assertEqual([value for value in good if not self.takes(field, value)], [])
        self.assertEqual([value for value in bad if self.takes(field, value)], [])

    def test_ids(self) -> None:
        """An id is 1 to 64 letters, digits and any of ._- after a letter or digit."""
        good = ("a", "A-1_b.c", "0", "x" * 64)
        bad = (
            "-a",
            ".a",
            "..",
            "_a",
            "x" * 65,
            "a b",
            "a/b",
            "a\n",
            "\u0430",
            "\u0661",
            "a\0",
            "%2e",
            "a\u202e",
            None,
            1,
            ["a"],
        )
        self.check("clientId", (*good, ""), bad)
        self.check("id", good, (*bad, ""))

    def test_session_id(self) -> None:
        """A sessionId is 32 lower-case hexadecimal digits, so that it is always 16 bytes."""
        for wrong in ("", SESSION[:-1], SESSION + "0", SESSION.upper(), SESSION + "\n", "g" * 32):
            text = json.dumps({"type": "accept_session", "payload": {"sessionId": wrong}})
            self.assertRaises(WireError, messages.decode, text.encode(), FROM_CLIENT)

    def test_ports(self) -> None:
        """A port is a whole number up to 65535."""
        self.check(
            "localPort",
            (0, 1, 65535),
            (-1, 65536, 1.5, "80", None, True, 10**26, [80], 1e3),
        )

    def test_protocols(self) -> None:
        """A protocol is one of four."""
        self.check("protocol", ("tcp", "udp", "http", "ws"), ("TCP", "", "quic", None, 1))

    def test_modes(self) -> None:
        """A mode is raw or link, a compression zstd; either may be left out, but not null."""
        self.check("mode", ("raw", "link"), ("", "LINK", "auto", None, 1))
        self.check("compression", ("zstd",), ("", "none", "gzip", None, 1))

    def test_texts(self) -> None:
        """Free text has at most 256 characters, of any kind."""
        good = ("", "x" * 256, "\U0001f600" * 256, "\x1b\n\0")
        self.check("description", (*good, None), ("x" * 257, 1, ["x"]))
        self.check("localHost", good, ("x" * 257, 1, None))
        self.check("token", good, ("x" * 257, 1, None))

    def test_many_services(self) -> None:
        """A client offers at most 256 services."""
        service = self.good["payload"]["services"][0]
        self.check("services", ([], [service] * 256), ([service] * 257, None, {}, "s"))


class ShownTests(SynchronousTestCase):
    """What is shown of a message in a log or a traceback."""

    def test_secrets(self) -> None:
        """An exposure shows neither its password nor the key of its group."""
        exposure = messages.Exposure(
            service="web", http_user="u", http_password="s3cret", group="g", group_key="k3y"
        )
        register = messages.Register(exposures=(exposure,))
        for shown in (repr(exposure), repr(register)):
            self.assertIn("web", shown)
            self.assertNotIn("s3cret", shown)
            self.assertNotIn("k3y", shown)
