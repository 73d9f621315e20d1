"""What is compared, and in which version."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import forwarders, tunnels
from .processes import Processes, find


@dataclass(frozen=True)
class Subject:
    """One program in one configuration.

    `hops` counts the processes that a byte passes; `about` is for the reader of the table;
    `start` takes the run and the service's port and returns the port to load; `version` is None
    when the program is missing.
    """

    name: str
    hops: int
    about: str
    start: Callable[[Processes, int], int]
    version: Callable[[], str | None]
    extra: bool = False


def _tool(program: str, flag: str, pattern: str, *also: str) -> Callable[[], str | None]:
    """The version that `program` prints, or None when it (or one of `also`) is missing."""

    def version() -> str | None:
        path = find(program)
        if path is None or not all(find(other) for other in also):
            return None
        done = subprocess.run([path, flag], capture_output=True, text=True, check=False)
        match = re.search(pattern, done.stdout + done.stderr)
        return f"{program} {match.group(1) if match else '?'}"

    return version


def _package(name: str) -> Callable[[], str | None]:
    """The version of an installed distribution, or None."""

    def version() -> str | None:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            return None

    return version


def _relaytun() -> str | None:
    """The version of relaytun, with the commit where the checkout has one."""
    version = _package("relaytun")()
    root = Path(__file__).resolve().parent.parent
    if version is None or find("git") is None:
        return version
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    commit = done.stdout.strip()
    return f"{version} ({commit})" if commit else version


_HAPROXY = _tool("haproxy", "-v", r"version (\S+)")
_FRP = _tool("frps", "--version", r"(\S+)", "frpc")

SUBJECTS = [
    Subject("direct", 0, "no hop: the load alone", forwarders.direct, lambda: ""),
    Subject("haproxy", 1, "TCP mode, one thread", forwarders.haproxy, _HAPROXY),
    Subject(
        "haproxy-auto",
        1,
        "the same, option splice-auto",
        forwarders.haproxy_splice_auto,
        _HAPROXY,
    ),
    Subject(
        "haproxy-splice",
        1,
        "the same, options splice-request and splice-response",
        forwarders.haproxy_splice,
        _HAPROXY,
    ),
    Subject(
        "nginx", 1, "stream, one worker", forwarders.nginx, _tool("nginx", "-v", r"nginx/(\S+)")
    ),
    Subject(
        "socat",
        1,
        "a process for each stream",
        forwarders.socat,
        _tool("socat", "-V", r"socat version (\S+)"),
    ),
    Subject("portforward", 1, "Twisted's own", forwarders.portforward, _package("Twisted")),
    Subject("relaytun", 3, "raw mode", tunnels.relaytun, _relaytun),
    Subject(
        "relaytun-link", 3, "encrypted end to end", tunnels.relaytun_link, _relaytun, extra=True
    ),
    Subject(
        "rathole",
        2,
        "plain TCP",
        tunnels.rathole,
        _tool("rathole", "--version", r"Build Version:\s*(\S+)"),
    ),
    Subject("frp", 2, "tcp, no mux, no TLS", tunnels.frp, _FRP),
    Subject("frp-stcp", 3, "stcp with a visitor, no mux, no TLS", tunnels.frp_stcp, _FRP),
    Subject("frp-default", 2, "tcp with frp's defaults: mux, TLS", tunnels.frp_default, _FRP),
    Subject(
        "ssh",
        2,
        "-R, encrypted",
        tunnels.ssh,
        _tool("ssh", "-V", r"OpenSSH_(\S+?),? ", "sshd", "ssh-keygen"),
    ),
]
