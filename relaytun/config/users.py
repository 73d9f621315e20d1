"""
The sections C{[user:NAME]}: who may sign in at the server, and what each may do.

Only what the keys mean. Whether somebody is within it is for the server to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from relaytun.config import values
from relaytun.config.domains import domain_patterns
from relaytun.config.networks import PortRange, port_ranges
from relaytun.config.section import Section, T
from relaytun.config.source import Source

_PATTERN = re.compile(r"[A-Za-z0-9*][A-Za-z0-9*._-]{0,63}")
_EMPTY_TOKEN = "write the secret by which this user signs in"
_STAND_IN = "?"


class UserConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    Somebody who has a token of his own.

    In patterns C{*} stands for any number of characters.

    @ivar client_ids: patterns of the ids that his clients may have; L{None}: any.
    @ivar ports: the public ports that they may have, of those that C{allow_ports} of the
        server has; L{None}: any of these; empty: none.
    @ivar domains: the host names that they may have: names, of which the first label may be
        C{*}, or C{*}; L{None}: any; empty: none.
    @ivar visit: patterns C{CLIENT/SERVICE}, or C{SERVICE} of any client, or C{*}: what they may
        visit; L{None}: anything; empty: nothing.
    @ivar bandwidth_up, bandwidth_down: bytes a second from and to his services, all together;
        0: no limit.
    @ivar quota: bytes a month in both directions together; 0: no limit.
    """

    name: str
    token: str
    client_ids: tuple[str, ...] | None = None
    ports: tuple[PortRange, ...] | None = None
    domains: tuple[str, ...] | None = None
    visit: tuple[str, ...] | None = None
    bandwidth_up: int = 0
    bandwidth_down: int = 0
    quota: int = 0

    def __repr__(self) -> str:
        """Show the name and never the token."""
        return f"<UserConfig {self.name}>"


def read_users(source: Source, server_token: str | None) -> tuple[UserConfig, ...]:
    """
    Read the users, of whom no two have the same token.

    @param server_token: is no user's either.
    """
    users = []
    taken = {} if server_token is None else {server_token: "the server"}
    for section in source.all("user"):
        user = _user(section)
        other = taken.setdefault(user.token, f"[user:{user.name}]")
        if user.token not in (_STAND_IN,) and other != f"[user:{user.name}]":
            key = "token" if "token" in section.entries else "token_file"
            section.note(key, f"is the token of {other} as well: give each its own")
        users.append(user)
    return tuple(users)


def read_bandwidth(section: Section) -> tuple[int, int]:
    """Read the limits up and down; C{bandwidth} is for each of the two that has no own key."""
    both = section.get("bandwidth", values.size, 0)
    up = section.get("bandwidth_up", values.size, both)
    return up, section.get("bandwidth_down", values.size, both)


def _user(section: Section) -> UserConfig:
    token = section.token(_EMPTY_TOKEN)
    if "token" not in section.entries and "token_file" not in section.entries:
        section.note("token", f"missing: {_EMPTY_TOKEN}")
    if section.empty("client_ids"):
        section.note("client_ids", "empty: name at least one id, or remove the key to allow any")
    up, down = read_bandwidth(section)
    return UserConfig(
        name=section.need("name", values.identifier, "", "give the user a name: [user:NAME]"),
        token=token or _STAND_IN,
        client_ids=_list(section, "client_ids", _client_patterns),
        ports=_list(section, "ports", port_ranges),
        domains=_list(section, "domains", domain_patterns),
        visit=_list(section, "visit", _visit_patterns),
        bandwidth_up=up,
        bandwidth_down=down,
        quota=section.get("quota", values.size, 0),
    )


def _list(
    section: Section, key: str, parse: Callable[[str], tuple[T, ...]]
) -> tuple[T, ...] | None:
    """Read a list of what is allowed: absent is anything, empty is nothing."""
    return () if section.empty(key) else section.get_lines(key, parse, None)


def _client_patterns(text: str) -> tuple[str, ...]:
    words = values.words(text)
    if not words or not all(map(_PATTERN.fullmatch, words)):
        raise ValueError("not patterns of client ids: write ids with * in them, such as alice-*")
    return tuple(dict.fromkeys(words))


def _visit_patterns(text: str) -> tuple[str, ...]:
    words = values.words(text)
    for word in words:
        client, slash, service = word.rpartition("/")
        if _PATTERN.fullmatch(service) is None or (slash and not _PATTERN.fullmatch(client)):
            raise ValueError(
                "not what may be visited: write CLIENT/SERVICE, SERVICE or *, each with * in it "
                "or not, such as office-*/web"
            )
    return tuple(dict.fromkeys(words))
