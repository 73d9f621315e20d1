"""What is compared, and in which version."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import forwarders, frp, rathole, tunnels
from .processes import Processes, RunFailed, find, neighbour

Start = Callable[[Processes, int], int]


@dataclass(frozen=True)
class Subject:
    """One program in one configuration.

    `hops` counts the processes that a byte passes; `about` is for the reader of the table;
    `start` takes the run and the service's port and returns the port to load; `version` is None
    when the program is missing; `start_udp` does what `start` does for a service that speaks UDP,
    and `start_http` opens the host name `web.HOST` on a port for HTTP.
    """

    name: str
    hops: int
    about: str
    start: Start
    version: Callable[[], str | None]
    start_udp: Start | None = None
    start_http: Start | None = None


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


def _rathole(feature: str) -> Callable[[], str | None]:
    """The version of a rathole that was built with `feature`, or None."""

    def version() -> str | None:
        path = find("rathole")
        if path is None:
            return None
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if re.search(rf"Features:.*\b{feature}\b", done.stdout) is None:
            return None
        match = re.search(r"Build Version:\s*(\S+)", done.stdout)
        return f"rathole {match.group(1) if match else '?'}"

    return version


def _fowl() -> str | None:
    """The version of fowl, or None without it or without the mailbox server in its environment."""
    version = _tool("fowl", "--version", r"fowl:\s*(\S+)")()
    try:
        plugins = subprocess.run(
            [neighbour("fowl", "twist"), "--help"], capture_output=True, text=True, check=False
        )
    except RunFailed:
        return None
    return version if "wormhole-mailbox" in plugins.stdout else None


_HAPROXY = _tool("haproxy", "-v", r"version (\S+)")
_FRP = _tool("frps", "--version", r"(\S+)", "frpc")
_SSH = _tool("ssh", "-V", r"OpenSSH_(\S+?),? ", "sshd", "ssh-keygen")

SUBJECTS = [
    Subject(
        "direct",
        0,
        "no hop: the load alone",
        forwarders.direct,
        lambda: "",
        start_udp=forwarders.direct,
    ),
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
        "relaytun-link",
        3,
        "link: TLS end to end, multiplexed",
        tunnels.relaytun_link,
        _relaytun,
        start_udp=tunnels.relaytun_link_udp,
    ),
    Subject(
        "relaytun-public",
        2,
        "public port, raw mode",
        tunnels.relaytun_public,
        _relaytun,
        start_http=tunnels.relaytun_http,
    ),
    Subject(
        "relaytun-public-link",
        2,
        "public port, link: TLS to the server, multiplexed",
        tunnels.relaytun_public_link,
        _relaytun,
        start_udp=tunnels.relaytun_public_link_udp,
        start_http=tunnels.relaytun_http_link,
    ),
    Subject(
        "rathole", 2, "plain TCP", rathole.plain, _rathole("client"), start_udp=rathole.plain_udp
    ),
    Subject("rathole-tls", 2, "TLS", rathole.tls, _rathole("tls"), start_udp=rathole.tls_udp),
    Subject(
        "rathole-noise", 2, "noise", rathole.noise, _rathole("noise"), start_udp=rathole.noise_udp
    ),
    Subject(
        "frp",
        2,
        "tcp, no mux, no TLS",
        frp.plain,
        _FRP,
        start_udp=frp.plain_udp,
        start_http=frp.plain_http,
    ),
    Subject("frp-stcp", 3, "stcp with a visitor, no mux, no TLS", frp.stcp_plain, _FRP),
    Subject(
        "frp-default",
        2,
        "tcp with frp's defaults: mux, TLS to the server",
        frp.default,
        _FRP,
        start_udp=frp.default_udp,
        start_http=frp.default_http,
    ),
    Subject(
        "frp-stcp-default",
        3,
        "stcp with a visitor and frp's defaults: mux, TLS on each leg",
        frp.stcp_default,
        _FRP,
    ),
    Subject("ssh", 2, "-R, encrypted to the server", tunnels.ssh, _SSH),
    Subject("ssh-visitor", 3, "-R and -L, encrypted on each leg", tunnels.ssh_visitor, _SSH),
    Subject("fowl", 2, "direct path, encrypted end to end", tunnels.fowl, _fowl),
]

#: What encrypts and is compared with a link: a link has to be as fast as the best of them.
ENCRYPTED = (
    "rathole-tls",
    "rathole-noise",
    "frp-default",
    "frp-stcp-default",
    "ssh",
    "ssh-visitor",
    "fowl",
)
