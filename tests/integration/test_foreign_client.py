"""
The documented protocol, as somebody else would write it.

The client is L{tests.foreign_client}, which knows sections 6 and 7 of the design and nothing of
our code.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from pathlib import Path

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import unix_connect

from .. import foreign_client
from ..foreign_client import Client, Leg, tcp_service
from .processes import (
    PATIENCE,
    Echo,
    Process,
    ProcessTestCase,
    dialled,
    needs,
    program,
    receive_exactly,
)
from .shared import DOCUMENTED, SharedServerTestCase


class Signalling(SharedServerTestCase):
    """Section 6."""

    def test_token_in_the_header(self) -> None:
        """A client without an identity registers under the name that it asks for."""
        client = self.unregistered(self.token)
        answer = client.register("ann")
        self.assertIs(answer["success"], True)
        self.assertEqual(answer["assignedId"], "ann")
        self.assertNotIn("error", answer)

    def test_token_in_the_register_message(self) -> None:
        """A client that cannot set headers registers as well."""
        client = self.client("bob", token_in_header=False)
        self.assert_alive(client)

    def test_wrong_token_in_the_header(self) -> None:
        """A wrong token is HTTP 401, before there is any WebSocket."""
        for wrong in ("wrong", "-", self.token[:-1], self.token + "x", "é"):
            error = self.assertRaises(
                InvalidStatus, foreign_client.open_websocket, self.control_port, wrong
            )
            self.assertEqual(error.response.status_code, 401)
        for header in (f"Basic {self.token}", self.token, "Bearer"):
            error = self.assertRaises(
                InvalidStatus,
                foreign_client.open_websocket,
                self.control_port,
                headers={"Authorization": header},
            )
            self.assertEqual(error.response.status_code, 401)

    def test_wrong_token_in_the_register_message(self) -> None:
        """A wrong token, or none, is error unauthorized and the end."""
        for more in ({"token": "wrong"}, {"token": ""}, {}):
            client = self.unregistered()
            client.say("register", clientId="eve", services=[], **more)
            self.assert_error(client, "unauthorized")
            client.wait_until_over()

    def test_nothing_but_register_without_a_token(self) -> None:
        """A connection without the token gets one register, and nothing else."""
        for kind, payload in (
            ("get_client_list", {}),
            ("heartbeat", {"timestamp": 1}),
            ("connect_request", {"toClientId": "a", "serviceId": "b"}),
            ("unregister", {}),
            ("no_such_type", {}),
        ):
            client = self.unregistered()
            client.say(kind, **payload)
            self.assert_error(client, "unauthorized")
            client.wait_until_over()

    def test_nothing_but_register_before_it(self) -> None:
        """A connection with the token that is not registered is told so, and may register."""
        client = self.unregistered(self.token)
        for kind, payload in (
            ("get_client_list", {}),
            ("connect_request", {"toClientId": "a", "serviceId": "b"}),
            ("accept_session", {"sessionId": "0" * 32}),
            ("reject_session", {"sessionId": "0" * 32}),
        ):
            client.say(kind, **payload)
            self.assert_error(client, "not_registered")
        self.assertIs(client.register("late")["success"], True)

    def test_client_list(self) -> None:
        """The list has every client with the documented fields, its services as registered."""
        service = {**tcp_service("web", 8080), "description": "my web page"}
        self.client("lister", service, tcp_service("ssh", 22))
        reader = self.client("reader")
        reader.say("get_client_list")
        clients = {entry["id"]: entry for entry in reader.wait_for("client_list")["clients"]}
        for entry in clients.values():
            self.assertLessEqual({"id", "status", "services"}, entry.keys())
        self.assertEqual(clients["reader"]["services"], [])
        listed = {each["id"]: each for each in clients["lister"]["services"]}
        self.assertEqual(sorted(listed), ["ssh", "web"])
        self.assertLessEqual(service.items(), listed["web"].items())

    def test_no_link_without_identity(self) -> None:
        """Without an identity a link service is raw, and a udp service is refused with a word."""
        link = {**tcp_service("safe", 8080), "mode": "link", "compression": "zstd"}
        client = self.client("humble", link)
        client.say("get_client_list")
        clients = {entry["id"]: entry for entry in client.wait_for("client_list")["clients"]}
        (listed,) = clients["humble"]["services"]
        self.assertEqual((listed["mode"], "compression" in listed), ("raw", False))
        client = self.unregistered(self.token)
        answer = client.register("humbler", [{**tcp_service("dns", 53), "protocol": "udp"}])
        self.assertEqual((answer["success"], answer["error"]), (False, "forbidden"))
        self.assertIs(client.register("humbler")["success"], True)

    def test_heartbeat(self) -> None:
        """A heartbeat comes back with the timestamp that it had, whatever clock that is from."""
        client = self.client()
        for timestamp in (0, 1, 1735689600000, 1735689600.25, -5, 2**53):
            client.say("heartbeat", timestamp=timestamp)
            self.assertEqual(client.wait_for("heartbeat"), {"timestamp": timestamp})

    def test_unknown_fields_are_ignored(self) -> None:
        """More fields than the documented ones change nothing."""
        client = self.unregistered(self.token)
        service = {**tcp_service("web"), "colour": "blue"}
        answer = client.register("talkative", [service], mood="good", nested={"a": [1, None]})
        self.assertIs(answer["success"], True)
        client.say_text(json.dumps({"type": "get_client_list", "payload": {"x": 1}, "id": 7}))
        client.wait_for("client_list")

    def test_bad_messages(self) -> None:
        """What is no message is answered with bad_message, and the connection lives on."""
        client = self.client()
        deep = "[" * 5000 + "]" * 5000
        for text in (
            "",
            "{",
            "no json",
            "[]",
            "null",
            '"register"',
            "{}",
            '{"type": 5, "payload": {}}',
            '{"type": "heartbeat", "payload": []}',
            '{"type": "heartbeat", "payload": {"timestamp": "now"}}',
            '{"type": "heartbeat", "payload": {"timestamp": 1e999}}',
            '{"type": "heartbeat", "payload": {"timestamp": NaN}}',
            '{"type": "heartbeat", "payload": {"timestamp": 12345678901234567890123456}}',
            '{"type": "heartbeat", "type": "unregister", "payload": {}}',
            '{"type": "no_such_type", "payload": {}}',
            '{"type": "register_response", "payload": {"success": true}}',
            '{"type": "connect_request", "payload": {"toClientId": 1, "serviceId": "a"}}',
            '{"type": "connect_request", "payload": {"toClientId": "a"}}',
            '{"type": "connect_request", "payload": {"toClientId": "../a", "serviceId": "a"}}',
            '{"type": "accept_session", "payload": {"sessionId": "xyz"}}',
            '{"type": "accept_session", "payload": {"sessionId": "\\u0661"}}',
            '{"type": "register", "payload": {"clientId": "a\\nb", "services": []}}',
            '{"type": "register", "payload": {"clientId": "a", "services": {"id": 1}}}',
            '{"type": "register", "payload": {"services": [{"id": "a", "protocol": "sctp"}]}}',
            '{"type": "heartbeat", "payload": {"x": "\\ud800"}}',
            f'{{"type": "heartbeat", "payload": {{"timestamp": {"9" * 5000}}}}}',
            f'{{"type": "heartbeat", "payload": {{"x": {deep}}}}}',
            b'{"type": "get_client_list", "payload": {}}',
            b"\xff\xfe",
        ):
            client.say_text(text)
            self.assert_error(client, "bad_message")
        self.assert_alive(client)

    def test_unregister(self) -> None:
        """Who unregisters is not listed any more, and its name is free."""
        leaver = self.client("leaver", tcp_service("web"))
        leaver.say("unregister")
        leaver.wait_until_over()
        reader = self.client("after")
        reader.say("get_client_list")
        names = [entry["id"] for entry in reader.wait_for("client_list")["clients"]]
        self.assertNotIn("leaver", names)
        self.client("leaver")

    def test_id_in_use(self) -> None:
        """A name is not taken from the live client that has it."""
        first = self.client("twin")
        second = self.unregistered(self.token)
        answer = second.register("twin")
        self.assertEqual((answer["success"], answer["error"]), (False, "id_in_use"))
        self.assertNotIn("assignedId", answer)
        self.assert_alive(first)
        self.assertIs(second.register("other-twin")["success"], True)

    def test_unknown_client_and_service(self) -> None:
        """Who and what is not there has an error of its own."""
        self.client("known", tcp_service("web"))
        client = self.client()
        client.say("connect_request", toClientId="nobody", serviceId="web")
        self.assert_error(client, "unknown_client")
        client.say("connect_request", toClientId="known", serviceId="ftp")
        self.assert_error(client, "unknown_service")
        self.assert_alive(client)

    def test_client_offline(self) -> None:
        """A client that was there, with an identity, and has left is offline, not unknown."""
        daemon = self.start_client("away", "")
        daemon.stop()
        client = self.client()
        client.say("connect_request", toClientId="away", serviceId="web")
        self.assert_error(client, "client_offline")

    def test_name_of_an_identity(self) -> None:
        """Who has no identity cannot take a name that belongs to one, even when it is away."""
        self.start_client("owner", "").stop()
        client = self.unregistered(self.token)
        answer = client.register("owner")
        self.assertEqual((answer["success"], answer["error"]), (False, "id_in_use"))

    def test_reject_session(self) -> None:
        """A provider's no reaches the visitor as error rejected, with the session's id."""
        provider = self.client("refuser", tcp_service("echo"))
        visitor = self.client()
        for more in ({}, {"reason": "not today"}):
            visitor.say("connect_request", toClientId="refuser", serviceId="echo")
            offer = provider.wait_for("connect_request")
            provider.say("reject_session", sessionId=offer["sessionId"], **more)
            self.assert_error(visitor, "rejected", sessionId=offer["sessionId"])

    def test_provider_leaves_instead_of_answering(self) -> None:
        """A visitor whose provider is gone before it answered is told at once."""
        provider = self.client("goner", tcp_service("echo"))
        visitor = self.client()
        visitor.say("connect_request", toClientId="goner", serviceId="echo")
        offer = provider.wait_for("connect_request")
        provider.abort()
        self.assert_error(visitor, "client_offline", sessionId=offer["sessionId"])

    def test_session_messages(self) -> None:
        """Both sides of a session are told what section 6 says, and each has its own key."""
        service = tcp_service("echo", 7)
        provider = self.client("shape-p", service)
        visitor = self.client("shape-v")
        session, partner = self.meet(visitor, provider, "shape-p")
        offer, granted = partner.payload, session.payload
        self.assertLessEqual(DOCUMENTED["connect_request"], offer.keys())
        self.assertLessEqual(DOCUMENTED["create_session"], granted.keys())
        self.assertEqual(
            (offer["fromClientId"], offer["toClientId"], offer["serviceId"]),
            ("shape-v", "shape-p", "echo"),
        )
        self.assertEqual(granted["peerClientId"], "shape-p")
        self.assertLessEqual(service.items(), granted["service"].items())
        self.assertRegex(session.id, r"^[0-9a-f]{32}$")
        self.assertEqual(partner.id, session.id)
        self.assertEqual((len(session.key), len(partner.key)), (32, 32))
        self.assertNotEqual(session.key, partner.key)
        self.assertLessEqual({"host", "port", "protocol"}, granted["relayAddr"].keys())
        self.assertEqual(granted["relayAddr"]["host"], "127.0.0.1")
        self.assertEqual(granted["relayAddr"]["protocol"], "tcp")

    def test_session_closed(self) -> None:
        """When a client has left, the other learns why its session ended, and the exact count."""
        visitor, provider, session, partner = self.pair("-count")
        one, other = self.channel(session, partner)
        one.send(b"x" * 12345)
        self.assertEqual(other.receive(12345), b"x" * 12345)
        other.send(b"y" * 678)
        self.assertEqual(one.receive(678), b"y" * 678)
        visitor.say("unregister")
        one.finish()
        self.assertEqual(other.ended(), b"")
        other.finish()
        closed = provider.wait_for("session_closed", sessionId=session.id)
        self.assertLessEqual(DOCUMENTED["session_closed"], closed.keys())
        self.assertEqual(closed["bytesTransferred"], 12345 + 678)
        self.assertEqual(closed["reason"], "client_offline")

    def test_provider_ends_a_session(self) -> None:
        """A provider that rejects a granted session ends it for both, with the same count."""
        visitor, provider, session, partner = self.pair("-ended")
        one, other = self.channel(session, partner)
        one.send(b"12345")
        other.receive(5)
        provider.say("reject_session", sessionId=session.id)
        for client in (visitor, provider):
            closed = client.wait_for("session_closed", sessionId=session.id)
            self.assertEqual(closed["bytesTransferred"], 5)
        one.ended()
        other.ended()

    def test_tls_and_plain_on_one_port(self) -> None:
        """The first byte tells TLS from plain, and the certificate is the one of the invite."""
        fingerprint = foreign_client.certificate_fingerprint(self.control_port)
        self.assertIn(f"?fp=sha256:{fingerprint}", self.invite)
        for tls in (True, False, True):
            client = self.client(f"tls-{tls}", tls=tls)
            self.assert_alive(client)
            client.say("unregister")
            client.wait_until_over()
        error = self.assertRaises(
            InvalidStatus, foreign_client.open_websocket, self.control_port, "wrong", tls=True
        )
        self.assertEqual(error.response.status_code, 401)

    def test_pings_are_answered(self) -> None:
        """A WebSocket ping has its pong."""
        client = self.client()
        self.assertTrue(client.websocket.ping().wait(PATIENCE))

    def test_message_that_is_too_large(self) -> None:
        """A message of 64 KiB passes; a byte more is error too_large and the end."""
        client = self.client()
        empty = json.dumps({"type": "heartbeat", "payload": {"timestamp": 1, "x": ""}})
        client.say_text(empty.replace('""', f'"{"x" * (65536 - len(empty))}"'))
        client.wait_for("heartbeat", timestamp=1)
        with contextlib.suppress(ConnectionClosed):
            client.say_text(empty.replace('""', f'"{"x" * (65537 - len(empty))}"'))
        self.assert_error(client, "too_large")
        client.wait_until_over()


class RelayPort(SharedServerTestCase):
    """Section 7."""

    def test_first_bytes_travel_behind_the_preamble(self) -> None:
        """What is sent before the partner is there reaches it, whichever side comes first."""
        _, _, session, partner = self.pair("-early")
        one = self.leg(session, 0, b"early ")
        one.send(b"bird")
        other = self.leg(partner, 0, b"worm").granted()
        self.assertEqual(other.receive(10), b"early bird")
        self.assertEqual(one.granted().receive(4), b"worm")
        other = self.leg(partner, 1, b"first")
        one = self.leg(session, 1, b"x" * 300_000).granted()
        self.assertEqual(one.receive(5), b"first")
        self.assertEqual(other.granted().receive(300_000), b"x" * 300_000)

    def test_preamble_in_pieces(self) -> None:
        """The 64 bytes may come one by one."""
        _, _, session, partner = self.pair("-pieces")
        other = self.leg(partner)
        opening = session.preamble() + b"after"
        one = foreign_client.Leg(session.address, opening[:1])
        self.addCleanup(one.close)
        for byte in opening[1:]:
            one.send(bytes([byte]))
        one.granted()
        self.assertEqual(other.granted().receive(5), b"after")

    def test_half_close(self) -> None:
        """The end of one direction travels, and the other goes on; both ways round."""
        _, _, session, partner = self.pair("-half")
        for number, first in ((0, 0), (1, 1)):
            legs = self.channel(session, partner, number)
            speaker, listener = legs[first], legs[1 - first]
            speaker.send(b"question")
            speaker.finish()
            self.assertEqual(listener.ended(), b"question")
            listener.send(b"answer")
            self.assertEqual(speaker.receive(6), b"answer")
            listener.finish()
            self.assertEqual(speaker.ended(), b"")

    def test_channels_in_parallel(self) -> None:
        """The channels of a session are independent streams."""
        _, _, session, partner = self.pair("-many")
        ones = [self.leg(session, number, b"%05d" % number) for number in range(40)]
        others = [self.leg(partner, number) for number in reversed(range(40))]
        for number, other in zip(reversed(range(40)), others, strict=True):
            self.assertEqual(other.granted().receive(5), b"%05d" % number)
            other.send(b"=%04d" % number)
        for number, one in enumerate(ones):
            self.assertEqual(one.granted().receive(5), b"=%04d" % number)

    def test_open_channel(self) -> None:
        """The provider is asked for the leg of a channel that only the visitor has dialled."""
        _, provider, session, partner = self.pair("-asked")
        for number in (0, 1, 2**40):
            one = self.leg(session, number)
            asked = provider.wait_for("open_channel", sessionId=session.id)
            self.assertEqual(asked["channel"], number)
            other = self.leg(partner, number).granted()
            self.assert_flows(one.granted(), other)

    def test_malformed_preambles(self) -> None:
        """What is no preamble is refused at once, and the live channel does not notice."""
        _, _, session, partner = self.pair("-malformed")
        one, other = self.channel(session, partner)
        for parts in (
            {"magic": b"RTN2"},
            {"magic": b"GET "},
            {"role": 0},
            {"role": 3},
            {"role": 255},
            {"flags": 0x80},
            {"padding": b"\0\1"},
        ):
            self.assert_refused(self.leg(session, 1, b"data", **parts))
        for length in (0, 1, 4, 5, 63):
            leg = foreign_client.Leg(session.address, session.preamble(1)[:length])
            leg.finish()
            self.assertNotIn(b"+", leg.verdict())
            leg.close()
        self.assert_flows(one, other)

    def test_unproven_preambles(self) -> None:
        """A wrong tag, key, role or session is refused with one code: nothing can be probed."""
        _, _, session, partner = self.pair("-unproven")
        one, other = self.channel(session, partner)
        tampered = bytearray(session.preamble(1))
        tampered[31] ^= 1
        short = session.preamble(1)[:-1]
        codes = {
            self.assert_refused(self.leg(session, 1, key=bytes(32))),
            self.assert_refused(self.leg(session, 1, key=partner.key)),
            self.assert_refused(self.leg(session, 1, role=foreign_client.PROVIDER)),
            self.assert_refused(self.leg(session, 1, session_id="f" * 32)),
            self.assert_refused(Leg(session.address, bytes(tampered))),
            self.assert_refused(Leg(session.address, short + bytes([session.preamble()[-1] ^ 1]))),
        }
        self.assertEqual(len(codes), 1)
        self.assert_flows(one, other)

    def test_replay(self) -> None:
        """A preamble works once, before and after its channel's end."""
        _, _, session, partner = self.pair("-replay")
        opening, partners = session.preamble(0), partner.preamble(0)
        one, other = Leg(session.address, opening), Leg(session.address, partners)
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        one.granted()
        other.granted()
        for replayed in (opening, partners):
            self.assert_refused(Leg(session.address, replayed))
        self.assert_refused(self.leg(session, 0))
        self.assert_flows(one, other)
        one.finish()
        other.finish()
        self.assertEqual(other.ended(), b"")
        for replayed in (opening, partners):
            self.assert_refused(Leg(session.address, replayed))

    def test_second_leg_of_a_role(self) -> None:
        """A second leg of the same role does not disturb the one that waits or is paired."""
        _, _, session, partner = self.pair("-second")
        one = self.leg(session, 0, b"mine")
        self.assert_refused(self.leg(session, 0, b"no, mine"))
        other = self.leg(partner, 0).granted()
        one.granted()
        self.assertEqual(other.receive(4), b"mine")
        for side in (session, partner):
            self.assert_refused(self.leg(side, 0))
        self.assert_flows(one, other)

    def test_no_legs_after_the_end(self) -> None:
        """When a session is over its legs are refused, those that wait as those that come."""
        _, provider, session, partner = self.pair("-over")
        waits = self.leg(session, 0)
        provider.wait_for("open_channel", sessionId=session.id)
        provider.say("reject_session", sessionId=session.id)
        provider.wait_for("session_closed", sessionId=session.id)
        self.assert_refused(waits)
        for side in (session, partner):
            self.assert_refused(self.leg(side, 1))

    def test_no_new_legs_after_a_client_left(self) -> None:
        """A client that lost the control connection keeps its streams and opens no new ones."""
        visitor, _, session, partner = self.pair("-left")
        one, other = self.channel(session, partner)
        visitor.abort()
        # The end of the control connection and the leg race: the server may see either first.
        reader = self.client("observer")
        while True:
            reader.say("get_client_list")
            clients = reader.wait_for("client_list")["clients"]
            if not any(entry["id"] == "visitor-left" for entry in clients):
                break
        self.assert_refused(self.leg(session, 1))
        self.assert_flows(one, other)

    def test_large_stream(self) -> None:
        """Many megabytes arrive as they were sent, however slowly they are read."""
        _, _, session, partner = self.pair("-large")
        one, other = self.channel(session, partner)
        data = bytes(range(256)) * 65536

        def send() -> None:
            one.send(data)
            one.finish()

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        self.assertTrue(other.ended() == data)
        sender.join(PATIENCE)


class Visits(SharedServerTestCase):
    """Foreign clients and our daemons, in every combination."""

    def echo(self) -> Echo:
        echo = Echo()
        self.addCleanup(echo.close)
        return echo

    def our_provider(self, name: str, port: int, **keys: str) -> Process:
        """A daemon that offers an echo service; its name is its own for the whole class."""
        lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
        return self.start_client(
            name, f"[service:echo]\nprotocol = tcp\nmode = raw\nlocal_port = {port}\n{lines}"
        )

    def foreign_provider(self, name: str) -> Client:
        """A foreign client that serves an echo."""
        echo = self.echo()
        provider = self.client(name, tcp_service("echo", echo.port))
        provider.provide(echo.port)
        return provider

    def assert_echoes(self, leg: Leg) -> None:
        leg.granted()
        self.assertEqual(leg.receive(5), b"early")
        leg.send(b"x" * 200_000)
        self.assertEqual(leg.receive(200_000), b"x" * 200_000)
        leg.send(b"end")
        leg.finish()
        self.assertEqual(leg.ended(), b"end")

    def test_foreign_visits_foreign(self) -> None:
        """Two foreign clients have one session and as many channels as they like."""
        self.foreign_provider("foreign-p")
        session = self.client("foreign-v").visit("foreign-p", "echo")
        for number in range(5):
            self.assert_echoes(self.leg(session, number, b"early"))

    def test_foreign_visits_itself(self) -> None:
        """A client may visit a service of its own."""
        provider = self.foreign_provider("both")
        session = provider.visit("both", "echo")
        self.assert_echoes(self.leg(session, 0, b"early"))

    def test_foreign_visits_ours(self) -> None:
        """A foreign visitor reaches the service of our daemon, many streams at once."""
        self.our_provider("ours", self.echo().port)
        session = self.client("foreign-v").visit("ours", "echo")
        legs = [self.leg(session, number, b"early") for number in range(20)]
        for leg in legs:
            self.assert_echoes(leg)

    def test_ours_visits_foreign(self) -> None:
        """Our daemon's local port leads to a foreign client's service."""
        self.foreign_provider("foreign-p")
        _, port = self.start_visitor(target="foreign-p")
        for _ in range(5):
            with dialled(port) as connection:
                connection.sendall(b"x" * 100_000)
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_exactly(connection, 200_000), b"x" * 100_000)

    def test_not_allowed(self) -> None:
        """Whom the provider's C{allow} does not name gets an error, and the provider says so."""
        daemon = self.our_provider("choosy", self.echo().port, allow="friend")
        stranger = self.client("stranger")
        stranger.say("connect_request", toClientId="choosy", serviceId="echo")
        error = stranger.wait_for("error")
        self.assertIn(error["code"], ("rejected", "forbidden"))
        daemon.wait_for("stranger may not visit echo")
        session = self.client("friend").visit("choosy", "echo")
        self.assert_echoes(self.leg(session, 0, b"early"))

    def test_service_that_does_not_answer(self) -> None:
        """Where nothing listens a stream ends, and the session serves the next one."""
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        daemon = self.our_provider("broken", port)
        session = self.client("foreign-v").visit("broken", "echo")
        self.leg(session, 0).ended()
        daemon.wait_for("echo does not answer")
        with socket.create_server(("127.0.0.1", port)) as listening:
            leg = self.leg(session, 1, b"hello").granted()
            connection, _ = listening.accept()
            with connection:
                self.assertEqual(receive_exactly(connection, 5), b"hello")
            leg.ended()

    def test_service_host_that_is_none(self) -> None:
        """A local_host that can be nobody's name ends each stream at once, and is told."""
        daemon = self.our_provider("nameless", 1, local_host="a..b")
        session = self.client("foreign-v").visit("nameless", "echo")
        self.leg(session, 0).granted().ended()
        daemon.wait_for("echo does not answer at a..b:1")
        self.assertNotIn("Traceback", daemon.output)

    def test_javascript_visits_ours(self) -> None:
        """Fifty lines of JavaScript visit a service."""
        needs("node")
        node = [program("node")]
        script = Path(foreign_client.__file__).with_suffix(".js")
        if _prints(node, "typeof WebSocket") != "function":
            node.append("--experimental-websocket")
        if _prints(node, "typeof WebSocket") != "function":
            needs("node with WebSocket")
        self.our_provider("for-node", self.echo().port)
        arguments = [self.control_port, self.token, "for-node", "echo", "grüezi"]
        done = subprocess.run(
            [*node, script, *map(str, arguments)],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        said = json.loads(done.stdout)
        self.assertEqual(
            said["heard"], ["register_response", "heartbeat", "client_list", "create_session"]
        )
        self.assertEqual(said["answer"], "+grüezi")


class OtherEndpoints(ProcessTestCase):
    """Control ports that are no TCP ports."""

    def test_unix_socket(self) -> None:
        """A control port may be a UNIX socket, as a reverse proxy in front of it likes it."""
        path = self.folder / "control"
        server = self.start_server(control=f"unix:{path}")
        token = (self.folder / "server" / "token").read_text().strip()
        client = Client(
            unix_connect(
                str(path),
                "ws://localhost/",
                additional_headers={"Authorization": f"Bearer {token}"},
                compression=None,
            )
        )
        self.addCleanup(client.abort)
        self.assertIs(client.register("local")["success"], True)
        self.assertNotIn("Traceback", server.output)


def _prints(node: list[str], expression: str) -> str:
    done = subprocess.run(
        [*node, "-p", expression], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.stdout.strip()
