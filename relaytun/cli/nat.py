"""
C{relaytun nat}: what kind of NAT this machine is behind, and what that means for a direct path.

It asks the server's reflectors from a UDP socket and a TCP port of its own; a daemon's have other
ports, but the router is the same.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import click
import msgspec
from msgspec import UNSET
from twisted.internet.error import DNSLookupError

from ..config import ClientConfig
from ..ends.resolve import addresses_of
from ..errors import UserError
from ..interfaces import IReactor
from ..nat.classify import Nat, NatKind, classify, in_words, outlook, pairs_in_words
from ..nat.interfaces import local_address_towards, local_addresses
from ..nat.reflection import Reflection, ask
from ..nat.tcpreflection import TCPReflection
from ..wire.messages import RelayAddress
from ..wire.text import printable
from .online import online
from .options import client_config, client_options, json_option
from .running import run
from .show import host_and_port, milliseconds, print_json, print_table


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """
    What has been found out.

    @ivar udp, tcp: how the router treats each.
    @ivar udp_local, tcp_local: where the sockets are that have asked; the host is the address with
        which this machine talks to the server.
    @ivar rtt: seconds to the server and back, over UDP or else TCP.
    @ivar addresses: what this machine has to offer within its network.
    """

    udp: Nat
    tcp: Nat
    udp_local: tuple[str, int]
    tcp_local: tuple[str, int]
    rtt: float | None
    addresses: list[str]


@click.command()
@client_options
@json_option
def nat(as_json: bool, **options: str | None) -> None:
    """Tell what kind of NAT there is, and which clients a direct path leads to."""
    config = client_config(**options)
    finding = run(lambda reactor: _find_out(reactor, config))
    if as_json:
        print_json({"nat": as_values(finding)})
        return
    for name, text in rows(finding):
        click.echo(f"{name:<17}{text}")
    click.echo()
    if config.direct == "off":
        click.echo("direct = off: all goes by the relay, whatever there could be")
    print_table(("the other client has", "what comes of it"), pairs_in_words(finding.udp))


async def _find_out(reactor: IReactor, config: ClientConfig) -> Finding:
    async with online(reactor, config) as connection:
        assert connection.control is not None
        reflectors = connection.control.response.reflectors
        if reflectors is UNSET or not reflectors:
            raise UserError(
                "the server does not tell how it sees its clients: its reflector_port is empty, "
                "or its version too old"
            )
        places = await places_of(reactor, reflectors)
        return await find_out(reactor, places)


async def places_of(reactor: IReactor, reflectors: Iterable[RelayAddress]) -> list[tuple[str, int]]:
    """
    @return: literal addresses, all of the family of the first one.
    @raise UserError: if there is none.
    """
    places: list[tuple[str, int]] = []
    wanted: socket.AddressFamily | None = None
    for each in reflectors:
        try:
            found = await addresses_of(reactor, each.host)
        except DNSLookupError:
            raise UserError(f"there is no host {printable(each.host)}, of the server") from None
        wanted = wanted or found[0][0]
        places += [(host, each.port) for family, host in found if family == wanted][:1]
    return places


async def find_out(reactor: IReactor, places: list[tuple[str, int]]) -> Finding:
    """@param places: reflectors: literal hosts of one family, at least one."""
    host = local_address_towards(places[0][0]) or "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    over_tcp = TCPReflection(reactor, places, host)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((host, 0))
            udp_local = host, int(sock.getsockname()[1])
            udp: Reflection = await ask(reactor, sock, places)
        tcp: Reflection = await over_tcp.done
    finally:
        over_tcp.close()
    tcp_local = host, over_tcp.port
    return Finding(
        udp=classify(udp_local, udp.external),
        tcp=classify(tcp_local, tcp.external),
        udp_local=udp_local,
        tcp_local=tcp_local,
        rtt=tcp.rtt if udp.rtt is None else udp.rtt,
        addresses=local_addresses(),
    )


def rows(finding: Finding) -> list[tuple[str, str]]:
    """It for people, by names of 16 letters at most; of what others have said nothing is in it."""
    return [
        ("UDP", in_words(finding.udp)),
        *_seen(finding.udp, finding.udp_local),
        ("TCP", in_words(finding.tcp, "TCP")),
        *_seen(finding.tcp, finding.tcp_local),
        ("local addresses", ", ".join(finding.addresses) or "none that others could reach"),
        ("server", f"{milliseconds(finding.rtt)} there and back"),
    ]


def _seen(nat: Nat, local: tuple[str, int]) -> list[tuple[str, str]]:
    if nat.external is None:
        return []
    return [("", f"seen as {host_and_port(*nat.external)}, here {host_and_port(*local)}")]


def as_values(finding: Finding) -> dict[str, Any]:
    """What C{--json} prints of it."""
    return {
        **_nat_values(finding.udp, finding.udp_local),
        "meaning": in_words(finding.udp),
        "udp": finding.udp.kind is not NatKind.BLOCKED,
        "pairs": {kind.value: outlook(finding.udp, kind).value for kind in NatKind},
        "tcp": _nat_values(finding.tcp, finding.tcp_local),
        "addresses": finding.addresses,
        "rtt": finding.rtt,
    }


def _nat_values(nat: Nat, local: tuple[str, int]) -> dict[str, Any]:
    return {
        "kind": nat.kind.value,
        "sure": nat.sure,
        "external": _address(nat.external),
        "local": _address(local),
        "keepsPort": nat.keeps_port,
        "step": nat.step,
        "sequential": nat.sequential,
    }


def _address(address: tuple[str, int] | None) -> dict[str, Any] | None:
    return None if address is None else {"host": address[0], "port": address[1]}
