"""Whole tunnels: relaytun, and OpenSSH and fowl beside it, started as their documentation says.

The roles are the same for all: `server` is the public process, `provider` stands beside the
service, `visitor` (only where the topology has one) beside the user's program.
"""

from __future__ import annotations

import getpass
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .processes import Processes, free_port, neighbour, require
from .web import HOST

_PRIVILEGE_SEPARATION = Path("/run/sshd")


def _twistd() -> list[str]:
    beside = Path(sys.executable).with_name("twistd")
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def relaytun(run: Processes, service: int) -> int:
    """Three hops: visitor, server, provider."""
    return _relaytun(run, service, "tcp", "raw")


def relaytun_link(run: Processes, service: int) -> int:
    """The same in link mode: encrypted end to end, multiplexed, resumable."""
    return _relaytun(run, service, "tcp", "link")


def relaytun_link_udp(run: Processes, service: int) -> int:
    """A UDP service, which needs a link: datagrams sealed end to end."""
    return _relaytun(run, service, "udp", "link")


def relaytun_public(run: Processes, service: int) -> int:
    """A public port of the server, raw: two hops."""
    return _relaytun_public(run, service, "tcp", "raw")


def relaytun_public_link(run: Processes, service: int) -> int:
    """A public port in link mode: encrypted to the server, multiplexed, resumable."""
    return _relaytun_public(run, service, "tcp", "link")


def relaytun_public_link_udp(run: Processes, service: int) -> int:
    """A public UDP port."""
    return _relaytun_public(run, service, "udp", "link")


def relaytun_http(run: Processes, service: int) -> int:
    """A host name on the server's HTTP port, raw."""
    return _relaytun_http(run, service, "raw")


def relaytun_http_link(run: Processes, service: int) -> int:
    """A host name, over a link to the provider."""
    return _relaytun_http(run, service, "link")


def _relaytun_http(run: Processes, service: int, mode: str) -> int:
    port = free_port()
    client = _relaytun_server(run, f"[http]\nvhost_http_port = {port}\n")
    client(
        "provider",
        f"""[service:bench]
protocol = http
mode = {mode}
local_host = 127.0.0.1
local_port = {service}
custom_domains = {HOST}
""",
    )
    return port


def _relaytun(run: Processes, service: int, protocol: str, mode: str) -> int:
    port = free_port(protocol)
    client = _relaytun_server(run)
    client(
        "provider",
        f"""[service:bench]
protocol = {protocol}
mode = {mode}
local_host = 127.0.0.1
local_port = {service}
""",
    )
    client(
        "visitor",
        f"""[connect:bench]
target = provider
service = bench
local_host = 127.0.0.1
local_port = {port}
""",
    )
    return port


def _relaytun_public(run: Processes, service: int, protocol: str, mode: str) -> int:
    port = free_port(protocol)
    client = _relaytun_server(run, "[public]\nallow_ports = 1024-65535\n")
    client(
        "provider",
        f"""[service:bench]
protocol = {protocol}
mode = {mode}
local_host = 127.0.0.1
local_port = {service}
remote_port = {port}
""",
    )
    return port


def _relaytun_server(run: Processes, sections: str = "") -> Callable[[str, str], None]:
    """Start a server; what starts a client, of a role and with further sections."""
    twistd = [*_twistd(), "-n", "--pidfile="]
    state = run.folder / "server"
    config = run.write("server.ini", f"[server]\nsession_timeout = 1h\n{sections}")
    listen = ["--control", "0", "--relay", "0", "--host", "127.0.0.1"]
    place = ["--public-host", "127.0.0.1", "--state-dir", str(state)]
    run.spawn("server", [*twistd, "relaytun-server", "--config", config, *listen, *place])
    invite = state / "invite"
    run.wait(invite.exists, "an invite")

    def client(role: str, section: str) -> None:
        text = f"""[client]
invite_file = {invite}
client_id = {role}
state_dir = {run.folder / role}
direct = off
{section}"""
        path = run.write(f"{role}.ini", text)
        run.spawn(role, [*twistd, "relaytun-client", "--config", path])

    return client


def ssh(run: Processes, service: int) -> int:
    """OpenSSH -R with an sshd of our own: two hops, encrypted on one of them."""
    port = free_port()
    command = _sshd(run)
    run.spawn("provider", [*command, "-R", f"127.0.0.1:{port}:127.0.0.1:{service}"])
    return port


def ssh_visitor(run: Processes, service: int) -> int:
    """OpenSSH -R and -L: three hops, encrypted on both legs, plain text inside sshd."""
    meeting, port = free_port(), free_port()
    command = _sshd(run)
    run.spawn("provider", [*command, "-R", f"127.0.0.1:{meeting}:127.0.0.1:{service}"])
    run.wait_listening(meeting)
    run.spawn("visitor", [*command, "-L", f"127.0.0.1:{port}:127.0.0.1:{meeting}"])
    return port


def _sshd(run: Processes) -> list[str]:
    """Start sshd; the command of a client that logs in and runs nothing."""
    control = free_port()
    keygen = require("ssh-keygen")
    for name in ("host", "user"):
        key = str(run.folder / name)
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    config = run.write(
        "sshd_config",
        f"""Port {control}
ListenAddress 127.0.0.1
HostKey {run.folder}/host
AuthorizedKeysFile {run.folder}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
""",
    )
    if not _PRIVILEGE_SEPARATION.exists() and _PRIVILEGE_SEPARATION.parent.stat().st_uid == 0:
        try:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
        except PermissionError:
            pass  # only an sshd that runs as root wants it
        else:
            run.on_stop(_PRIVILEGE_SEPARATION.rmdir)
    run.spawn("server", [require("sshd"), "-D", "-e", "-f", config])
    run.wait_listening(control)
    options = {
        "BatchMode": "yes",
        "ExitOnForwardFailure": "yes",
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    command = [require("ssh"), "-F", "none", "-N", "-T", "-i", f"{run.folder}/user", *flags]
    return [*command, "-p", str(control), f"{getpass.getuser()}@127.0.0.1"]


def fowl(run: Processes, service: int) -> int:
    """fowl with a mailbox server of our own: two hops, encrypted end to end.

    The two sides find a direct path, so no byte passes the server.  fowl knows no option for
    another transit relay than the public one, hence there is no third hop to measure.
    """
    mailbox, port = free_port(), free_port()
    endpoint = f"tcp:{mailbox}:interface=127.0.0.1"
    run.spawn("server", [neighbour("fowl", "twist"), "wormhole-mailbox", "--port", endpoint])
    run.wait_listening(mailbox)
    command = [require("fowl"), "--no-logo", "--mailbox", f"ws://127.0.0.1:{mailbox}/v1"]
    code = f"1-{secrets.token_hex(8)}"
    run.spawn("provider", [*command, "--service", f"bench:{service}", code])
    run.spawn("visitor", [*command, "--client", f"bench:{port}", code])
    return port
