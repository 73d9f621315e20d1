"""Tests of L{relaytun.server.public.service} and L{relaytun.server.public.claims}."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from relaytun.errors import UserError
from relaytun.server.public.claims import Claims
from relaytun.server.public.leases import KEPT, Leases
from relaytun.server.public.service import LINGER, TRY_AGAIN, Public
from relaytun.server.public.title import Title
from relaytun.wire import messages
from relaytun.wire.messages import Exposed, Exposure

from ..support import ANN, BOB, Connection, tcp, udp
from .support import PublicCase


class FakeTitle(Title):
    """Notes whether it is open."""

    def __init__(self, kind: str, value: str, holder: str, busy: set[str]) -> None:
        super().__init__(kind, value, holder)
        self.is_open = False
        self._busy = busy

    def open(self) -> None:
        if self.value in self._busy:
            raise UserError("busy")
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def urls(self, host: str) -> tuple[str, ...]:
        return (f"{self.kind}://{host}:{self.value}",)


def port(number: int = 0, service: str = "web", **more: Any) -> Exposure:
    """A public port."""
    return Exposure(service=service, remote_port=number, **more)


class PublicServiceCase(PublicCase):
    """A server with public ports 6000 to 6002, and names under example.com."""

    rules: dict[str, Any] = {}  # noqa: RUF012

    def setUp(self) -> None:
        super().setUp()
        self.leases = Leases(self.clock, ":memory:")
        self.titles: list[FakeTitle] = []
        self.busy: set[str] = set()
        self.claims = Claims(
            self.leases,
            self.title,
            **{
                "allow_ports": ((6000, 6002),),
                "own_ports": lambda: {6002},
                "own_hosts": lambda: {"relay.example"},
                "subdomain_host": "example.com",
                "serves_http": True,
                "serves_tls": True,
                **self.rules,
            },
        )
        self.public = Public(self.clock, self.visiting, self.claims)  # type: ignore[arg-type]
        self.broker.public = self.public
        self.public.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        if self.public.running:
            self.public.stopService()

    def title(self, kind: str, value: str, holder: str, exposure: Exposure) -> Title:
        self.titles.append(FakeTitle(kind, value, holder, self.busy))
        return self.titles[-1]

    def open_ones(self) -> list[str]:
        """What the public finds."""
        return sorted(f"{title.kind} {title.value}" for title in self.titles if title.is_open)

    def exposing(
        self, name: str, *exposures: Exposure, **more: Any
    ) -> tuple[Connection, list[Exposed]]:
        """A client with a service C{web}, and what it is told of its exposures."""
        more.setdefault("identity", ANN)
        connection = self.provider(name, tcp("web"), exposures=exposures, **more)
        return connection, self.told(connection)

    def refusal(self, name: str, *exposures: Exposure, **more: Any) -> tuple[str, str]:
        """The code and the sentence of an exposure that is refused."""
        _, (told,) = self.exposing(name, *exposures, **more)
        self.assertEqual(told.urls, ())
        return str(told.error), str(told.message)


class PortTests(PublicServiceCase):
    """Who gets which port."""

    def test_granted(self) -> None:
        """A port that may be had is opened, and the client told where it is."""
        _, (told,) = self.exposing("p", port(6000))
        self.assertEqual(told.urls, ("tcp://relay.example:6000",))
        self.assertEqual((told.service_id, told.remote_port), ("web", 6000))
        self.assertEqual(self.open_ones(), ["tcp 6000"])
        self.assertEqual(self.public.status()[0]["urls"], ["tcp://relay.example:6000"])

    def test_udp(self) -> None:
        """A udp service gets a UDP port, beside somebody's TCP port of that number."""
        self.exposing("p", port(6000))
        connection = self.provider(
            "q", udp("dns"), exposures=(port(6000, service="dns"),), identity=BOB
        )
        (told,) = self.told(connection)
        self.assertEqual(told.urls, ("udp://relay.example:6000",))

    def test_not_allowed(self) -> None:
        """Others than the allowed ports, and the server's own, are refused with what is allowed."""
        for number in (80, 6002, 6003):
            code, why = self.refusal("p", port(number))
            self.assertEqual(code, "forbidden")
            self.assertIn(f"tcp port {number} may not be had here", why)
            self.assertIn("6000-6002", why)

    def test_picked(self) -> None:
        """0 is any free one, the same one the next time, and a clear no when there is none."""
        connection, (told,) = self.exposing("p", port())
        self.assertIn(told.remote_port, (6000, 6001))
        connection.says(messages.Unregister())
        self.exposing("q", port(), identity=BOB)
        self.assertEqual(len(self.open_ones()), 1)
        _, (again,) = self.exposing("p", port())
        self.assertEqual(again.remote_port, told.remote_port)
        code, why = self.refusal("r", port(), identity=None)
        self.assertEqual(code, "forbidden")
        self.assertIn("no free tcp port", why)

    def test_many(self) -> None:
        """Each port costs as little where there are tens of thousands to choose from."""
        looked: list[int] = []
        self.claims.allow_ports = ((1024, 65535),)
        self.claims._own_ports = lambda: looked.append(1) or {6002}  # type: ignore[func-returns-value]
        services = [tcp(f"s{number}") for number in range(256)]
        exposures = tuple(port(service=service.id) for service in services)
        connection = self.provider("p", *services, exposures=exposures, identity=ANN)
        self.assertEqual(len({told.remote_port for told in self.told(connection)}), 256)
        self.assertLess(len(looked), 4 * 256)

    def test_busy(self) -> None:
        """A port of another program is refused, or passed over where any will do."""
        self.busy.add("6000")
        code, why = self.refusal("p", port(6000))
        self.assertEqual(code, "id_in_use")
        self.assertIn("tcp port 6000 cannot be had: busy", why)
        _, (told,) = self.exposing("q", port(), identity=BOB)
        self.assertEqual(told.remote_port, 6001)

    def test_conflict(self) -> None:
        """The later one is told, and gets it as soon as the first has given it up."""
        first, _ = self.exposing("p", port(6000))
        second, (told,) = self.exposing("q", port(6000), identity=BOB)
        self.assertEqual(told.error, "id_in_use")
        self.assertIn("belongs to another client", str(told.message))
        self.clock.advance(TRY_AGAIN)
        self.assertEqual(second.inbox, [])
        self.again(first, "p", tcp("web"), identity=ANN)
        self.clock.advance(TRY_AGAIN)
        (told,) = self.told(second)
        self.assertEqual(told.urls, ("tcp://relay.example:6000",))

    def test_kept(self) -> None:
        """A client that is away keeps its port from others, for a while."""
        first, _ = self.exposing("p", port(6000))
        first.says(messages.Unregister())
        self.assertEqual(self.open_ones(), [])
        code, why = self.refusal("q", port(6000), identity=BOB)
        self.assertEqual(code, "id_in_use")
        self.assertIn("kept for a client that is away", why)
        self.clock.pump([KEPT / 2] * 3)
        self.assertEqual(self.open_ones(), ["tcp 6000"])

    def test_own_conflict(self) -> None:
        """Two services of one client do not share a port."""
        connection = self.provider(
            "p",
            tcp("web"),
            tcp("ssh"),
            exposures=(port(6000), port(6000, service="ssh")),
            identity=ANN,
        )
        granted, refused = self.told(connection)
        self.assertEqual((granted.service_id, refused.service_id), ("web", "ssh"))
        self.assertIn("another service's of the same client", str(refused.message))

    def test_no_service(self) -> None:
        """What is exposed has to be offered, and to ask for something."""
        code, _ = self.refusal("p", port(6000, service="other"))
        self.assertEqual(code, "unknown_service")
        code, why = self.refusal("p", Exposure(service="web"))
        self.assertEqual(code, "bad_message")
        self.assertIn("remote_port", why)


class LimitTests(PublicServiceCase):
    """A server that gives each client one port."""

    rules = {"max_ports_per_client": 1}  # noqa: RUF012

    def test_limit(self) -> None:
        """The second one is refused."""
        connection = self.provider(
            "p", tcp("a"), tcp("b"), exposures=(port(service="a"), port(service="b"))
        )
        granted, refused = self.told(connection)
        self.assertEqual((granted.service_id, granted.error), ("a", granted.error))
        self.assertEqual(refused.error, "forbidden")
        self.assertIn("max_ports_per_client = 1", str(refused.message))

    def test_names(self) -> None:
        """Host names are no ports."""
        connection = self.provider(
            "p",
            tcp("a"),
            tcp("b"),
            exposures=(Exposure(service="a", custom_domains=("a.test",)), port(service="b")),
        )
        self.assertEqual([bool(told.error) for told in self.told(connection)], [False, False])


class LifeTests(PublicServiceCase):
    """Clients come and go."""

    def test_good_bye(self) -> None:
        """Who says good-bye has nothing open any more."""
        connection, _ = self.exposing("p", port(6000))
        connection.says(messages.Unregister())
        self.assertEqual((self.open_ones(), self.public.status()), ([], []))

    def test_lost(self) -> None:
        """Who is lost has it open for a moment, and then no more."""
        connection, _ = self.exposing("p", port(6000))
        connection.lost()
        self.clock.advance(LINGER - 1)
        self.assertEqual(self.open_ones(), ["tcp 6000"])
        self.clock.advance(1)
        self.assertEqual(self.open_ones(), [])
        self.clock.advance(1000)
        self.assertEqual(self.public.status(), [])

    def test_back(self) -> None:
        """Who comes back in time finds it as it was."""
        connection, _ = self.exposing("p", port(6000))
        connection.lost()
        self.clock.advance(LINGER - 1)
        _, (told,) = self.exposing("p", port(6000))
        self.assertEqual(told.urls, ("tcp://relay.example:6000",))
        self.clock.advance(LINGER)
        self.assertEqual((self.open_ones(), len(self.titles)), (["tcp 6000"], 1))

    def test_back_late(self) -> None:
        """Who comes back after that gets it again."""
        connection, _ = self.exposing("p", port(6000))
        connection.lost()
        self.clock.advance(LINGER)
        self.exposing("p", port(6000))
        self.assertEqual((self.open_ones(), len(self.titles)), (["tcp 6000"], 2))

    def test_newer_login(self) -> None:
        """A newer login of the same client takes it over without a gap."""
        self.exposing("p", port(6000))
        self.exposing("p", port(6000))
        self.clock.advance(2 * LINGER)
        self.assertEqual((self.open_ones(), len(self.titles)), (["tcp 6000"], 1))

    def test_changed(self) -> None:
        """What changes is opened and closed, and nothing else."""
        connection, _ = self.exposing("p", port(6000))
        self.again(connection, "p", tcp("web"), exposures=(port(6001),), identity=ANN)
        (told,) = self.told(connection)
        self.assertEqual(told.remote_port, 6001)
        self.assertEqual(self.open_ones(), ["tcp 6001"])
        self.again(connection, "p", tcp("web"), identity=ANN)
        self.assertEqual((self.open_ones(), connection.inbox), ([], []))

    def test_stop(self) -> None:
        """A server that ends closes them all."""
        self.exposing("p", port(6000))
        self.public.stopService()
        self.assertEqual(self.open_ones(), [])

    def test_rights(self) -> None:
        """Rights that are narrowed take a port away."""
        connection, _ = self.exposing("p", port(6000))
        self.claims.allow_ports = ((6001, 6001),)
        self.public.rights_changed(connection.peer)
        (told,) = self.told(connection)
        self.assertEqual(told.error, "forbidden")
        self.assertEqual(self.open_ones(), [])


class GroupTests(PublicServiceCase):
    """Several providers of one port."""

    def group(self, name: str, key: str = "k", **more: Any) -> tuple[Connection, Exposed]:
        connection, (told,) = self.exposing(
            name, port(6000, group="g", group_key=key), identity=None, **more
        )
        return connection, told

    def test_shared(self) -> None:
        """They share it, it stays as long as one is there, and turns go round."""
        first, _ = self.group("a")
        second, told = self.group("b")
        self.assertEqual(told.urls, ("tcp://relay.example:6000",))
        (title,) = self.titles
        chosen = [title.choose() for _ in range(4)]
        names = [member.visitor.client_id for member in chosen if member is not None]
        self.assertEqual(sorted(names), ["a", "a", "b", "b"])
        self.assertNotEqual(names[0], names[1])
        first.says(messages.Unregister())
        self.assertEqual(self.open_ones(), ["tcp 6000"])
        self.assertEqual({title.choose() for _ in range(3)}, set(title.members))
        second.says(messages.Unregister())
        self.assertEqual(self.open_ones(), [])

    def test_lost(self) -> None:
        """One that is lost is left out as long as another is there."""
        first, _ = self.group("a")
        self.group("b")
        first.lost()
        (title,) = self.titles
        for _ in range(4):
            member = title.choose()
            assert member is not None
            self.assertEqual(member.visitor.client_id, "b")

    def test_unhealthy(self) -> None:
        """One whose health check fails is left out; if all do there is nobody."""
        connections = [self.group(name)[0] for name in ("a", "b")]
        (title,) = self.titles
        for connection, left in zip(connections, ("b", None), strict=True):
            name = connection.peer.name
            connection.peer.services = {"web": tcp("web", healthy=False)}
            member = title.choose()
            self.assertEqual(member and member.visitor.client_id, left, name)
        sock, theirs = self.socket()
        title.serve(sock, None)
        self.assertEqual((theirs.recv(1), theirs.broken), (b"", True))  # type: ignore[attr-defined]

    def test_key(self) -> None:
        """Another key is another group."""
        self.group("a")
        _, told = self.group("b", key="guess")
        self.assertEqual(told.error, "id_in_use")


class NameTests(PublicServiceCase):
    """Host names."""

    def names(self, protocol: str, **more: Any) -> Exposed:
        service = messages.Service(id="web", protocol=protocol, local_port=80)  # type: ignore[arg-type]
        connection = self.provider(
            "p", service, exposures=(Exposure(service="web", **more),), identity=ANN
        )
        (told,) = self.told(connection)
        return told

    def test_http(self) -> None:
        """An http service is found by each name and location."""
        self.names("http", custom_domains=("A.test", "*.b.test"), locations=("/x", "/y"))
        self.assertEqual(
            self.open_ones(), [f"http {n}/{x}" for n in ("*.b.test", "a.test") for x in "xy"]
        )

    def test_subdomain(self) -> None:
        """A subdomain is a name under the server's host."""
        self.names("ws", subdomain="app")
        self.assertEqual(self.open_ones(), ["http app.example.com/"])

    def test_tls(self) -> None:
        """A tcp service is found by the name in its own TLS."""
        self.names("tcp", custom_domains=("a.test",))
        self.assertEqual(self.open_ones(), ["tls a.test"])

    def test_under_subdomain_host(self) -> None:
        """Nobody takes a name under the server's host but as a subdomain."""
        for name in ("example.com", "x.example.com", "*.example.com", "*.com"):
            told = self.names("http", custom_domains=(name,))
            self.assertEqual(told.error, "forbidden")
            self.assertIn("ask for it with subdomain", str(told.message))

    def test_no_names(self) -> None:
        """What is no host name, or no path, is refused, and so is the server's own name."""
        for more, code in (
            ({"custom_domains": ("a b",)}, "bad_message"),
            ({"custom_domains": ("a.test/x",)}, "bad_message"),
            ({"custom_domains": ("a.*.test",)}, "bad_message"),
            ({"custom_domains": ("..",)}, "bad_message"),
            ({"subdomain": "a/b"}, "bad_message"),
            ({"custom_domains": ("a.test",), "locations": ("x",)}, "bad_message"),
            ({"custom_domains": ("Relay.example",)}, "forbidden"),
            ({"custom_domains": ("*.example",)}, "forbidden"),
            ({"subdomain": "a.b"}, "bad_message"),
            ({"subdomain": "*"}, "bad_message"),
        ):
            told = self.names("http", **more)
            self.assertEqual((told.error, self.open_ones()), (code, []), more)

    def test_twice(self) -> None:
        """A name or a location that is asked for twice is had once."""
        told = self.names("http", custom_domains=("a.test", "A.test"), locations=("/x", "/x"))
        self.assertEqual((told.error, self.open_ones()), (UNSET, ["http a.test/x"]))

    def test_half_a_password(self) -> None:
        """Nobody is let in because a user or a password is missing."""
        for user, password in (("", "secret"), ("ann", ""), ("a:b", "secret")):
            told = self.names(
                "http", custom_domains=("a.test",), http_user=user, http_password=password
            )
            self.assertEqual((told.error, self.open_ones()), ("bad_message", []))

    def test_udp(self) -> None:
        """Datagrams have no names."""
        self.assertEqual(self.names("udp", custom_domains=("a.test",)).error, "bad_message")

    def test_whole_or_not(self) -> None:
        """If one name is somebody else's, none is had."""
        self.names("http", custom_domains=("a.test",))
        other = self.provider(
            "q",
            messages.Service(id="web", protocol="http", local_port=80),
            exposures=(Exposure(service="web", custom_domains=("b.test", "a.test")),),
            identity=BOB,
        )
        (told,) = self.told(other)
        self.assertIn("a.test is taken", str(told.message))
        self.assertEqual(self.open_ones(), ["http a.test/"])

    def test_told(self) -> None:
        """Whoever has to get certificates hears of names."""
        heard: list[int] = []
        self.claims.names_changed = lambda: heard.append(len(self.open_ones()))
        self.names("http", custom_domains=("a.test",))
        self.assertEqual(heard, [1])


class NoNameTests(PublicServiceCase):
    """A server without ports for names."""

    rules = {"serves_http": False, "serves_tls": False, "subdomain_host": None}  # noqa: RUF012

    def test_refused(self) -> None:
        """Names are refused, with what the server lacks."""
        for protocol, lacks in (("http", "vhost_http_port"), ("tcp", "vhost_https_port")):
            service = messages.Service(id="web", protocol=protocol, local_port=80)  # type: ignore[arg-type]
            connection = self.provider(
                f"p-{protocol}",
                service,
                exposures=(Exposure(service="web", custom_domains=("a.test",)),),
            )
            (told,) = self.told(connection)
            self.assertEqual(told.error, "forbidden")
            self.assertIn(lacks, str(told.message))
        _, why = self.refusal("q", Exposure(service="web", subdomain="app"), identity=BOB)
        self.assertIn("no subdomain_host", why)
