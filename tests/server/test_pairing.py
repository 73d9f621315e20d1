"""Tests of L{relaytun.server.pairing}."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from relaytun.server import pairing
from relaytun.server.pairing import MAX_SPARES, MAX_WAITING, Match, Pairing, Wait
from relaytun.wire import preamble
from relaytun.wire.preamble import Preamble, Refusal, Role

KEY = bytes(32)
SESSION = bytes(16)
VISITOR, PROVIDER = Role.VISITOR, Role.PROVIDER

serial_nonces = count(1)


def opening(role: Role, channel: int, nonce: int | None = None, spare: bool = False) -> Preamble:
    """A preamble; without C{nonce} with a fresh one."""
    number = next(serial_nonces) if nonce is None else nonce
    data = preamble.encode(KEY, role, SESSION, channel, number.to_bytes(16, "big"), spare)
    return preamble.decode(data)


@dataclass(eq=False)
class Leg:
    """What a pairing pairs."""

    preamble: Preamble


@dataclass
class Model:
    """The same rules, written for the reader: everything is kept, nothing is fast."""

    max_spares: int
    max_waiting: int
    waiting: list[Leg] = field(default_factory=list)
    spares: list[Leg] = field(default_factory=list)
    paired: list[Leg] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)
    used_channels: set[int] = field(default_factory=set)
    used_serials: set[int] = field(default_factory=set)
    given_up: list[Preamble] = field(default_factory=list)

    def at(self, role: Role, channel: int) -> Leg | None:
        """The leg that waits there."""
        for leg in self.waiting:
            if (leg.preamble.role, leg.preamble.channel) == (role, channel):
                return leg
        return None

    def admit(self, leg: Leg) -> Match[Leg] | Wait | Refusal:
        """A leg comes."""
        asks = leg.preamble
        if asks.spare:
            if asks.channel in self.used_serials:
                return Refusal.REPLAYED
            self.used_serials.add(asks.channel)
            for other in self.waiting:
                if other.preamble.role is VISITOR and other.preamble.channel not in self.asked:
                    return self.pair(other, leg, other.preamble.channel)
            if len(self.spares) == self.max_spares:
                return Refusal.LIMIT
            self.spares.append(leg)
            return Wait()
        if asks.channel in self.used_channels or (asks.channel, asks.nonce) in [
            (old.channel, old.nonce) for old in self.given_up
        ]:
            return Refusal.REPLAYED
        if self.at(asks.role, asks.channel):
            return Refusal.DUPLICATE
        partner = self.at(asks.role.other, asks.channel)
        if partner is None and asks.role is VISITOR and self.spares:
            partner = self.spares[0]
        if partner is not None:
            both = (leg, partner) if asks.role is VISITOR else (partner, leg)
            return self.pair(*both, asks.channel)
        if len(self.waiting) == self.max_waiting:
            return Refusal.LIMIT
        self.waiting.append(leg)
        return Wait(wanted=asks.role is VISITOR)

    def pair(self, visitor: Leg, provider: Leg, channel: int) -> Match[Leg]:
        """They belong together."""
        for leg in (visitor, provider):
            self.forget(leg)
            self.paired.append(leg)
        self.use(channel)
        return Match(visitor, provider)

    def use(self, channel: int) -> None:
        """Nobody else gets this channel."""
        self.used_channels.add(channel)
        self.asked.discard(channel)
        self.given_up = [old for old in self.given_up if old.channel != channel]

    def forget(self, leg: Leg) -> None:
        """It waits no more."""
        self.waiting = [other for other in self.waiting if other is not leg]
        self.spares = [other for other in self.spares if other is not leg]

    def withdraw(self, leg: Leg) -> None:
        """A leg gives up."""
        waited = leg in self.waiting
        self.forget(leg)
        if waited:
            self.asked.discard(leg.preamble.channel)
            if len(self.given_up) < self.max_waiting:
                self.given_up.append(leg.preamble)
            else:
                self.use(leg.preamble.channel)


class PairingMachine(RuleBasedStateMachine):
    """Legs of both roles come, come again, and go, for few channels and with little room."""

    def __init__(self) -> None:
        super().__init__()
        self.pairing: Pairing[Leg] = Pairing()
        self.model = Model(pairing.MAX_SPARES, pairing.MAX_WAITING)
        self.came: list[Leg] = []

    def admit(self, asks: Preamble) -> None:
        """A leg comes, and fares as the model says."""
        leg = Leg(asks)
        self.came.append(leg)
        outcome = self.pairing.admit(asks, leg)
        assert outcome == self.model.admit(leg), outcome
        if isinstance(outcome, Match):
            assert outcome.visitor.preamble.role is VISITOR
            assert outcome.provider.preamble.role is PROVIDER

    @rule(
        role=st.sampled_from(Role),
        channel=st.integers(0, 5),
        nonce=st.one_of(st.none(), st.integers(0, 2)),
    )
    def leg(self, role: Role, channel: int, nonce: int | None) -> None:
        """An ordinary leg comes, its nonce fresh or of another."""
        self.admit(opening(role, channel, nonce))

    @rule(serial=st.integers(0, 11))
    def spare(self, serial: int) -> None:
        """A spare leg comes."""
        self.admit(opening(PROVIDER, serial, spare=True))

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Somebody sends a preamble that was sent before."""
        if self.came:
            self.admit(data.draw(st.sampled_from(self.came)).preamble)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """A leg goes, whether it waits, is paired, or was refused."""
        if self.came:
            leg = data.draw(st.sampled_from(self.came))
            self.pairing.withdraw(leg)
            self.model.withdraw(leg)

    @rule(channel=st.integers(0, 5))
    def ask(self, channel: int) -> None:
        """The provider is asked for its leg, as a session does it."""
        if self.pairing.wants_provider(channel):
            self.pairing.asked(channel)
            self.model.asked.add(channel)

    @invariant()
    def same_as_model(self) -> None:
        """Those who wait are those of the model."""
        assert self.pairing.spares == len(self.model.spares) <= pairing.MAX_SPARES
        assert len(self.model.waiting) <= pairing.MAX_WAITING
        for channel in range(6):
            visitor = self.model.at(VISITOR, channel)
            assert self.pairing.wants_provider(channel) == (visitor is not None)

    @invariant()
    def nobody_twice(self) -> None:
        """No leg is paired twice, and none that is paired waits."""
        paired = [id(leg) for leg in self.model.paired]
        assert len(paired) == len(set(paired))
        assert not set(paired) & {id(leg) for leg in self.model.waiting + self.model.spares}

    def teardown(self) -> None:
        """At the end exactly those who wait are told."""
        waited = {id(leg) for leg in self.model.waiting + self.model.spares}
        cleared = self.pairing.clear()
        assert {id(leg) for leg in cleared} == waited
        assert len(cleared) == len(waited)
        assert self.pairing.clear() == []


class PairingTests(SynchronousTestCase):
    """Which legs become channels."""

    def setUp(self) -> None:
        self.pairing: Pairing[str] = Pairing()

    def come(self, leg: str, role: Role, channel: int, **more: Any) -> Match[str] | Wait | Refusal:
        """A leg comes."""
        return self.pairing.admit(opening(role, channel, **more), leg)

    def test_against_the_model(self) -> None:
        """Whatever legs come and go, the pairing does what the plain model does."""
        self.patch(pairing, "MAX_SPARES", 2)
        self.patch(pairing, "MAX_WAITING", 4)
        run_state_machine_as_test(
            PairingMachine, settings=settings(max_examples=150, stateful_step_count=40)
        )

    def test_both_orders(self) -> None:
        """Visitor and provider of a channel meet, whoever comes first."""
        self.assertEqual(self.come("v", VISITOR, 0), Wait(wanted=True))
        self.assertEqual(self.come("p", PROVIDER, 0), Match("v", "p"))
        self.assertEqual(self.come("p", PROVIDER, 1), Wait(wanted=False))
        self.assertEqual(self.come("v", VISITOR, 1), Match("v", "p"))

    def test_same_role(self) -> None:
        """Two legs of a role are never paired; the second is refused and the first still waits."""
        for channel, role in enumerate(Role):
            self.come("first", role, channel)
            self.assertEqual(self.come("second", role, channel), Refusal.DUPLICATE)
            match = self.come("other", role.other, channel)
            self.assertIsInstance(match, Match)
            self.assertEqual({match.visitor, match.provider}, {"first", "other"})

    def test_channel_once(self) -> None:
        """A channel that was paired is never paired again, not even with fresh nonces."""
        self.come("v", VISITOR, 3)
        self.come("p", PROVIDER, 3)
        for role in Role:
            self.assertEqual(self.come("late", role, 3), Refusal.REPLAYED)
        self.assertFalse(self.pairing.wants_provider(3))

    def test_replay_while_waiting(self) -> None:
        """A copy of a waiting leg's preamble is refused, and takes nothing from the leg."""
        asks = opening(VISITOR, 0)
        self.pairing.admit(asks, "v")
        self.assertEqual(self.pairing.admit(asks, "copy"), Refusal.DUPLICATE)
        self.pairing.withdraw("copy")
        self.assertEqual(self.come("p", PROVIDER, 0), Match("v", "p"))

    def test_replay_after_withdrawal(self) -> None:
        """Who gave up may try again with a fresh nonce; a copy of the old preamble is refused."""
        asks = opening(VISITOR, 0)
        self.pairing.admit(asks, "v")
        self.pairing.withdraw("v")
        self.assertEqual(self.pairing.admit(asks, "copy"), Refusal.REPLAYED)
        self.assertEqual(self.come("again", VISITOR, 0), Wait(wanted=True))
        self.assertEqual(self.come("p", PROVIDER, 0), Match("again", "p"))

    def test_withdrawn_is_forgotten(self) -> None:
        """A leg that gave up is never anybody's partner."""
        self.come("v", VISITOR, 0)
        self.come("spare", PROVIDER, 9, spare=True)
        self.come("p", PROVIDER, 1)
        for leg in ("v", "spare", "p", "p", "never came"):
            self.pairing.withdraw(leg)
        self.assertEqual(self.come("p2", PROVIDER, 0), Refusal.REPLAYED)
        self.assertEqual(self.come("v2", VISITOR, 1), Wait(wanted=True))
        self.assertEqual(self.pairing.clear(), ["v2"])

    def test_spare_first(self) -> None:
        """A spare waits for whichever visitor comes, and the oldest spare is used first."""
        self.assertEqual(self.come("s0", PROVIDER, 0, spare=True), Wait())
        self.assertEqual(self.come("s1", PROVIDER, 1, spare=True), Wait())
        self.assertEqual(self.pairing.spares, 2)
        self.assertEqual(self.come("v7", VISITOR, 7), Match("v7", "s0"))
        self.assertEqual(self.come("v0", VISITOR, 0), Match("v0", "s1"))
        self.assertEqual(self.pairing.spares, 0)

    def test_own_leg_before_spare(self) -> None:
        """A provider's leg for this very channel is taken before a spare."""
        self.come("spare", PROVIDER, 0, spare=True)
        self.come("own", PROVIDER, 5)
        self.assertEqual(self.come("v", VISITOR, 5), Match("v", "own"))
        self.assertEqual(self.pairing.spares, 1)

    def test_spare_to_the_oldest(self) -> None:
        """A spare that comes late goes to the visitor that has waited longest."""
        self.come("v2", VISITOR, 2)
        self.come("v1", VISITOR, 1)
        self.assertEqual(self.come("spare", PROVIDER, 0, spare=True), Match("v2", "spare"))
        self.assertTrue(self.pairing.wants_provider(1))

    def test_asked(self) -> None:
        """A spare does not take a visitor for whom the provider was asked already."""
        self.come("v1", VISITOR, 1)
        self.pairing.asked(1)
        self.assertEqual(self.come("spare", PROVIDER, 0, spare=True), Wait())
        self.assertEqual(self.come("p1", PROVIDER, 1), Match("v1", "p1"))

    def test_asked_and_given_up(self) -> None:
        """When the visitor for whom it was asked gave up, the next one there may get a spare."""
        self.come("v1", VISITOR, 1)
        self.pairing.asked(1)
        self.pairing.withdraw("v1")
        self.come("again", VISITOR, 1)
        self.assertEqual(self.come("spare", PROVIDER, 0, spare=True), Match("again", "spare"))

    def test_serial_once(self) -> None:
        """A spare's serial number is good once, whether the spare waits, was paired or left."""
        self.come("waits", PROVIDER, 0, spare=True)
        self.assertEqual(self.come("x", PROVIDER, 0, spare=True), Refusal.REPLAYED)
        self.come("v", VISITOR, 0)
        self.assertEqual(self.come("x", PROVIDER, 0, spare=True), Refusal.REPLAYED)
        self.come("leaves", PROVIDER, 1, spare=True)
        self.pairing.withdraw("leaves")
        self.assertEqual(self.come("x", PROVIDER, 1, spare=True), Refusal.REPLAYED)

    def test_serials_are_no_channels(self) -> None:
        """A spare's serial number says nothing about the channel of the same number."""
        self.come("spare", PROVIDER, 4, spare=True)
        self.come("v8", VISITOR, 8)
        self.assertEqual(self.come("v4", VISITOR, 4), Wait(wanted=True))

    def test_most_spares(self) -> None:
        """There are at most MAX_SPARES spares; one more is refused and those there stay."""
        for serial in range(MAX_SPARES):
            self.assertEqual(self.come(f"s{serial}", PROVIDER, serial, spare=True), Wait())
        self.assertEqual(self.come("x", PROVIDER, MAX_SPARES, spare=True), Refusal.LIMIT)
        self.assertEqual(self.pairing.spares, MAX_SPARES)
        self.assertEqual(self.come("v", VISITOR, 0), Match("v", "s0"))
        self.assertEqual(self.come("s", PROVIDER, MAX_SPARES + 1, spare=True), Wait())

    def test_most_waiting(self) -> None:
        """There wait at most MAX_WAITING legs; who has a partner gets in all the same."""
        for channel in range(MAX_WAITING):
            self.assertIsInstance(self.come(f"v{channel}", VISITOR, channel), Wait)
        self.assertEqual(self.come("x", VISITOR, MAX_WAITING), Refusal.LIMIT)
        self.assertEqual(self.come("x", PROVIDER, MAX_WAITING), Refusal.LIMIT)
        self.assertEqual(self.come("p7", PROVIDER, 7), Match("v7", "p7"))
        self.assertIsInstance(self.come("late", VISITOR, MAX_WAITING), Wait)

    def test_bounded_memory(self) -> None:
        """Legs that give up by the thousand leave a bounded memory, and are not replayed."""
        seen = []
        for turn in range(3 * MAX_WAITING):
            asks = opening(VISITOR, turn % 2000)
            if isinstance(self.pairing.admit(asks, "v"), Wait):
                seen.append(asks)
                self.pairing.withdraw("v")
        self.assertLessEqual(
            sum(len(nonces) for nonces in self.pairing._nonces.values()), MAX_WAITING
        )
        for asks in seen:
            self.assertEqual(self.pairing.admit(asks, "copy"), Refusal.REPLAYED)

    @given(st.permutations(["v0", "v1", "p0", "p1"]))
    def test_any_order(self, order: list[str]) -> None:
        """In whatever order the legs of two channels come, they meet those of their own channel."""
        both: Pairing[str] = Pairing()
        outcomes = [
            both.admit(opening(VISITOR if leg[0] == "v" else PROVIDER, int(leg[1])), leg)
            for leg in order
        ]
        matches = {(one.visitor, one.provider) for one in outcomes if isinstance(one, Match)}
        self.assertEqual(matches, {("v0", "p0"), ("v1", "p1")})
        self.assertEqual(both.clear(), [])

    def test_refused_changes_nothing(self) -> None:
        """After any refusal everybody who waited still meets the partner that belongs to it."""
        self.come("v0", VISITOR, 0)
        self.come("p1", PROVIDER, 1)
        refused: list[Callable[[], object]] = [
            lambda: self.come("x", VISITOR, 0),
            lambda: self.come("x", PROVIDER, 1),
        ]
        for attack in refused * 50:
            self.assertIsInstance(attack(), Refusal)
            self.pairing.withdraw("x")
        self.assertEqual(self.come("p0", PROVIDER, 0), Match("v0", "p0"))
        self.assertEqual(self.come("v1", VISITOR, 1), Match("v1", "p1"))
