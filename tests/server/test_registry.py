"""Tests of L{relaytun.server.registry}."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hypothesis import given, settings, strategies as st
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import UserError
from relaytun.server.registry import Owners, Refused, Registry
from relaytun.wire.messages import Code

ANN = "sha256:" + "a1" * 32
BOB = "sha256:" + "b0" * 32


@dataclass(eq=False)
class Login:
    """As much of a peer as the registry looks at."""

    epoch: int
    fingerprint: str | None = None
    client_id: str | None = None


class RegistryCase(SynchronousTestCase):
    """A test case with a registry of three clients at most."""

    def setUp(self) -> None:
        self.owners = Owners(":memory:")
        self.addCleanup(self.owners.close)
        self.registry = Registry(self.owners, 3)  # type: ignore[arg-type]
        self.epochs = count(1)

    def login(self, fingerprint: str | None = None) -> Login:
        """A control connection, newer than all before it."""
        return Login(next(self.epochs), fingerprint)

    def admit(self, login: Login, wanted: str, transient: bool = False) -> Login | None:
        """Register it; returns whom it displaced."""
        login.client_id, displaced = self.registry.admit(login, wanted, transient)  # type: ignore
        return displaced  # type: ignore[return-value]

    def refused(self, login: Login, wanted: str, transient: bool = False) -> Code:
        """Why it cannot have that name; nothing may have changed."""
        before = list(self.registry)
        error = self.assertRaises(Refused, self.admit, login, wanted, transient)
        self.assertEqual(list(self.registry), before)
        return error.code


class NameTests(RegistryCase):
    """Whose a name is."""

    def test_first_come(self) -> None:
        """Who first registers a name with an identity owns it, while it is there and after."""
        ann = self.login(ANN)
        self.assertIsNone(self.admit(ann, "a"))
        self.assertIs(self.registry.find("a"), ann)
        for fingerprint in (BOB, None):
            self.assertEqual(self.refused(self.login(fingerprint), "a"), Code.ID_IN_USE)
        self.registry.remove(ann)  # type: ignore[arg-type]
        self.assertIsNone(self.registry.find("a"))
        for fingerprint in (BOB, None):
            self.assertEqual(self.refused(self.login(fingerprint), "a"), Code.ID_IN_USE)
        self.assertIsNone(self.admit(self.login(ANN), "a"))

    def test_several_names(self) -> None:
        """One identity may have several names, each for itself."""
        one, other = self.login(ANN), self.login(ANN)
        self.admit(one, "a")
        self.admit(other, "a2")
        self.assertIs(self.registry.find("a"), one)
        self.assertIs(self.registry.find("a2"), other)

    def test_without_identity(self) -> None:
        """A name without an identity is free again when its client has left, and not before."""
        first = self.login()
        self.admit(first, "a")
        for fingerprint in (None, ANN):
            self.assertEqual(self.refused(self.login(fingerprint), "a"), Code.ID_IN_USE)
        self.registry.remove(first)  # type: ignore[arg-type]
        self.assertFalse(self.registry.is_known("a"))
        self.admit(self.login(), "a")

    def test_identity_takes_a_free_name(self) -> None:
        """A name that somebody without identity has had may be owned by somebody with one."""
        first = self.login()
        self.admit(first, "a")
        self.registry.remove(first)  # type: ignore[arg-type]
        self.admit(self.login(ANN), "a")
        self.assertEqual(self.owners.get("a"), ANN)

    def test_is_known(self) -> None:
        """A name is known when an identity has it, whether it is online or not."""
        self.assertFalse(self.registry.is_known("a"))
        login = self.login(ANN)
        self.admit(login, "a")
        self.registry.remove(login)  # type: ignore[arg-type]
        self.assertTrue(self.registry.is_known("a"))

    def test_no_name(self) -> None:
        """Who names no name gets one: with an identity the same each time, else a fresh one."""
        ann = self.login(ANN)
        self.admit(ann, "")
        self.assertEqual(ann.client_id, "client-a1a1a1a1")
        self.assertEqual(self.owners.get("client-a1a1a1a1"), ANN)
        again = self.login(ANN)
        self.assertIs(self.admit(again, ""), ann)
        strangers = self.login(), self.login()
        for stranger in strangers:
            self.admit(stranger, "")
        self.assertEqual(len({again.client_id, *(one.client_id for one in strangers)}), 3)


class NewestWinsTests(RegistryCase):
    """Several logins of one identity."""

    def test_newest(self) -> None:
        """The newest login takes the place of the one before it at once."""
        first, second = self.login(ANN), self.login(ANN)
        self.admit(first, "a")
        self.assertIs(self.admit(second, "a"), first)
        self.assertIs(self.registry.find("a"), second)
        self.assertEqual(len(self.registry), 1)

    def test_displaced_leaves_late(self) -> None:
        """When the connection that was displaced is found dead, its successor stays."""
        first, second = self.login(ANN), self.login(ANN)
        self.admit(first, "a")
        self.admit(second, "a")
        self.registry.remove(first)  # type: ignore[arg-type]
        self.assertIs(self.registry.find("a"), second)

    def test_fenced(self) -> None:
        """An old login that arrives late is refused, and displaces nobody."""
        old, new = self.login(ANN), self.login(ANN)
        self.admit(new, "a")
        self.assertEqual(self.refused(old, "a"), Code.ID_IN_USE)
        self.assertIs(self.registry.find("a"), new)

    def test_again(self) -> None:
        """A client may register again on its connection."""
        login = self.login(ANN)
        self.admit(login, "a")
        self.assertIsNone(self.admit(login, "a"))
        self.assertEqual(list(self.registry), [login])

    def test_never_registered_leaves(self) -> None:
        """A connection that never registered takes nobody with it."""
        ann = self.login(ANN)
        self.admit(ann, "a")
        self.registry.remove(self.login(ANN))  # type: ignore[arg-type]
        self.assertIs(self.registry.find("a"), ann)


class TransientTests(RegistryCase):
    """A login beside the main one."""

    def test_beside(self) -> None:
        """A transient login has the name, is not found under it, and displaces nobody."""
        main, passing = self.login(ANN), self.login(ANN)
        self.admit(main, "a")
        self.assertIsNone(self.admit(passing, "a", transient=True))
        self.assertEqual(passing.client_id, "a")
        self.assertEqual(list(self.registry), [main])
        self.registry.remove(passing)  # type: ignore[arg-type]
        self.assertEqual(list(self.registry), [main])

    def test_alone(self) -> None:
        """A transient login needs no main one, and its name is the identity's from then on."""
        passing = self.login(ANN)
        self.admit(passing, "a", transient=True)
        self.assertEqual((len(self.registry), self.owners.get("a")), (0, ANN))

    def test_of_another(self) -> None:
        """A transient login with a name of another is refused, owned or only in use."""
        self.admit(self.login(ANN), "a")
        self.admit(self.login(), "b")
        for name in ("a", "b"):
            self.assertEqual(self.refused(self.login(BOB), name, True), Code.ID_IN_USE)

    def test_guest(self) -> None:
        """Without a name it gets a guest's, which is kept for nobody."""
        guest = self.login(ANN)
        self.admit(guest, "", transient=True)
        name = guest.client_id
        assert name is not None
        self.assertTrue(name.startswith("guest-"))
        self.admit(guest, name, transient=True)
        self.assertIsNone(self.owners.get(name))
        self.assertEqual(len(self.registry), 0)

    def test_full(self) -> None:
        """It takes no client's place, so it is let in when the server is full."""
        for number in range(3):
            self.admit(self.login(), f"c{number}")
        self.admit(self.login(ANN), "a", transient=True)


class FullTests(RegistryCase):
    """max_clients."""

    def test_full(self) -> None:
        """One client too many is refused, owns nothing, and gets in when another has left."""
        first = self.login()
        self.admit(first, "c0")
        self.admit(self.login(), "c1")
        self.admit(self.login(ANN), "a")
        newcomer = self.login(BOB)
        self.assertEqual(self.refused(newcomer, "b"), Code.SESSION_LIMIT)
        self.assertIsNone(self.owners.get("b"))
        self.registry.remove(first)  # type: ignore[arg-type]
        self.admit(newcomer, "b")

    def test_takes_over_when_full(self) -> None:
        """A new login of a client that is there needs no further place."""
        for name in ("c0", "c1"):
            self.admit(self.login(), name)
        self.admit(self.login(ANN), "a")
        self.admit(self.login(ANN), "a")
        self.assertEqual(len(self.registry), 3)


class AnyOrderTests(SynchronousTestCase):
    """Whatever comes."""

    @settings(max_examples=150)
    @given(
        st.lists(
            st.one_of(
                st.tuples(
                    st.just("admit"),
                    st.integers(0, 7),
                    st.sampled_from(["a", "b", "c", ""]),
                    st.booleans(),
                ),
                st.tuples(st.just("leave"), st.integers(0, 7), st.just(""), st.just(False)),
            ),
            max_size=30,
        )
    )
    def test_any_order(self, steps: list[tuple[str, int, str, bool]]) -> None:
        """An owner never changes, one name has one client, and an older login displaces nobody."""
        owners = Owners(":memory:")
        self.addCleanup(owners.close)
        registry = Registry(owners, 3)  # type: ignore[arg-type]
        logins = [Login(number, (ANN, BOB, None)[number % 3]) for number in range(8)]
        owned: dict[str, str] = {}
        for what, number, name, transient in steps:
            login = logins[number]
            if what == "leave":
                registry.remove(login)  # type: ignore[arg-type]
                login.client_id = None
            elif login.client_id in (None, name) and not (transient and not login.fingerprint):
                try:
                    client_id, displaced = registry.admit(login, name, transient)  # type: ignore
                except Refused:
                    continue
                if displaced is not None:
                    self.assertLess(displaced.epoch, login.epoch)
                    self.assertEqual(displaced.fingerprint, login.fingerprint)
                    displaced.client_id = None
                login.client_id = client_id
                self.assertIn(owners.get(client_id), (None, login.fingerprint))
            for client in registry:
                self.assertIs(registry.find(client.client_id), client)  # type: ignore[arg-type]
            for key, owner in owned.items():
                self.assertEqual(owners.get(key), owner)
            owned.update((key, owner) for key in "abc" if (owner := owners.get(key)))
            self.assertLessEqual(len(registry), 3)


class OwnersTests(SynchronousTestCase):
    """What is kept over a restart."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def open(self) -> Owners:
        """Open the file, as a server does when it starts."""
        owners = Owners(self.path)
        self.addCleanup(owners.close)
        return owners

    def test_restart(self) -> None:
        """Owners are the same after a restart."""
        owners = self.open()
        owners.claim("a", ANN)
        owners.claim("b", BOB)
        owners.close()
        again = self.open()
        self.assertEqual([again.get(name) for name in "abc"], [ANN, BOB, None])

    def test_killed(self) -> None:
        """What was claimed is kept though the server is killed: nothing waits for a close."""
        self.open().claim("a", ANN)
        self.assertEqual(self.open().get("a"), ANN)

    def test_odd_names(self) -> None:
        """A name is a value, never a part of a statement."""
        name = "a'); DROP TABLE owners; --"
        owners = self.open()
        owners.claim(name, ANN)
        owners.close()
        self.assertEqual(self.open().get(name), ANN)

    def test_unreadable(self) -> None:
        """A file that is no such database is a UserError that names the file."""
        folder = Path(self.mktemp())
        folder.mkdir()
        garbage = Path(self.mktemp())
        garbage.write_bytes(b"garbage " * 1000)
        other = Path(self.mktemp())
        with sqlite3.connect(other) as database:
            database.execute("CREATE TABLE owners (something TEXT)")
        database.close()
        for path in (folder, garbage, other, folder / "missing" / "x.db"):
            error = self.assertRaises(UserError, Owners, path)
            self.assertIn(str(path), str(error))
            self.assertIn("move it away", str(error))

    def test_failing_disk(self) -> None:
        """When a claim cannot be written it holds all the same, and the log says so."""
        owners = self.open()
        with sqlite3.connect(self.path) as other:
            other.execute("DROP TABLE owners")
        other.close()
        with capturedLogs() as events:
            owners.claim("a", ANN)
        self.assertEqual(owners.get("a"), ANN)
        (event,) = [one for one in events if one["log_level"] is LogLevel.error]
        self.assertEqual((event["client_id"], event["fingerprint"]), ("a", ANN))
        registry = Registry(owners, 3)  # type: ignore[arg-type]
        self.assertRaises(Refused, registry.admit, Login(1, BOB), "a", False)
        registry.admit(Login(2, ANN), "a", False)  # type: ignore[arg-type]
