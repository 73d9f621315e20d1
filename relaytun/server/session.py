"""
A session's life, from the visitor's wish to the last byte.

The machine knows no transport, no message and no clock.  Its inputs are facts, its outputs the
three imperatives of L{Driver}::

               accepted / grant
    Offered ---------------------> Live ----------------> Draining
       |                             |     client_left        |
       | rejected      REJECTED      | rejected  REJECTED     | channels_gone  CLIENT_OFFLINE
       | overdue       LONELY        | closed    HAPPY        | rejected, closed, idle,
       | client_left   CLIENT_OFFLINE| idle      TIMEOUT      | exhausted, stopping,
       | closed        HAPPY         | exhausted BYTE_LIMIT   | forbidden: as from Live
       | forbidden     FORBIDDEN     | forbidden FORBIDDEN    |
       | stopping      SHUTDOWN      | stopping  SHUTDOWN     |
       +-----------------------------+------------------------+------> Ended / end(mood)

Draining: one of its clients lost the control connection.  The channels that run go on, because
a lost control connection must disturb no stream, but there will be no new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from automat import TypeMachineBuilder

from ..wire.moods import Mood


class Driver(Protocol):
    """What a session has done to the world."""

    def grant(self) -> None:
        """Tell the visitor; legs are welcome from now on."""

    def stop_admitting(self) -> None:
        """No new legs: who still waits for a partner is turned away."""

    def end(self, mood: Mood) -> None:
        """Cut what still runs, tell whoever is there, and forget the session."""


class SessionMachine(Protocol):
    """What can happen to a session."""

    def accepted(self) -> None:
        """The provider said yes."""

    def rejected(self) -> None:
        """The provider said no, or does not know the session any more."""

    def overdue(self) -> None:
        """The provider has not answered in time."""

    def client_left(self) -> None:
        """The control connection of the visitor or of the provider is gone."""

    def channels_gone(self) -> None:
        """There is no channel (any more)."""

    def closed(self) -> None:
        """One of the two clients has no further use for it."""

    def idle(self) -> None:
        """No byte has moved for C{session_timeout}."""

    def exhausted(self) -> None:
        """As much has moved as may, and more is waiting."""

    def forbidden(self) -> None:
        """One of its clients may have it no more."""

    def stopping(self) -> None:
        """The server is ending."""


def _build() -> Callable[[Driver], SessionMachine]:
    builder = TypeMachineBuilder(SessionMachine, Driver)  # type: ignore[type-abstract]
    offered = builder.state("Offered")
    live = builder.state("Live")
    draining = builder.state("Draining")
    ended = builder.state("Ended")

    inputs = SessionMachine

    @offered.upon(inputs.accepted).to(live)
    def grant(machine: SessionMachine, driver: Driver) -> None:
        driver.grant()

    @live.upon(inputs.client_left).to(draining)
    def drain(machine: SessionMachine, driver: Driver) -> None:
        driver.stop_admitting()

    def ends(state: Any, fact: Callable[[SessionMachine], None], mood: Mood) -> None:
        @state.upon(fact).to(ended)  # type: ignore[untyped-decorator]
        def end(machine: SessionMachine, driver: Driver) -> None:
            driver.end(mood)

    ends(offered, inputs.rejected, Mood.REJECTED)
    ends(offered, inputs.overdue, Mood.LONELY)
    ends(offered, inputs.client_left, Mood.CLIENT_OFFLINE)
    ends(draining, inputs.channels_gone, Mood.CLIENT_OFFLINE)
    ends(live, inputs.rejected, Mood.REJECTED)
    ends(draining, inputs.rejected, Mood.REJECTED)
    for state in (offered, live, draining):
        ends(state, inputs.closed, Mood.HAPPY)
        ends(state, inputs.stopping, Mood.SHUTDOWN)
        ends(state, inputs.forbidden, Mood.FORBIDDEN)
    for state in (live, draining):
        ends(state, inputs.idle, Mood.TIMEOUT)
        ends(state, inputs.exhausted, Mood.BYTE_LIMIT)

    # Facts that come too late, or change nothing.
    live.upon(inputs.accepted).loop().returns(None)
    live.upon(inputs.overdue).loop().returns(None)
    live.upon(inputs.channels_gone).loop().returns(None)
    offered.upon(inputs.channels_gone).loop().returns(None)
    offered.upon(inputs.idle).loop().returns(None)
    offered.upon(inputs.exhausted).loop().returns(None)
    draining.upon(inputs.accepted).loop().returns(None)
    draining.upon(inputs.overdue).loop().returns(None)
    draining.upon(inputs.client_left).loop().returns(None)
    for fact in (
        inputs.accepted,
        inputs.rejected,
        inputs.overdue,
        inputs.client_left,
        inputs.channels_gone,
        inputs.closed,
        inputs.idle,
        inputs.exhausted,
        inputs.forbidden,
        inputs.stopping,
    ):
        ended.upon(fact).loop().returns(None)
    return builder.build()


#: Makes the machine of a session that was just offered to its provider.
session_machine = _build()
