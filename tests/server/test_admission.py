"""Tests of L{relaytun.server.admission}."""

from __future__ import annotations

from hypothesis import example, given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.server import admission
from relaytun.server.admission import Admission, Bucket, Place, address_key, is_loopback


class AddressTests(SynchronousTestCase):
    """What an address is worth."""

    def test_one_place_of_many_spellings(self) -> None:
        """An IPv4 address, mapped or not, is one; so is a /64 of IPv6, with or without a scope."""
        for key, spellings in {
            "192.0.2.7": ("192.0.2.7", "::ffff:192.0.2.7", "::FFFF:c000:207", "::ffff:192.0.2.7%1"),
            "2001:db8::": ("2001:db8::", "2001:db8::1", "2001:DB8:0:0:ffff:ffff:ffff:ffff"),
            "2001:db8:0:1::": ("2001:db8:0:1::", "2001:db8:0:1:2:3:4:5"),
            "fe80::": ("fe80::1", "fe80::2%eth0", "fe80::3%lo%x"),
            "0.0.0.0": ("0.0.0.0", "::ffff:0.0.0.0"),
            "127.0.0.1": ("127.0.0.1", "::ffff:127.0.0.1"),
            "::": ("::", "::1", "::127.0.0.1"),
        }.items():
            for spelling in spellings:
                self.assertEqual((spelling, address_key(spelling)), (spelling, key))

    def test_neighbours(self) -> None:
        """Neighbouring IPv4 addresses and neighbouring /64s are different."""
        for one, other in (
            ("192.0.2.7", "192.0.2.8"),
            ("2001:db8:0:1::1", "2001:db8:0:2::1"),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.8"),
        ):
            self.assertNotEqual(address_key(one), address_key(other))

    def test_no_address(self) -> None:
        """Whatever is no IP address counts as one, and is never an error."""
        for junk in ("", "/run/x.sock", "localhost", "1.2.3", "0x7f000001", "2130706433", "0177.1"):
            self.assertEqual((junk, address_key(junk)), (junk, ""))

    def test_loopback(self) -> None:
        """This machine is 127.0.0.0/8, ::1, the former mapped, and the peer of a UNIX socket."""
        for here in ("127.0.0.1", "127.255.0.3", "::1", "::1%lo", "::ffff:127.0.0.1", ""):
            self.assertEqual((here, is_loopback(here)), (here, True))
        for elsewhere in (
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "128.0.0.1",
            "126.255.255.255",
            "fe80::1%lo",
            "2001:db8::1",
            "localhost",
            "127.1",
            "0x7f000001",
            "2130706433",
            "/run/x.sock",
            " 127.0.0.1",
        ):
            self.assertEqual((elsewhere, is_loopback(elsewhere)), (elsewhere, False))

    @settings(max_examples=200)
    @given(
        st.one_of(
            st.text(max_size=40),
            st.ip_addresses().map(str),
            st.ip_addresses(v=4).map("::ffff:{}".format),
        )
    )
    @example("%")
    @example("::1%")
    def test_any_text(self, text: str) -> None:
        """Any text has a key, the key is its own key, and being here is a matter of the key."""
        key = address_key(text)
        self.assertEqual(address_key(key), key)
        if is_loopback(text) and text:
            self.assertTrue(key.startswith("127.") or key == "::")


class AdmissionTests(SynchronousTestCase):
    """Places for strangers."""

    def setUp(self) -> None:
        self.evicted: list[str] = []

    def enter(self, places: Admission, address: str, name: str = "") -> Place:
        """A stranger comes; who has to leave for it is noted."""
        return places.enter(address, lambda: self.evicted.append(name or address))

    def test_enough_room(self) -> None:
        """As long as there is room nobody has to leave."""
        places = Admission(per_address=2, in_all=4)
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"):
            self.enter(places, address)
        self.assertEqual((self.evicted, len(places)), ([], 4))

    def test_per_address(self) -> None:
        """A crowd from one address displaces its own longest waiting one, and nobody else."""
        places = Admission(per_address=3, in_all=100)
        self.enter(places, "192.0.2.1", "honest")
        for number in range(10):
            self.enter(places, "192.0.2.66", f"flood {number}")
        self.assertEqual(self.evicted, [f"flood {number}" for number in range(7)])
        self.assertEqual(len(places), 4)

    def test_per_network(self) -> None:
        """A /64 is one crowd, however many addresses it comes from."""
        places = Admission(per_address=3, in_all=100)
        for number in range(10):
            self.enter(places, f"2001:db8::{number:x}", str(number))
        self.assertEqual((len(places), len(self.evicted)), (3, 7))

    def test_in_all(self) -> None:
        """When all places are taken the longest waiting of all leaves, and the newcomer is in."""
        places = Admission(per_address=3, in_all=5)
        for number in range(8):
            self.enter(places, f"192.0.2.{number}", str(number))
        self.assertEqual((self.evicted, len(places)), (["0", "1", "2"], 5))

    def test_leave(self) -> None:
        """Who has proven itself makes room, once, and is never told to go."""
        places = Admission(per_address=2, in_all=2)
        first = self.enter(places, "192.0.2.1", "first")
        self.enter(places, "192.0.2.1", "second")
        first.leave()
        first.leave()
        self.assertEqual(len(places), 1)
        self.enter(places, "192.0.2.1", "third")
        self.enter(places, "192.0.2.1", "fourth")
        self.assertEqual(self.evicted, ["second"])

    def test_leaves_while_evicted(self) -> None:
        """One who leaves when told to go, as a closing socket does, does no harm."""
        places = Admission(per_address=1, in_all=10)
        held: list[Place] = []
        held.append(places.enter("192.0.2.1", lambda: held[0].leave()))
        self.enter(places, "192.0.2.1", "second")
        self.assertEqual(len(places), 1)
        self.enter(places, "192.0.2.1", "third")
        self.assertEqual((self.evicted, len(places)), (["second"], 1))

    def test_comes_while_evicted(self) -> None:
        """One who comes back at the moment of being told to go displaces only the next one."""
        places = Admission(per_address=1, in_all=10)
        places.enter("192.0.2.1", lambda: self.enter(places, "192.0.2.1", "again") and None)
        self.enter(places, "192.0.2.1", "second")
        self.assertEqual((self.evicted, len(places)), (["second"], 1))

    @settings(max_examples=200)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("enter"), st.integers(0, 3)),
                st.tuples(st.just("leave"), st.integers(0, 30)),
            ),
            max_size=40,
        ),
        st.integers(1, 3),
        st.integers(1, 5),
    )
    def test_any_order(self, steps: list[tuple[str, int]], per_address: int, in_all: int) -> None:
        """In any order of coming and going the caps hold, newcomers get in, the oldest leave."""
        places = Admission(per_address, in_all)
        inside: dict[int, int] = {}
        handles: list[Place] = []
        evicted: list[int] = []
        for what, number in steps:
            if what == "leave":
                if number < len(handles):
                    handles[number].leave()
                    inside.pop(number, None)
            else:
                name = len(handles)
                neighbours = [one for one, home in inside.items() if home == number]
                expected = (
                    neighbours[:1]
                    if len(neighbours) == per_address
                    else list(inside)[:1]
                    if len(inside) == in_all
                    else []
                )
                del evicted[:]
                handles.append(
                    places.enter(f"192.0.2.{number}", lambda name=name: evicted.append(name))
                )
                self.assertEqual(evicted, expected)
                for one in expected:
                    del inside[one]
                inside[name] = number
            self.assertEqual(len(places), len(inside))
            self.assertLessEqual(len(places), in_all)
        for handle in handles:
            handle.leave()
        self.assertEqual((len(places), places._by_address), (0, {}))

    def test_memory(self) -> None:
        """A flood from everywhere leaves nothing behind when it is over."""
        places = Admission()
        held = [
            self.enter(places, f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}")
            for n in range(2 * admission.IN_ALL)
        ]
        self.assertEqual(len(places), admission.IN_ALL)
        self.assertEqual(len(places._by_address), admission.IN_ALL)
        for place in held:
            place.leave()
        self.assertEqual((len(places), places._by_address), (0, {}))


class BucketTests(SynchronousTestCase):
    """How often is too often."""

    def test_rate(self) -> None:
        """The rate is allowed at once, then as time brings it."""
        bucket = Bucket(3, 100.0)
        self.assertEqual([bucket.allow(100.0) for _ in range(5)], [True] * 3 + [False] * 2)
        self.assertTrue(bucket.allow(100.0 + 1 / 3 + 1e-9))
        self.assertFalse(bucket.allow(100.0 + 1 / 3 + 1e-9))

    def test_refused(self) -> None:
        """It counts what it refuses, until whoever asked has left it alone for half a second."""
        bucket = Bucket(4, 0.0)
        for _ in range(10):
            bucket.allow(0.0)
        self.assertEqual(bucket.refused, 6)
        self.assertTrue(bucket.allow(0.25))
        self.assertFalse(bucket.allow(0.25))
        self.assertEqual(bucket.refused, 7)
        self.assertTrue(bucket.allow(1.25))
        self.assertEqual(bucket.refused, 0)

    def test_does_not_save_up(self) -> None:
        """A day of silence earns no more than one second's worth."""
        bucket = Bucket(3, 0.0)
        self.assertEqual(sum(bucket.allow(86400.0) for _ in range(100)), 3)

    def test_refused_is_free(self) -> None:
        """What was refused does not count: who waits a second is heard again."""
        bucket = Bucket(3, 0.0)
        for _ in range(10000):
            bucket.allow(0.0)
        self.assertEqual([bucket.allow(1.0) for _ in range(4)], [True] * 3 + [False])

    def test_clock_set_back(self) -> None:
        """A clock that is set back by a day takes nothing away."""
        bucket = Bucket(3, 86400.0)
        self.assertTrue(bucket.allow(86400.0))
        self.assertTrue(bucket.allow(0.0))
        self.assertTrue(bucket.allow(0.0))
        self.assertFalse(bucket.allow(0.0))
        self.assertTrue(bucket.allow(0.4))

    @settings(max_examples=200)
    @given(
        st.integers(1, 50),
        st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=200),
    )
    def test_never_more(self, rate: int, gaps: list[float]) -> None:
        """In any stretch of time t no more than rate + rate * t are allowed."""
        bucket = Bucket(float(rate), 0.0)
        now = 0.0
        allowed: list[float] = []
        for gap in gaps:
            now += gap
            if bucket.allow(now):
                allowed.append(now)
        for first in range(0, len(allowed), 10):
            for last in range(first, len(allowed)):
                stretch = allowed[last] - allowed[first]
                self.assertLessEqual(last - first + 1, rate + rate * stretch + 1e-6)

    @given(st.integers(1, 50), st.integers(1, 100))
    def test_never_less(self, rate: int, number: int) -> None:
        """Who keeps to the rate is never refused."""
        bucket = Bucket(float(rate), 0.0)
        for turn in range(number):
            self.assertTrue(bucket.allow(turn / rate + 1e-6 * turn))
