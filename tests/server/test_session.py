"""Tests of L{relaytun.server.session}."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.server.session import SessionMachine, session_machine
from relaytun.wire.moods import Mood

FACTS = (
    "accepted",
    "rejected",
    "overdue",
    "client_left",
    "channels_gone",
    "closed",
    "idle",
    "exhausted",
    "forbidden",
    "stopping",
)

#: The diagram: from a state, by a fact, to a state, with what is done.  What is not here changes
#: nothing and does nothing.
DIAGRAM = {
    ("Offered", "accepted"): ("Live", "grant"),
    ("Offered", "rejected"): ("Ended", Mood.REJECTED),
    ("Offered", "overdue"): ("Ended", Mood.LONELY),
    ("Offered", "client_left"): ("Ended", Mood.CLIENT_OFFLINE),
    ("Offered", "closed"): ("Ended", Mood.HAPPY),
    ("Offered", "forbidden"): ("Ended", Mood.FORBIDDEN),
    ("Offered", "stopping"): ("Ended", Mood.SHUTDOWN),
    ("Live", "client_left"): ("Draining", "stop_admitting"),
    ("Live", "rejected"): ("Ended", Mood.REJECTED),
    ("Live", "closed"): ("Ended", Mood.HAPPY),
    ("Live", "idle"): ("Ended", Mood.TIMEOUT),
    ("Live", "exhausted"): ("Ended", Mood.BYTE_LIMIT),
    ("Live", "forbidden"): ("Ended", Mood.FORBIDDEN),
    ("Live", "stopping"): ("Ended", Mood.SHUTDOWN),
    ("Draining", "channels_gone"): ("Ended", Mood.CLIENT_OFFLINE),
    ("Draining", "rejected"): ("Ended", Mood.REJECTED),
    ("Draining", "closed"): ("Ended", Mood.HAPPY),
    ("Draining", "idle"): ("Ended", Mood.TIMEOUT),
    ("Draining", "exhausted"): ("Ended", Mood.BYTE_LIMIT),
    ("Draining", "forbidden"): ("Ended", Mood.FORBIDDEN),
    ("Draining", "stopping"): ("Ended", Mood.SHUTDOWN),
}

#: How to get there from the start.
WAYS = {
    "Offered": (),
    "Live": ("accepted",),
    "Draining": ("accepted", "client_left"),
    "Ended": ("closed",),
}


class Recorder:
    """A driver that keeps what it is told to do, and may answer with facts of its own."""

    def __init__(self, reaction: Callable[[], None] = lambda: None) -> None:
        self.done: list[str | Mood] = []
        self.reaction = reaction

    def grant(self) -> None:
        """Keep it."""
        self.done.append("grant")
        self.reaction()

    def stop_admitting(self) -> None:
        """Keep it."""
        self.done.append("stop_admitting")
        self.reaction()

    def end(self, mood: Mood) -> None:
        """Keep it."""
        self.done.append(mood)
        self.reaction()


def happens(machine: SessionMachine, *facts: str) -> None:
    """Tell the machine."""
    for fact in facts:
        getattr(machine, fact)()


def state_of(machine: SessionMachine, driver: Recorder) -> str:
    """Which state the machine was in; afterwards it is in another."""
    for state, fact in (
        ("Offered", "accepted"),
        ("Live", "client_left"),
        ("Draining", "channels_gone"),
    ):
        before = len(driver.done)
        happens(machine, fact)
        if len(driver.done) > before:
            return state
    return "Ended"


class SessionMachineTests(SynchronousTestCase):
    """The states of a session, without anything around them."""

    def test_diagram(self) -> None:
        """In each state each fact does what the diagram says, and what it leaves out, nothing."""
        for state, way in WAYS.items():
            for fact in FACTS:
                driver = Recorder()
                machine = session_machine(driver)
                happens(machine, *way)
                del driver.done[:]
                happens(machine, fact)
                after, done = DIAGRAM.get((state, fact), (state, None))
                self.assertEqual((state, fact, driver.done), (state, fact, [done] if done else []))
                self.assertEqual((state, fact, state_of(machine, driver)), (state, fact, after))

    def test_facts(self) -> None:
        """The table above knows every input of the machine."""
        inputs = {name for name in vars(SessionMachine) if not name.startswith("_")}
        self.assertEqual(inputs, set(FACTS))

    @settings(max_examples=300)
    @given(st.lists(st.sampled_from(FACTS), max_size=12))
    def test_any_order(self, facts: list[str]) -> None:
        """Whatever happens in whatever order, the machine does what the diagram says, no more."""
        driver = Recorder()
        machine = session_machine(driver)
        state, expected = "Offered", []
        for fact in facts:
            happens(machine, fact)
            state, done = DIAGRAM.get((state, fact), (state, None))
            if done is not None:
                expected.append(done)
            self.assertEqual(driver.done, expected)

    @settings(max_examples=200)
    @given(
        st.lists(st.sampled_from(FACTS), max_size=8), st.lists(st.sampled_from(FACTS), max_size=8)
    )
    def test_within(self, facts: list[str], within: list[str]) -> None:
        """Facts that come of what is being done are heeded too, and an end stays the last thing."""
        reactions = iter(within)

        def react() -> None:
            for fact in reactions:
                happens(machine, fact)
                break

        driver = Recorder(react)
        machine = session_machine(driver)
        happens(machine, *facts)
        ends = [done for done in driver.done if isinstance(done, Mood)]
        self.assertEqual(ends, driver.done[-1:] if ends else [])
        self.assertLessEqual(driver.done.count("grant"), 1)
        if "grant" in driver.done:
            self.assertEqual(driver.done[0], "grant")
        self.assertLessEqual(driver.done.count("stop_admitting"), driver.done.count("grant"))

    def test_apart(self) -> None:
        """One session's end is no other's."""
        one, other = Recorder(), Recorder()
        first, second = session_machine(one), session_machine(other)
        happens(first, "closed")
        happens(second, "accepted")
        self.assertEqual((one.done, other.done), ([Mood.HAPPY], ["grant"]))
