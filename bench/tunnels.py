"""Whole tunnels: relaytun and its peers, each started as its documentation says.

The roles are the same for all: `server` is the public process, `provider` stands beside the
service, `visitor` (only where the topology has one) beside the user's program.
"""

from __future__ import annotations

import getpass
import secrets
import subprocess
import sys
from pathlib import Path

from .processes import Processes, free_port, require

_PRIVILEGE_SEPARATION = Path("/run/sshd")


def _twistd() -> list[str]:
    beside = Path(sys.executable).with_name("twistd")
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def relaytun(run: Processes, service: int, mode: str = "raw") -> int:
    """Three hops: visitor, server, provider."""
    port = free_port()
    twistd = [*_twistd(), "-n", "--pidfile="]
    state = run.folder / "server"
    config = run.write("server.ini", "[server]\nsession_timeout = 1h\n")
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
{section}"""
        path = run.write(f"{role}.ini", text)
        run.spawn(role, [*twistd, "relaytun-client", "--config", path])

    client(
        "provider",
        f"""[service:bench]
protocol = tcp
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


def relaytun_link(run: Processes, service: int) -> int:
    """The same in link mode: encrypted end to end, resumable."""
    return relaytun(run, service, "link")


def ssh(run: Processes, service: int) -> int:
    """OpenSSH -R with an sshd of our own: two hops, encrypted on one of them."""
    control, port = free_port(), free_port()
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
    forward = ["-R", f"127.0.0.1:{port}:127.0.0.1:{service}"]
    where = ["-p", str(control), f"{getpass.getuser()}@127.0.0.1"]
    run.spawn("provider", [*command, *forward, *where])
    return port


def rathole(run: Processes, service: int) -> int:
    """rathole over its plain TCP transport: two hops."""
    control, port, token = free_port(), free_port(), secrets.token_hex(16)
    server = run.write(
        "server.toml",
        f"""[server]
bind_addr = "127.0.0.1:{control}"
default_token = "{token}"
[server.services.bench]
bind_addr = "127.0.0.1:{port}"
""",
    )
    client = run.write(
        "client.toml",
        f"""[client]
remote_addr = "127.0.0.1:{control}"
default_token = "{token}"
[client.services.bench]
local_addr = "127.0.0.1:{service}"
""",
    )
    program, quiet = require("rathole"), {"RUST_LOG": "error"}
    run.spawn("server", [program, "--server", server], quiet)
    run.wait_listening(control)
    run.spawn("provider", [program, "--client", client], quiet)
    return port


def _frps(run: Processes, extra: str) -> str:
    """Start frps; the lines that a frpc needs to reach it."""
    control, token = free_port(), secrets.token_hex(16)
    auth = f'auth.token = "{token}"\nlog.level = "error"\n{extra}'
    config = run.write("frps.toml", f'bindAddr = "127.0.0.1"\nbindPort = {control}\n{auth}')
    run.spawn("server", [require("frps"), "-c", config])
    run.wait_listening(control)
    return f'serverAddr = "127.0.0.1"\nserverPort = {control}\n{auth}'


def _frpc(run: Processes, role: str, text: str) -> None:
    run.spawn(role, [require("frpc"), "-c", run.write(f"{role}.toml", text)])


def _frp_tcp(run: Processes, service: int, server: str, client: str) -> int:
    port = free_port()
    common = _frps(run, server)
    proxy = f"""{client}
[[proxies]]
name = "bench"
type = "tcp"
localIP = "127.0.0.1"
localPort = {service}
remotePort = {port}
"""
    _frpc(run, "provider", common + proxy)
    return port


_NO_MUX = "transport.tcpMux = false\n"
_NO_TLS = "transport.tls.enable = false\n"


def frp(run: Processes, service: int) -> int:
    """frp without multiplexing and TLS, its nearest to raw mode: two hops."""
    return _frp_tcp(run, service, _NO_MUX, _NO_TLS)


def frp_default(run: Processes, service: int) -> int:
    """frp with its defaults (multiplexed, TLS): two hops."""
    return _frp_tcp(run, service, "", "")


def frp_stcp(run: Processes, service: int) -> int:
    """frp's stcp with a visitor, without multiplexing and TLS: three hops, as relaytun has."""
    port, secret = free_port(), secrets.token_hex(16)
    common = _frps(run, _NO_MUX) + _NO_TLS
    provider = f"""
[[proxies]]
name = "bench"
type = "stcp"
secretKey = "{secret}"
localIP = "127.0.0.1"
localPort = {service}
"""
    visitor = f"""
[[visitors]]
name = "visitor"
type = "stcp"
serverName = "bench"
secretKey = "{secret}"
bindAddr = "127.0.0.1"
bindPort = {port}
"""
    _frpc(run, "provider", common + provider)
    _frpc(run, "visitor", common + visitor)
    return port
