"""Tests of L{relaytun.server.users}, and of what the broker makes of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st
from msgspec import UNSET
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.server.users import User, Users
from relaytun.wire import messages
from relaytun.wire.messages import Code
from relaytun.wire.moods import Mood

from .support import ANN, BOB, TOKEN, BrokerCase, Channel, Connection, Settings, tcp


def user(**settings: Any) -> User:
    """Somebody with these rights."""
    return User(Clock(), settings=Settings(**settings))


class RightsTests(SynchronousTestCase):
    """What a user may do."""

    def test_everything(self) -> None:
        """Where the configuration says nothing, anything is allowed; so is to the main user."""
        for one in (user(), Users(Clock(), (), TOKEN).main):
            self.assertTrue(one.may_use_client_id(""))
            self.assertTrue(one.may_use_client_id("x"))
            self.assertTrue(one.may_open_port(1))
            self.assertTrue(one.may_use_host("*.example.com"))
            self.assertTrue(one.may_visit("a", "b"))

    def test_nothing(self) -> None:
        """Where it is empty, nothing is."""
        one = user(client_ids=(), ports=(), domains=(), visit=())
        self.assertFalse(one.may_use_client_id("x"))
        self.assertFalse(one.may_open_port(1))
        self.assertFalse(one.may_use_host("example.com"))
        self.assertFalse(one.may_visit("a", "b"))

    def test_client_ids(self) -> None:
        """A star stands for any characters, all else for itself."""
        one = user(client_ids=("alice-*", "a.c"))
        for good in ("alice-", "alice-1", "a.c"):
            self.assertTrue(one.may_use_client_id(good))
        for bad in ("", "alice", "xalice-1", "abc", "alice-\n"[:5], "a.c\n"):
            self.assertFalse(one.may_use_client_id(bad))

    def test_ports(self) -> None:
        """Ranges include both ends."""
        one = user(ports=((6000, 6002), (7000, 7000)))
        self.assertEqual(
            [port for port in range(5990, 7010) if one.may_open_port(port)],
            [6000, 6001, 6002, 7000],
        )

    def test_hosts(self) -> None:
        """Host names have no case; a wildcard needs a pattern that covers it."""
        one = user(domains=("*.alice.example", "alice.example"))
        for good in ("Alice.example", "www.alice.example", "*.alice.example"):
            self.assertTrue(one.may_use_host(good))
        for bad in ("evilalice.example", "alice.example.evil", "*.example"):
            self.assertFalse(one.may_use_host(bad))

    def test_visit(self) -> None:
        """A service of any client, or of those that a pattern names."""
        one = user(visit=("web", "office-*/ssh"))
        self.assertTrue(one.may_visit("anybody", "web"))
        self.assertTrue(one.may_visit("office-1", "ssh"))
        self.assertFalse(one.may_visit("home", "ssh"))
        self.assertFalse(one.may_visit("web", "x"))
        self.assertTrue(user(visit=("*",)).may_visit("a", "b"))

    def test_repr(self) -> None:
        """A token is never shown."""
        self.assertNotIn("alice's", repr(user()))
        self.assertNotIn(TOKEN, repr(Users(Clock(), (), TOKEN).main))


class TokenTests(SynchronousTestCase):
    """Who is let in, as whom."""

    def users(self, *settings: Settings, token: str | None = TOKEN) -> Users:
        """Users with settings."""
        return Users(Clock(), settings, token)

    def test_tokens(self) -> None:
        """Each token is its user's; nothing else lets one in."""
        users = self.users(Settings(), Settings(name="bob", token="bob's"))
        self.assertIs(users.by_token(TOKEN), users.main)
        for name in ("alice", "bob"):
            self.assertIs(users.by_token(f"{name}'s"), users.find(name))
        for wrong in ("", TOKEN + " ", TOKEN[:-1], TOKEN.upper(), "alice's ", UNSET):
            self.assertIsNone(users.by_token(wrong))

    def test_open(self) -> None:
        """An open server lets in whoever comes; who shows a user's token is that user."""
        users = self.users(Settings(), token=None)
        for anything in ("", "x", UNSET):
            self.assertIs(users.by_token(anything), users.main)
        self.assertIs(users.by_token("alice's"), users.find("alice"))

    @given(st.text(st.characters()), st.text(min_size=1))
    def test_equal(self, said: str, token: str) -> None:
        """Only the token lets one in; no text is an error."""
        users = self.users(token=token)
        self.assertEqual(users.by_token(said) is users.main, said == token)
        self.assertIs(users.by_token(token), users.main)

    def test_replace(self) -> None:
        """Who keeps name and token stays himself; the others of before are revoked."""
        names = "stays", "gone", "changed"
        users = self.users(*(Settings(name=name, token=name) for name in names))
        stays, gone, changed = (users.find(name) for name in names)
        users.replace(
            [
                Settings(name="stays", token="stays", ports=(), bandwidth_up=5, quota=7),
                Settings(name="changed", token="other"),
            ]
        )
        assert stays and gone and changed
        self.assertIs(users.by_token("stays"), stays)
        self.assertEqual((stays.quota, stays.may_open_port(1)), (7, False))
        self.assertEqual([rate.bytes_per_second for rate in stays.bandwidth.up], [5])
        self.assertEqual(
            [one.revoked for one in (stays, gone, changed, users.main)],
            [False, True, True, False],
        )
        self.assertIsNone(users.by_token("gone"))
        self.assertIsNone(users.by_token("changed"))
        self.assertFalse(users.by_token("other").revoked)  # type: ignore[union-attr]


class UsersOfABroker(BrokerCase):
    """Rights are asked at each open, and end what they no longer cover."""

    def begin(self, *users: Settings) -> None:
        """A broker with these users."""
        self.broker = self.make_broker(users=users)

    def of(self, name: str) -> Connection:
        """A connection that came with a user's token."""
        user = self.broker.users.find(name)
        assert user is not None
        return self.connect(user=user)

    def test_client_id(self) -> None:
        """A name that the user may not have is refused, with a sentence that says which."""
        self.begin(Settings(client_ids=("alice-*",)))
        connection = self.of("alice")
        answer = connection.register("bob-1")
        self.assertEqual((answer.success, answer.error), (False, "forbidden"))
        self.assertEqual(answer.message, "user alice may register as alice-*, not as bob-1")
        self.assertIn("set client_id", str(connection.register("").message))
        self.assertTrue(connection.register("alice-1").success)

    def test_guest(self) -> None:
        """A passing guest is called as the server likes, and so needs no right to a name."""
        self.begin(Settings(client_ids=("alice-*",)))
        guest = self.of("alice")
        answer = guest.register("", identity=ANN, transient=True, proof_token="alice's")
        self.assertTrue(answer.success)
        other = self.of("alice")
        answer = other.register("bob", identity=ANN, transient=True, proof_token="alice's")
        self.assertEqual(answer.error, "forbidden")

    def test_token_in_register(self) -> None:
        """Who cannot set headers is the user whose token his register has."""
        self.begin(Settings(client_ids=("alice-*",)))
        connection = self.connect(expects_token=True)
        self.assertTrue(connection.register("alice-1", token="alice's").success)
        self.assertIs(connection.peer.user, self.broker.users.find("alice"))
        connection = self.connect(expects_token=True)
        self.assertEqual(connection.register("x", token="alice's").error, "forbidden")

    def test_proof(self) -> None:
        """A login's proof covers the token that the connection showed, and no other."""
        self.begin(Settings())
        self.assertTrue(self.of("alice").register("a", identity=ANN, proof_token="alice's").success)
        answer = self.of("alice").register("b", identity=BOB, proof_token=TOKEN)
        self.assertEqual(answer.error, "unauthorized")

    def test_visit(self) -> None:
        """What a user may not visit is refused, and not on his list."""
        self.begin(Settings(visit=("p/web",)))
        provider = self.client("p", tcp("ssh"), tcp("web"))
        visitor = self.of("alice")
        visitor.register("a", [tcp("own")])
        visitor.says(messages.ConnectRequest(to_client_id="p", service_id="ssh"))
        error = visitor.take(messages.Error)
        self.assertEqual(
            (error.code, error.message), ("forbidden", "user alice may not visit p/ssh")
        )
        self.granted(visitor, provider, "web")
        visitor.says(messages.GetClientList())
        self.assertEqual(
            [
                [service.id for service in entry.services]
                for entry in visitor.take(messages.ClientList).clients
            ],
            [["own"], ["web"]],
        )

    def test_visit_anyone(self) -> None:
        """Of the clients that offer a service, one that the user may visit is found."""
        self.begin(Settings(visit=("b/ssh",)))
        self.client("a", tcp("ssh"))
        provider = self.client("b", tcp("ssh"))
        visitor = self.of("alice")
        visitor.register("v")
        visitor.says(messages.ConnectRequest(service_id="ssh"))
        provider.take(messages.ConnectOffer)
        self.broker.replace_users([Settings(visit=("c/ssh",))])
        visitor.inbox.clear()
        visitor.says(messages.ConnectRequest(service_id="ssh"))
        self.assertEqual(visitor.error(), "unknown_service")

    def test_revoked(self) -> None:
        """Who is no user any more goes at once, and his sessions and channels with him."""
        self.begin(Settings())
        provider = self.client("p", tcp("ssh"))
        visitor = self.of("alice")
        visitor.register("a")
        passing, silent = self.of("alice"), self.of("alice")
        passing.register("", identity=ANN, transient=True, proof_token="alice's")
        session, _ = self.granted(visitor, provider)
        channel = Channel(session)
        self.broker.replace_users([])
        self.assertEqual(channel.moods, [Mood.FORBIDDEN])
        self.assertEqual(len(self.broker.sessions), 0)
        self.assertEqual(provider.take(messages.SessionClosed).reason, "forbidden")
        closed, error = visitor.inbox
        self.assertEqual(getattr(closed, "reason", None), "forbidden")
        self.assertEqual(getattr(error, "code", None), Code.UNAUTHORIZED.value)
        self.assertTrue(visitor.closed)
        self.assertEqual(passing.error(), "unauthorized")
        self.assertTrue(passing.closed)
        self.assertIsNone(self.broker.registry.find("a"))
        silent.says(messages.Register(client_id="a"))
        self.assertEqual(silent.error(), "unauthorized")
        self.assertTrue(silent.closed)

    def test_revoked_while_draining(self) -> None:
        """What still runs of one who has lost the control connection ends as well."""
        self.begin(Settings())
        provider = self.client("p", tcp("ssh"))
        visitor = self.of("alice")
        visitor.register("a")
        session, _ = self.granted(visitor, provider)
        channel = Channel(session)
        visitor.lost()
        self.assertEqual(channel.moods, [])
        self.broker.replace_users([])
        self.assertEqual(channel.moods, [Mood.FORBIDDEN])

    def test_narrowed(self) -> None:
        """Narrower rights end what they do not cover, and nothing else."""
        self.begin(Settings(), Settings(name="bob", token="bob's"))
        provider = self.client("p", tcp("ssh"), tcp("web"))
        visitor = self.of("alice")
        visitor.register("a")
        bob = self.of("bob")
        bob.register("b")
        ssh, _ = self.granted(visitor, provider, "ssh")
        web, _ = self.granted(visitor, provider, "web")
        self.broker.replace_users(
            [Settings(visit=("web",)), Settings(name="bob", token="bob's", client_ids=("x",))]
        )
        self.assertEqual((ssh.live, web.live), (False, True))
        self.assertEqual(visitor.take(messages.SessionClosed).reason, "forbidden")
        self.assertEqual(provider.take(messages.SessionClosed).session_id, ssh.id)
        error = bob.take(messages.Error)
        self.assertEqual(error.message, "user bob may not register as b any more")
        self.assertTrue(bob.closed)

    def test_narrowed_before_the_answer(self) -> None:
        """A session that its provider was asked for is forbidden to its visitor."""
        self.begin(Settings())
        provider = self.client("p", tcp("ssh"))
        visitor = self.of("alice")
        visitor.register("a")
        self.offered(visitor, provider)
        self.broker.replace_users([Settings(visit=())])
        self.assertEqual(visitor.error(), "forbidden")
        self.assertEqual(provider.take(messages.SessionClosed).reason, "forbidden")

    def rates(self, *rates: Any) -> list[int]:
        return [rate.bytes_per_second for rate in rates]

    def test_rates(self) -> None:
        """A session keeps to what its service and both users have; changes hold at once."""
        alice = Settings(bandwidth_up=1, bandwidth_down=2)
        bob = Settings(name="bob", token="bob's", bandwidth_up=3, bandwidth_down=4)
        self.begin(alice, bob)
        provider = self.of("bob")
        provider.register("p", [tcp("ssh", bandwidth_up=5, bandwidth_down=6)])
        visitor = self.of("alice")
        visitor.register("a")
        session, _ = self.granted(visitor, provider)
        meter = session.meter
        self.assertEqual(self.rates(*meter.forward_rates), [6, 4, 1])
        self.assertEqual(self.rates(*meter.backward_rates), [5, 3, 2])
        again, _ = self.granted(visitor, provider)
        for mine, other in zip(meter.forward_rates, again.meter.forward_rates, strict=True):
            self.assertIs(mine, other)
        provider.register("p", [tcp("ssh", bandwidth_up=50)])
        self.assertEqual(self.rates(*meter.forward_rates), [4, 1])
        self.assertEqual(self.rates(*meter.backward_rates), [50, 3, 2])
        self.broker.replace_users([Settings(bandwidth_up=10), bob])
        self.assertEqual(self.rates(*meter.forward_rates), [4, 10])
        self.assertEqual(self.rates(*again.meter.backward_rates), [50, 3])

    def test_rates_of_an_update(self) -> None:
        """When a client only changes a service's bandwidth, its sessions go on at the new one."""
        self.begin()
        provider = self.client("p", tcp("ssh"))
        session, _ = self.granted(self.client("v"), provider)
        provider.says(messages.UpdateServices(services=(tcp("ssh", bandwidth_up=7),)))
        self.assertTrue(session.live)
        self.assertEqual(self.rates(*session.meter.backward_rates), [7])

    def test_no_rates(self) -> None:
        """Where there are none, there is nothing to keep to."""
        self.begin()
        provider = self.client("p", tcp("ssh"))
        session, _ = self.granted(self.client("v"), provider)
        self.assertEqual((session.meter.forward_rates, session.meter.backward_rates), ((), ()))
