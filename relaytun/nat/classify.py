"""
What kind of NAT a client is behind, and which pairs of kinds find a direct path.

Pure: from how a socket is seen at two places to a kind, and to words.  What a router lets in
(RFC 4787's filtering) is not asked for: it takes a server with two addresses, and a path is tried
in any case.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

#: Ports that a router gives one after the other differ by no more than this, other clients' between
#: them included; what differs by more is taken for random.
MOST_STEP = 20
#: Mappings that are predicted.
PREDICTED = 10


class NatKind(str, enum.Enum):
    """What the router does to the port of a socket."""

    #: Nothing: there is none.
    OPEN = "open"
    #: The same for every destination (endpoint-independent mapping).
    EASY = "easy"
    #: Another thing for each destination.
    HARD = "hard"
    #: Nothing comes through.
    BLOCKED = "blocked"


class Outlook(str, enum.Enum):
    """What a direct path between two clients takes."""

    #: Nothing much: it is found.
    DIRECT = "direct"
    #: Guessing the port that comes next: C{hard_nat = predict}.
    PREDICT = "predict"
    #: Trying many ports: C{hard_nat = birthday}.
    BIRTHDAY = "birthday"
    #: TCP, since UDP does not pass: it is found if the routers are easy with that.
    TCP = "tcp"
    #: The relay, unless both are in one network.
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Nat:
    """
    What is known of a client's router, for UDP or for TCP.

    @ivar external: how the server sees the socket, at the first place that answered.
    @ivar keeps_port: that has the number that the socket has itself.
    @ivar step: C{hard}: from the port at one place to that at the next; 0 if not even the host is
        the same.
    @ivar sure: two places answered, so that they could be compared.
    """

    kind: NatKind
    external: tuple[str, int] | None = None
    keeps_port: bool = False
    step: int = 0
    sure: bool = False

    @property
    def sequential(self) -> bool:
        """Whether the next port of a hard one can be guessed."""
        return self.kind is NatKind.HARD and 0 < abs(self.step) <= MOST_STEP


def classify(local: tuple[str, int], answers: Sequence[tuple[str, int]]) -> Nat:
    """
    @param local: where the socket is, as this machine knows: the address with which it talks to
        the server, and the port.
    @param answers: where each place sees it, in the order in which they were asked.
    """
    if not answers:
        return Nat(NatKind.BLOCKED)
    first, last = answers[0], answers[-1]
    sure = len(answers) > 1
    keeps_port = first[1] == local[1]
    if len(set(answers)) > 1:
        step = last[1] - first[1] if last[0] == first[0] else 0
        return Nat(NatKind.HARD, first, keeps_port, step, sure)
    kind = NatKind.OPEN if first == local else NatKind.EASY
    return Nat(kind, first, keeps_port, sure=sure)


def next_places(nat: Nat, last: tuple[str, int]) -> list[tuple[str, int]]:
    """
    Where a hard NAT will show what this client sends next, the nearest first; empty if that cannot
    be guessed.

    @param last: where it has shown the last one.
    """
    if not nat.sequential:
        return []
    ports = [last[1] + number * nat.step for number in range(1, PREDICTED + 1)]
    return [(last[0], port) for port in ports if 0 < port < 65536]


def outlook(own: Nat, other: NatKind) -> Outlook:
    """What it takes between a client behind C{own} and one behind a NAT of the C{other} kind."""
    kinds = {own.kind, other}
    if NatKind.BLOCKED in kinds:
        return Outlook.TCP
    if kinds == {NatKind.HARD}:
        return Outlook.RELAY
    if NatKind.HARD not in kinds or NatKind.OPEN in kinds:
        return Outlook.DIRECT
    # Of a hard one elsewhere nothing else is known: at worst its ports are random.
    return Outlook.PREDICT if own.sequential else Outlook.BIRTHDAY


def in_words(nat: Nat, protocol: str = "UDP") -> str:
    """
    A sentence for people, of what the router does.

    @param protocol: what was asked over.
    """
    if nat.kind is NatKind.BLOCKED:
        return f"{protocol} is blocked: no answer comes back"
    if nat.kind is NatKind.OPEN:
        return "no NAT: the server sees this machine's own address"
    if nat.kind is NatKind.HARD:
        how = "the address differs, too"
        if nat.sequential:
            how = f"by {nat.step:+} from one to the next, so that it can be guessed"
        elif nat.step:
            how = "at random"
        return f"a hard NAT: it gives each destination another port, {how}"
    kept = "the same as here" if nat.keeps_port else "another one than here"
    if not nat.sure:
        return (
            f"a NAT, probably an easy one: the port is {kept}; only one place answered, so whether "
            "it is the same for all is not known"
        )
    return f"an easy NAT: one port for all destinations, {kept}"


_OTHERS = {
    NatKind.OPEN: "no NAT",
    NatKind.EASY: "an easy NAT",
    NatKind.HARD: "a hard NAT",
    NatKind.BLOCKED: "UDP blocked",
}
_OUTLOOKS = {
    Outlook.DIRECT: "a direct path is found",
    Outlook.PREDICT: "a direct path is found by guessing the next port (hard_nat = predict)",
    Outlook.BIRTHDAY: "a direct path takes trying many ports (hard_nat = birthday)",
    Outlook.TCP: "a direct path over TCP is found if neither NAT is hard with TCP",
    Outlook.RELAY: "the relay, unless both are in one network",
}


def pairs_in_words(nat: Nat) -> list[tuple[str, str]]:
    """For each kind of NAT that another client may have: its name, and what comes of the two."""
    lines = []
    for other, name in _OTHERS.items():
        found = outlook(nat, other)
        words = _OUTLOOKS[found]
        if found is Outlook.DIRECT and NatKind.HARD in (nat.kind, other):
            words += ", where no firewall is in front of the one without NAT"
        elif found is Outlook.BIRTHDAY and nat.kind is not NatKind.HARD:
            words += ", or guessing the next one (predict)"
        lines.append((name, words))
    return lines
