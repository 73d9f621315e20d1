"""What is compared, in the homes of a NAT lab: a program at b reaches a service at a."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.natlab.daemons import Daemons
from tests.natlab.lab import SERVER, SERVER_TOO, Lab

from .. import proc
from ..processes import Processes, RunFailed, Script, find, require

#: Where programs of plain TLS are reached through a's router, and socat at b by its program.
_TLS_PORT, _SOCAT_PORT, _SOCAT_LOCAL_PORT = 7443, 7444, 7445
_STUN_PORT = 3478
_START_SECONDS = 15.0
#: Daemons that seek a direct path, and those that do not.
AUTO, OFF = "direct = auto", "direct = off"


@dataclass
class Place:
    """
    A lab with a service at a, in which subjects are started.

    @ivar kept: ends with the lab; what is started goes there.
    """

    lab: Lab
    kept: contextlib.ExitStack
    service: Script
    port: int

    @classmethod
    def build(cls, kept: contextlib.ExitStack, delay_ms: int, tcp: bool = True) -> Place:
        """Two homes behind usual routers; without C{tcp} none passes between them."""
        lab = kept.enter_context(Lab("portrest", "portrest", delay_ms=delay_ms))
        if not tcp:
            lab.cut_direct("tcp")
        service = kept.enter_context(Script("service.py", within=lab.command("a")))
        return cls(lab, kept, service, int(service.hear(10)))

    def processes(self) -> Processes:
        """Processes that end with the lab."""
        return self.kept.enter_context(Processes())

    def forward(self, port: int) -> str:
        """a's router hands this TCP port on; returns the address to dial."""
        rule = f"iifname wan tcp dport {port} dnat to {self.lab.address('a')}:{port}"
        self.lab.run("na", "nft", "add", "rule", "ip", "lab", "before", *rule.split())
        return self.lab.address("na")

    def await_echo(self, port: int) -> None:
        """Wait until a byte comes back through a port at b."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._echoes(port):
            if time.monotonic() > deadline:
                raise RunFailed(f"no echo within {_START_SECONDS:.0f} s")
            time.sleep(0.1)

    def _echoes(self, port: int) -> bool:
        try:
            with self.lab.dial("b", "127.0.0.1", port) as stream:
                stream.settimeout(3)
                stream.sendall(b"E")
                return stream.recv(1) == b"E"
        except OSError:
            return False


@dataclass
class Running:
    """
    A started subject.

    @ivar load: the script that drives it, and how that is called; it gets C{--bytes} as well.
    @ivar pids: by role: C{provider}, C{visitor}, C{server}.
    @ivar check: fails with L{RunFailed} if it is not any more what it should be.
    """

    place: Place
    load: tuple[str, ...]
    pids: dict[str, list[int]] = field(default_factory=dict)
    check: Callable[[], object] = lambda: None

    def start_load(self, size: int) -> Script:
        """A load process that has still to be told to begin."""
        script, *words = self.load
        within = self.place.lab.command("b")
        return Script(script, *words, "--bytes", str(size), within=within)

    def cpu(self, load: Script) -> dict[str, float]:
        """CPU seconds so far: of each role, and of the two programs."""
        used = {role: proc.cpu_seconds(pids) for role, pids in self.pids.items()}
        return used | {"load": proc.cpu_seconds([load.pid, self.place.service.pid])}


@dataclass(frozen=True)
class Subject:
    """
    @ivar mib: the size of one transfer without delay, and with it.
    @ivar tcp: whether TCP passes between the two homes.
    @ivar needs: programs.
    """

    name: str
    about: str
    start: Callable[[Place], Running]
    mib: tuple[int, int]
    tcp: bool = True
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Programs that are not here."""
        return [program for program in self.needs if find(program) is None]


def _through(place: Place, port: int, run: Processes) -> Running:
    """A tunnel that leads from a port at b to the service."""
    place.await_echo(port)
    pids = {role: run.pids(role) for role in run.roles}
    return Running(place, ("load.py", "throughput", "--port", str(port)), pids)


# --- relaytun ---------------------------------------------------------------------------------


def _relaytun(place: Place, client: str, path: str) -> Running:
    daemons = place.kept.enter_context(
        contextlib.closing(Daemons(place.lab, client=client, port=place.port))
    )
    # One stream stays open for all the time: its link stays as it is.
    held = place.kept.enter_context(daemons.dial())
    held.sendall(b"E")
    held.recv(1)
    daemons.await_path(lambda seen: seen == path)

    def check() -> None:
        if (now := daemons.path()) != path:
            raise RunFailed(f"the path is {now!r}, not {path!r}")

    return Running(
        place,
        ("load.py", "throughput", "--port", str(daemons.port)),
        {
            "provider": [daemons.provider.pid],
            "visitor": [daemons.visitor.pid],
            "server": [daemons.server.pid],
        },
        check,
    )


# --- Plain TLS --------------------------------------------------------------------------------


def _certificate(run: Processes) -> str:
    """A file with a fresh key and certificate."""
    path = run.write("tls.pem", "")
    command = [require("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"]
    command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=bench"]
    subprocess.run([*command, "-keyout", path, "-out", path], check=True, capture_output=True)
    # OpenSSL wrote the one over the other where both have one name: it writes the key first.
    if "PRIVATE KEY" not in (text := run.folder.joinpath("tls.pem").read_text()):
        raise RunFailed(f"openssl wrote {len(text)} bytes without a key")
    return path


def _tls(place: Place) -> Running:
    run = place.processes()
    host = place.forward(_TLS_PORT)
    receiver = place.kept.enter_context(
        Script(
            "direct/tls.py",
            *("receive", str(_TLS_PORT), _certificate(run)),
            within=place.lab.command("a"),
        )
    )
    receiver.hear(10)
    load = ("direct/tls.py", "send", "--host", host, "--port", str(_TLS_PORT))
    return Running(place, load, {"provider": [receiver.pid]})


def _socat(place: Place) -> Running:
    run = place.processes()
    host = place.forward(_SOCAT_PORT)
    version, nodelay = "openssl-min-proto-version=TLS1.3", "nodelay"
    listening = f"OPENSSL-LISTEN:{_SOCAT_PORT},fork,reuseaddr,verify=0,{version},{nodelay}"
    listening += f",cert={_certificate(run)}"
    socat = [require("socat"), "-b", "65536"]
    target = f"TCP:127.0.0.1:{place.port},{nodelay}"
    run.spawn("provider", place.lab.command("a", *socat, listening, target))
    local = f"TCP-LISTEN:{_SOCAT_LOCAL_PORT},bind=127.0.0.1,fork,reuseaddr,{nodelay}"
    remote = f"OPENSSL:{host}:{_SOCAT_PORT},verify=0,{version},{nodelay}"
    run.spawn("visitor", place.lab.command("b", *socat, local, remote))
    return _through(place, _SOCAT_LOCAL_PORT, run)


# --- frp --------------------------------------------------------------------------------------


def _frp(place: Place, kind: str, port: int, client: str = "", visitor: str = "") -> Running:
    run, secret = place.processes(), secrets.token_hex(16)
    auth = f'auth.token = "{secrets.token_hex(16)}"\nlog.level = "info"\n'
    config = run.write("frps.toml", f'bindAddr = "{SERVER}"\nbindPort = {port}\n{auth}')
    run.spawn("server", place.lab.command("s", require("frps"), "-c", config))
    common = f'serverAddr = "{SERVER}"\nserverPort = {port}\nloginFailExit = false\n{auth}{client}'
    proxy = f"""{common}
[[proxies]]
name = "bench"
type = "{kind}"
secretKey = "{secret}"
localIP = "127.0.0.1"
localPort = {place.port}
"""
    visit = f"""{common}
[[visitors]]
name = "visitor"
type = "{kind}"
serverName = "bench"
secretKey = "{secret}"
bindAddr = "127.0.0.1"
bindPort = {port + 1}
{visitor}"""
    for role, host, text in (("provider", "a", proxy), ("visitor", "b", visit)):
        command = [require("frpc"), "-c", run.write(f"{role}.toml", text)]
        run.spawn(role, place.lab.command(host, *command))
    return _through(place, port + 1, run)


def _stcp(place: Place) -> Running:
    return _frp(place, "stcp", 7000)


def _xtcp(place: Place) -> Running:
    stun = Script(
        "direct/stun.py",
        *(SERVER, SERVER_TOO, str(_STUN_PORT)),
        within=place.lab.command("s"),
    )
    place.kept.enter_context(stun).hear(10)
    where = f'natHoleStunServer = "{SERVER}:{_STUN_PORT}"\n'
    return _frp(place, "xtcp", 7010, where, "keepTunnelOpen = true\nmaxRetriesAnHour = 100\n")


SUBJECTS = (
    Subject(
        "tls",
        "no tunnel: two Python programs that speak TLS 1.3 over TCP themselves",
        _tls,
        (256, 48),
        needs=("openssl",),
    ),
    Subject(
        "socat-tls",
        "a tunnel of the same kind: local TCP, TLS 1.3 over TCP between two socat, local TCP",
        _socat,
        (256, 48),
        needs=("openssl", "socat"),
    ),
    Subject(
        "tcp-direct",
        "relaytun, punched TCP",
        lambda place: _relaytun(place, AUTO, "tcp-direct"),
        (256, 48),
    ),
    Subject(
        "quic",
        "relaytun where only UDP passes between the homes",
        lambda place: _relaytun(place, AUTO, "quic"),
        (24, 12),
        tcp=False,
    ),
    Subject(
        "relay",
        "relaytun with direct = off",
        lambda place: _relaytun(place, OFF, "relay"),
        (256, 48),
    ),
    Subject(
        "frp-stcp",
        "frp over its server, with its defaults: the server sees plain text",
        _stcp,
        (256, 48),
        needs=("frps", "frpc"),
    ),
    Subject(
        "frp-xtcp",
        "frp's direct path (QUIC over punched UDP), with its defaults",
        _xtcp,
        (64, 24),
        needs=("frps", "frpc"),
    ),
)
