"""Tests of L{relaytun.server.conversation} and L{relaytun.server.peer}."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given, settings, strategies as st
from msgspec import UNSET
from twisted.logger import capturedLogs

from relaytun.wire import messages

from .support import ANN, BOB, TOKEN, BrokerCase, Connection, tcp, udp

UNKNOWN = "00" * 16


class RegisterTests(BrokerCase):
    """How a client comes in."""

    def test_without_identity(self) -> None:
        """A client without an identity registers, and learns its name and where the relay is."""
        connection = self.connect(dialled_host="203.0.113.5")
        response = connection.register("a", [tcp("ssh")])
        self.assertEqual(
            response,
            messages.RegisterResponse(
                success=True,
                assigned_id="a",
                relay=messages.RelayAddress(host="203.0.113.5", port=9001),
                heartbeat_timeout=45.0,
                reflectors=(),
            ),
        )
        self.assertEqual(connection.registered, 1)
        self.assertIsNone(connection.peer.fingerprint)
        self.assertIs(self.broker.registry.find("a"), connection.peer)

    def test_reflectors(self) -> None:
        """A client is told where it can ask how it is seen: beside the relay, if anywhere."""

        def told() -> list[tuple[str, int, str]]:
            response = self.connect(dialled_host="203.0.113.5").register("", identity=ANN)
            return [(each.host, each.port, each.protocol) for each in response.reflectors or ()]

        self.assertEqual(told(), [])
        self.broker.reflector_port = 9002
        self.assertEqual(told(), [("203.0.113.5", 9001, "udp"), ("203.0.113.5", 9002, "udp")])
        self.broker.reflector_host = "203.0.113.6"
        self.assertEqual(told(), [("203.0.113.5", 9001, "udp"), ("203.0.113.6", 9002, "udp")])
        self.broker.relay_port = 0
        self.assertEqual(told(), [("203.0.113.6", 9002, "udp")])

    def test_with_identity(self) -> None:
        """A client that proves its identity is known by its fingerprint."""
        connection = self.connect()
        self.assertTrue(connection.register("a", identity=ANN).success)
        self.assertEqual(connection.peer.fingerprint, ANN.fingerprint)
        self.assertEqual(self.owners.get("a"), ANN.fingerprint)

    def test_no_name(self) -> None:
        """A client that leaves its name to the server is told which one it has."""
        response = self.connect().register("", identity=ANN)
        self.assertEqual(response.assigned_id, f"client-{ANN.fingerprint[7:15]}")

    def test_log(self) -> None:
        """The log says who came from where, once, and never with a token."""
        with capturedLogs() as events:
            connection = self.connect(expects_token=True)
            connection.register("a", [tcp("ssh")], token=TOKEN)
            connection.register("a", [tcp("ssh")])
        (event,) = [one for one in events if "registered from" in str(one.get("log_format"))]
        self.assertEqual((event["client"], event["host"], event["count"]), ("a", "192.0.2.1", 1))
        self.assertNotIn(TOKEN, repr(event))

    def offered(self, connection: Connection) -> list[object]:
        """In which modes it has its services, and how they are compressed."""
        return [(one.mode, one.compression) for one in connection.peer.services.values()]

    def test_health(self) -> None:
        """What a client says of its services' health is listed, and told once for each change."""
        told: list[object] = []
        connection = self.client("a", tcp("ssh"), tcp("web"))

        def listener(event: str, **fields: Any) -> None:
            told.append((event, fields["client"], fields["service"]))

        self.broker.events.listeners.append(listener)
        for name, healthy in (
            ("ssh", True),
            ("ssh", False),
            ("ssh", False),
            ("none", False),
            ("web", False),
            ("web", True),
        ):
            connection.says(messages.ServiceHealth(service_id=name, healthy=healthy))
        self.assertEqual(
            told,
            [
                ("service_offline", "a", "ssh"),
                ("service_offline", "a", "web"),
                ("service_online", "a", "web"),
            ],
        )
        connection.says(messages.GetClientList())
        ((ssh, web),) = [entry.services for entry in connection.take(messages.ClientList).clients]
        self.assertEqual((ssh.healthy, web.healthy), (False, True))
        connection.register("a", [tcp("ssh")])
        self.assertTrue(connection.peer.provides("ssh"))

    def test_modes(self) -> None:
        """The services of an identity are in the mode that it says, raw if it says nothing."""
        connection = self.client(
            "a",
            tcp("old"),
            tcp("raw", mode="raw", compression="zstd"),
            tcp("link", mode="link"),
            tcp("small", mode="link", compression="zstd"),
            udp("dns"),
            udp("ntp", mode="link"),
            identity=ANN,
        )
        self.assertEqual(
            self.offered(connection),
            [
                ("raw", UNSET),
                ("raw", UNSET),
                ("link", UNSET),
                ("link", "zstd"),
                ("link", UNSET),
                ("link", UNSET),
            ],
        )

    def test_modes_without_identity(self) -> None:
        """Without an identity every service is raw, whatever was said."""
        connection = self.client("a", tcp("old"), tcp("link", mode="link", compression="zstd"))
        self.assertEqual(self.offered(connection), [("raw", UNSET), ("raw", UNSET)])

    def test_modes_again(self) -> None:
        """A client that registers again without a second proof still has its identity."""
        connection = self.client("a", identity=ANN)
        connection.register("a", [tcp("link", mode="link"), udp("dns")])
        self.assertEqual(self.offered(connection), [("link", UNSET), ("link", UNSET)])

    def test_impossible_udp(self) -> None:
        """A udp service without an identity, or in raw mode, is refused; nothing has changed."""
        for service, identity, code in (
            (udp("dns"), None, "forbidden"),
            (udp("dns", mode="link"), None, "forbidden"),
            (udp("dns", mode="raw"), None, "forbidden"),
            (udp("dns", mode="raw"), BOB, "bad_message"),
        ):
            connection = self.connect()
            response = connection.register("b", [tcp("ssh"), service], identity=identity)
            self.assertEqual((response.success, response.error), (False, code))
            self.assertIn("dns is a udp service", str(response.message))
            self.assertEqual((len(self.broker.registry), connection.closed), (0, False))
            self.assertIsNone(self.owners.get("b"))
            self.assertTrue(connection.register("b", [tcp("ssh")]).success)
            self.assertEqual(connection.register("b", [udp("dns")]).error, "forbidden")
            self.assertEqual(list(connection.peer.services), ["ssh"])
            connection.lost()

    def test_services_again(self) -> None:
        """A client that registers again offers what it says last, under the name that it has."""
        for again in ("a", ""):
            connection = self.client("a", tcp("ssh"))
            self.assertEqual(connection.register(again, [tcp("web"), tcp("dns")]).assigned_id, "a")
            self.assertEqual(list(connection.peer.services), ["web", "dns"])
            self.assertEqual(list(self.broker.registry), [connection.peer])
            connection.lost()
            self.assertEqual(len(self.broker.registry), 0)

    def test_identity_again(self) -> None:
        """A client that registers again needs no second proof, and may give one."""
        connection = self.client("a", identity=ANN)
        self.assertTrue(connection.register("a").success)
        self.assertEqual(connection.peer.fingerprint, ANN.fingerprint)
        self.assertTrue(connection.register("a", identity=ANN).success)

    def test_another_name(self) -> None:
        """A connection keeps the name that it registered."""
        connection = self.client("a")
        connection.says(messages.Register(client_id="b"))
        self.assertEqual(connection.error(), "bad_message")
        self.assertEqual([peer.name for peer in self.broker.registry], ["a"])
        self.assertFalse(connection.closed)

    def test_another_identity(self) -> None:
        """A connection keeps the identity that it registered with, or that it has none."""
        for name, first in (("a", ANN), ("c", None)):
            connection = self.client(name, identity=first)
            self.assertEqual(connection.register(name, identity=BOB).error, "unauthorized")
            self.assertTrue(connection.closed)

    def test_name_in_use(self) -> None:
        """Who wants another's name is told so, and may try again with another name."""
        self.client("a", identity=ANN)
        connection = self.connect()
        response = connection.register("a", identity=BOB)
        self.assertEqual((response.success, response.error), (False, "id_in_use"))
        self.assertFalse(connection.closed)
        self.assertTrue(connection.register("b", identity=BOB).success)

    def test_proof_of_a_refused_login(self) -> None:
        """A proof that came with a refused name is not one for the next name."""
        self.client("a", identity=ANN)
        connection = self.connect()
        connection.register("a", identity=BOB)
        self.assertTrue(connection.register("b").success)
        self.assertIsNone(connection.peer.fingerprint)
        self.assertIsNone(self.owners.get("b"))

    def test_full(self) -> None:
        """Who finds the server full is told so, and not closed."""
        self.broker = self.make_broker(max_clients=1)
        self.client("a")
        connection = self.connect()
        self.assertEqual(connection.register("b").error, "session_limit")
        self.assertFalse(connection.closed)

    def test_displaced(self) -> None:
        """A newer login of an identity takes over; the older one is told id_in_use and closed."""
        old = self.client("a", tcp("ssh"), identity=ANN)
        new = self.client("a", tcp("web"), identity=ANN)
        self.assertEqual(old.error(), "id_in_use")
        self.assertTrue(old.closed)
        self.assertIs(self.broker.registry.find("a"), new.peer)
        old.lost()
        self.assertIs(self.broker.registry.find("a"), new.peer)

    def test_late_login(self) -> None:
        """A login that is older than the one that is there is refused: it arrived late."""
        late = self.connect()
        current = self.client("a", identity=ANN)
        self.assertEqual(late.register("a", identity=ANN).error, "id_in_use")
        self.assertEqual((current.closed, current.inbox), (False, []))

    def test_transient(self) -> None:
        """A transient login offers nothing, is not listed and disturbs nobody."""
        main = self.client("a", tcp("ssh"), identity=ANN)
        passing = self.client("a", tcp("evil"), identity=ANN, transient=True)
        self.assertEqual((main.inbox, main.closed, passing.peer.services), ([], False, {}))
        self.assertIs(self.broker.registry.find("a"), main.peer)
        passing.says(messages.Unregister())
        self.assertIs(self.broker.registry.find("a"), main.peer)

    def test_transient_without_identity(self) -> None:
        """Without an identity there is nothing to be beside: such a login is an ordinary one."""
        self.client("a", transient=True)
        self.assertEqual(self.connect().register("a", transient=True).error, "id_in_use")


class ProofTests(BrokerCase):
    """Who says that it holds an identity has to show it."""

    def forged(self, **more: Any) -> None:
        """A login is refused as unauthorized, closed, and leaves nothing behind."""
        connection = self.connect()
        response = connection.register("a", **more)
        self.assertEqual((response.success, response.error), (False, "unauthorized"))
        self.assertTrue(connection.closed)
        self.assertIsNone(connection.peer.fingerprint)
        self.assertIsNone(self.owners.get("a"))
        self.assertEqual(len(self.broker.registry), 0)

    def test_of_another_key(self) -> None:
        """Another's certificate with a proof of one's own is refused."""
        self.forged(identity=BOB, certificate=base64.b64encode(ANN.der).decode())

    def test_replayed(self) -> None:
        """A proof from another connection, which had another challenge, is refused."""
        self.forged(identity=ANN, proof_challenge=self.connect().peer.challenge)

    def test_of_another_token(self) -> None:
        """A proof that was made for a server with another token is refused."""
        self.forged(identity=ANN, proof_token="of another server")
        self.forged(identity=ANN, proof_token="")

    def test_of_another_name(self) -> None:
        """A proof for another clientId is refused."""
        self.forged(identity=ANN, proof_for="b")

    def test_open_server(self) -> None:
        """On a server without a token the proof is made with none."""
        self.broker = self.make_broker(token=None)
        self.assertTrue(self.connect().register("a", identity=ANN, proof_token="").success)
        self.assertEqual(
            self.connect().register("b", identity=BOB, proof_token="x").error, "unauthorized"
        )

    def test_halves(self) -> None:
        """A certificate without a proof, a proof without a certificate: refused, not overlooked."""
        certificate = base64.b64encode(ANN.der).decode()
        self.forged(certificate=certificate)
        self.forged(proof="MA==")
        self.forged(certificate=certificate, proof="")
        self.forged(certificate="", proof="")

    def test_not_base64(self) -> None:
        """What is no base64 is refused."""
        for text in ("*", "MA", "\u00e4", "MA==\n", "M A=="):
            self.forged(identity=ANN, proof=text)
            self.forged(identity=ANN, certificate=text)

    @settings(max_examples=60)
    @given(st.binary(max_size=64), st.integers(0, 10**6), st.integers(1, 255))
    def test_damaged(self, proof: bytes, place: int, change: int) -> None:
        """No damage to certificate or proof lets anybody in as Ann, or raises an exception."""
        connection = self.connect()
        response = connection.register("a", identity=ANN, proof=base64.b64encode(proof).decode())
        self.assertEqual(response.error, "unauthorized")
        damaged = bytearray(ANN.der)
        damaged[place % len(damaged)] ^= change
        connection = self.connect()
        connection.register("", identity=ANN, certificate=base64.b64encode(damaged).decode())
        self.assertNotEqual(connection.peer.fingerprint, ANN.fingerprint)
        connection.lost()


class TokenTests(BrokerCase):
    """A connection that came without the token."""

    def late(self) -> Connection:
        """It says its token in register, or not at all."""
        return self.connect(expects_token=True)

    def test_right(self) -> None:
        """The right token in register is as good as one in the request, and needed once only."""
        connection = self.late()
        self.assertTrue(connection.register("a", identity=ANN, token=TOKEN).success)
        self.assertTrue(connection.register("a").success)
        connection.says(messages.GetClientList())
        connection.take(messages.ClientList)

    def test_wrong(self) -> None:
        """A wrong, empty or missing token is unauthorized and the end."""
        for more in ({"token": "wrong"}, {"token": ""}, {}, {"token": TOKEN + "\0"}):
            connection = self.late()
            connection.says(messages.Register(client_id="a", **more))
            self.assertEqual((connection.error(), connection.closed), ("unauthorized", True))
            self.assertEqual(len(self.broker.registry), 0)

    def test_no_guessing_on(self) -> None:
        """A right token makes good no wrong one: one register is all it has."""
        connection = self.late()
        connection.says(messages.Register(client_id="a", token="wrong"))
        self.assertTrue(connection.closed)
        self.assertTrue(connection.peer.gone)

    def test_nothing_else(self) -> None:
        """Before that register no other message is answered but with unauthorized and the end."""
        for message in (
            messages.Heartbeat(timestamp=1),
            messages.GetClientList(),
            messages.ConnectRequest(to_client_id="a", service_id="s"),
            messages.AcceptSession(session_id=UNKNOWN),
            messages.Unregister(),
            messages.Error(code="internal", message="x"),
        ):
            connection = self.late()
            connection.says(message)
            self.assertEqual((connection.error(), connection.closed), ("unauthorized", True))

    def test_needless(self) -> None:
        """A token in register changes nothing for a connection that came with the right one."""
        self.assertTrue(self.connect().register("a", token="wrong").success)

    def test_one_token_of_another_name(self) -> None:
        """A name in use does not end the connection, but the token stands only when it is in."""
        self.client("a", identity=ANN)
        connection = self.late()
        self.assertEqual(connection.register("a", token=TOKEN).error, "id_in_use")
        connection.says(messages.GetClientList())
        self.assertEqual((connection.error(), connection.closed), ("unauthorized", True))


class ConversationTests(BrokerCase):
    """What a client may say when."""

    def test_not_registered(self) -> None:
        """Before register every request is answered with not_registered, and nothing happens."""
        connection = self.connect()
        for message in (
            messages.GetClientList(),
            messages.ConnectRequest(to_client_id="a", service_id="s"),
            messages.AcceptSession(session_id=UNKNOWN),
            messages.RejectSession(session_id=UNKNOWN),
            messages.CloseSession(session_id=UNKNOWN),
            messages.Unregister(),
        ):
            connection.says(message)
            self.assertEqual((connection.error(), connection.closed), ("not_registered", False))

    def test_heartbeat(self) -> None:
        """A heartbeat comes back as it was, before and after register."""
        connection = self.connect()
        for timestamp in (0, 1700000000, 1700000000.25):
            connection.says(messages.Heartbeat(timestamp=timestamp))
            self.assertEqual(
                connection.take(messages.Heartbeat), messages.Heartbeat(timestamp=timestamp)
            )
            connection.register("a")

    def test_unregister(self) -> None:
        """A client that unregisters is gone, and its connection is closed without an error."""
        connection = self.client("a")
        connection.says(messages.Unregister())
        self.assertEqual((connection.closed, connection.inbox), (True, []))
        self.assertEqual(len(self.broker.registry), 0)

    def test_connection_lost(self) -> None:
        """A client whose connection breaks is gone; that it breaks twice is no matter."""
        connection = self.client("a")
        connection.lost()
        connection.lost()
        self.assertEqual(len(self.broker.registry), 0)
        connection.peer.send(messages.Heartbeat())
        self.assertEqual(connection.inbox, [])

    def test_errors_of_a_client(self) -> None:
        """An error that a client sends is not answered: no two programs argue for ever."""
        connection = self.client("a")
        connection.says(messages.Error(code="internal", message="x\x1b[2J"))
        self.assertEqual((connection.inbox, connection.closed), ([], False))

    def test_unknown_session(self) -> None:
        """An answer to a session that is over is nobody's fault, and not answered."""
        connection = self.client("a")
        for message in (
            messages.AcceptSession(session_id=UNKNOWN),
            messages.RejectSession(session_id=UNKNOWN),
            messages.CloseSession(session_id=UNKNOWN),
        ):
            connection.says(message)
            self.assertEqual((connection.inbox, connection.closed), ([], False))

    def test_session_of_others(self) -> None:
        """Who knows the id of another's session can neither accept, reject nor close it."""
        provider, visitor = self.client("p", tcp("ssh")), self.client("v")
        stranger = self.client("s", tcp("ssh"))
        session, offer = self.offered(visitor, provider)
        for message in (
            messages.AcceptSession(session_id=offer.session_id),
            messages.RejectSession(session_id=offer.session_id),
            messages.CloseSession(session_id=offer.session_id),
        ):
            stranger.says(message)
        self.assertIs(self.broker.sessions.find(session.key), session)
        self.assertEqual((visitor.inbox, provider.inbox, stranger.inbox), ([], [], []))
        self.assertFalse(session.live)
        provider.says(messages.AcceptSession(session_id=offer.session_id))
        visitor.take(messages.CreateSession)
        stranger.says(messages.CloseSession(session_id=offer.session_id))
        self.assertTrue(session.live)

    def test_visitor_is_not_the_provider(self) -> None:
        """A visitor can neither accept nor reject for the provider."""
        provider, visitor = self.client("p", tcp("ssh")), self.client("v")
        session, offer = self.offered(visitor, provider)
        visitor.says(messages.AcceptSession(session_id=offer.session_id))
        visitor.says(messages.RejectSession(session_id=offer.session_id))
        self.assertEqual((session.live, visitor.inbox, provider.inbox), (False, [], []))
        self.assertIs(self.broker.sessions.find(session.key), session)

    def test_name(self) -> None:
        """A connection without a name has a word for the log."""
        self.assertEqual(self.connect().peer.name, "(not registered)")
