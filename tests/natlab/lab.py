"""
Two clients behind NATs of chosen behaviour, and a server, as namespaces of the network: C{lab.sh}
for tests.

Sockets can be had in each of them without a process.  What runs there is ended with the lab, and
what an earlier run of the tests left behind is taken down by the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import itertools
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from twisted.trial.unittest import SkipTest

from ..integration.processes import PATIENCE, Process, ProcessTestCase, needs, program

SERVER = "203.0.113.10"
#: The server's second address.
SERVER_TOO = "203.0.113.11"

_FOLDER = Path(__file__).parent
_CLONE_NEWNET = 0x40000000
#: Of nfnetlink: a request to forget all connections, which is answered.
_NETLINK_NETFILTER = 12
_FORGET = struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 1 | 4, 1, 0, 0, 0, 0)

_CUT = """
table ip lab_cut {{
    chain arriving {{
        type filter hook prerouting priority raw; policy accept;
        iifname eth0 ip saddr != {{ {near}, 203.0.113.0/24 }} {what} drop
    }}
}}
"""
#: Of the server, which answers nobody new.
_REFUSE = """
table ip lab_refuse {
    chain arriving {
        type filter hook prerouting priority raw; policy accept;
        tcp flags & (syn | ack) == syn drop
    }
}
"""
#: Dropped at the device, since a program is told when it happens above.
_BLOCK = """
table netdev lab_block {{
    chain arriving {{
        type filter hook ingress device eth0 priority 0; policy accept;
        {what} drop
    }}
    chain leaving {{
        type filter hook egress device eth0 priority 0; policy accept;
        {what} drop
    }}
}}
"""

_numbers = itertools.count()
_standing: set[str] = set()
_probing = threading.Lock()


def require() -> None:
    """@raise SkipTest: if no lab can be built here."""
    needs("ip", "nft", "bash", "awk")
    if os.geteuid() != 0:
        raise SkipTest("only root may make network namespaces")
    with _probing:
        reason = _impossible()
    if reason:
        raise SkipTest(reason)


@functools.cache
def _impossible() -> str:
    """Why the kernel has no lab for us, or nothing."""
    ip, name = program("ip"), f"rtl-{os.getpid()}-probe"
    made = subprocess.run([ip, "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    nft = [ip, "netns", "exec", name, program("nft"), "-f", "-"]
    rules = _BLOCK.format(what="meta l4proto udp").replace("eth0", "lo")
    try:
        done = subprocess.run(nft, input=rules, capture_output=True, text=True)
    finally:
        subprocess.run([ip, "netns", "del", name], check=True)
    return f"the kernel lacks what the lab needs: {done.stderr.strip()}" if done.returncode else ""


class Lab:
    """
    Hosts C{a} and C{b} behind the routers C{na} and C{nb} (and C{nc}), and the server's, C{s}.

    @ivar name: the beginning of the namespaces' names.
    @ivar types: of the two NATs.
    """

    def __init__(
        self,
        type_a: str,
        type_b: str,
        *,
        delay_ms: int = 0,
        loss_permille: int = 0,
        udp_timeout: int = 30,
        lan_b: str = "192.168.2",
        cgn: str | None = None,
    ) -> None:
        """
        @param type_a: one that C{lab.sh types} lists; C{type_b} likewise.
        @param delay_ms: one way, on the wire of each home; none on the server's.
        @param loss_permille: of the packets, each way, on the same wires.
        @param udp_timeout: seconds for which a mapping lives without a packet.
        @param lan_b: the first three numbers of the addresses in b's home.
        @param cgn: the type of a NAT above both homes.
        @raise SkipTest: if there can be none here.
        """
        require()
        _take_down_remains()
        self.types = type_a, type_b
        self.name = f"rtl-{os.getpid()}-{next(_numbers)}"
        self._udp_timeout = udp_timeout
        _standing.add(self.name)
        settings = {
            "UDP_TIMEOUT": str(udp_timeout),
            "LAN_B": lan_b,
            "CGN": cgn or "",
            "DELAY": str(delay_ms),
            "LOSS": str(loss_permille),
        }
        if delay_ms or loss_permille:
            settings["DELAYBOX"] = _delaybox()
        try:
            self._script("up", type_a, type_b, **settings)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Everything goes, and what still runs there is killed.  A second time does no harm."""
        if self.name in _standing:
            self._script("down")
            _standing.discard(self.name)

    # --- What happens inside --------------------------------------------------------------------

    def command(self, host: str, *arguments: str) -> list[str]:
        """A command line that runs another one there; its process becomes that program."""
        return [program("ip"), "netns", "exec", f"{self.name}-{host}", *arguments]

    def run(self, host: str, *arguments: str, given: str = "") -> str:
        """Run a program there to its good end; returns its output."""
        done = subprocess.run(
            self.command(host, program(arguments[0]), *arguments[1:]),
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def start(
        self, testcase: ProcessTestCase, host: str, name: str, *arguments: str, **environment: str
    ) -> Process:
        """A process of the test's, there: its pid is the program's."""
        return testcase.start(name, *self.command(host, *arguments), **environment)

    def open_socket(self, host: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """An IPv4 socket of this process, there, with the usual patience."""
        with self._inside(host):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(PATIENCE)
        return made

    def udp(self, host: str, address: str = "", port: int = 0) -> socket.socket:
        """A bound UDP socket there."""
        made = self.open_socket(host, socket.SOCK_DGRAM)
        made.bind((address, port))
        return made

    def listen(self, host: str, address: str = "127.0.0.1", port: int = 0) -> socket.socket:
        """A listening TCP socket there."""
        made = self.open_socket(host)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(1024)
        return made

    def dial(self, host: str, address: str, port: int) -> socket.socket:
        """A TCP connection from there."""
        made = self.open_socket(host)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    # --- The network ----------------------------------------------------------------------------

    def address(self, host: str) -> str:
        """Of a client or the server, its only or first one; of a router, the outer one."""
        device = "wan" if host in ("na", "nb", "nc") else "eth0"
        (shown,) = json.loads(self._ip(host, "-j", "-4", "addr", "show", "dev", device))
        return str(shown["addr_info"][0]["local"])

    def gateway(self, host: str) -> str:
        """The next hop of a host's default route."""
        (route,) = json.loads(self._ip(host, "-j", "-4", "route", "show", "default"))
        return str(route["gateway"])

    def router(self, host: str) -> str:
        """The namespace of the router that C{a} or C{b} is behind; it may be C{pub}."""
        here = [name for name in (f"n{host}", "na") if self._exists(name)]
        same = self.types[1].startswith("same")
        return here[0] if here and (here[0] == f"n{host}" or same) else "pub"

    def flush(self) -> None:
        """The NATs forget everything."""
        for host in filter(self._exists, ("na", "nb", "nc")):
            with self._inside(host):
                netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
            with netlink:
                netlink.settimeout(PATIENCE)
                netlink.send(_FORGET)
                (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
            if error:
                raise OSError(-error, os.strerror(-error))
            maps = re.findall(r"map (cone|loops) \{", self.run(host, "nft", "list", "maps"))
            if maps:
                rules = "".join(f"flush map ip lab {name}\n" for name in maps)
                self.run(host, "nft", "-f", "-", given=rules)

    def cut_direct(self, protocol: str = "", hosts: str = "ab") -> None:
        """
        Nothing of the other client arrives any more; the server is reached as before.

        @param protocol: C{tcp} or C{udp}: only that is cut.
        @param hosts: where nothing arrives.
        """
        what = f"meta l4proto {protocol}" if protocol else ""
        for host in hosts:
            near = self.gateway(host)
            self._rules(host, "ip lab_cut", _CUT.format(near=near, what=what))

    def cut_large(self, most: int) -> None:
        """No packet of the other client's with more than C{most} bytes arrives; nobody is told."""
        for host in "ab":
            rules = _CUT.format(near=self.gateway(host), what=f"meta length > {most}")
            self._rules(host, "ip lab_cut", rules)

    def refuse(self, new: bool = True) -> None:
        """Whether the server takes C{new} TCP connections no more; those that there are go on."""
        self._rules("s", "ip lab_refuse", _REFUSE if new else "")

    def block_udp(self, *hosts: str) -> None:
        """No UDP to or from these hosts, by default both clients; nobody is told."""
        self._block(hosts, "meta l4proto udp")

    def block(self, *hosts: str) -> None:
        """Nothing at all to or from these hosts, by default both clients."""
        self._block(hosts, "meta protocol ip")

    def restore(self) -> None:
        """Take back all cuts and blocks."""
        for host in "ab":
            for table in ("ip lab_cut", "netdev lab_block"):
                self._rules(host, table, "")

    def renumber(self, host: str) -> str:
        """A client in a home gets another address of its LAN; returns it."""
        gateway, old = self.gateway(host), self.address(host)
        network, _, number = old.rpartition(".")
        new = f"{network}.{int(number) + 1}"
        lines = "addr flush dev eth0", f"addr add {new}/24 dev eth0"
        batch = "\n".join((*lines, f"route add default via {gateway}"))
        self.run(host, "ip", "-batch", "-", given=f"{batch}\n")
        return new

    def throughput(self, source: str, target: str, *options: str, address: str = "") -> float:
        """
        Bytes a second that iperf3 gets from one host to another.

        @param options: of the client, by default C{-t 1}: for a second.
        @param address: of the target, if it is to be another one than its own.
        @raise SkipTest: if it is not installed.
        """
        needs("iperf3")
        with self.listen(target, "0.0.0.0") as probe:
            port = str(probe.getsockname()[1])
        listening = subprocess.Popen(
            self.command(target, "iperf3", "-s", "-1", "-p", port, "--forceflush"),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert listening.stdout is not None
            for line in listening.stdout:
                if "listening" in line:
                    break
            where = address or self.address(target)
            words = "-J", "-c", where, "-p", port, *(options or ("-t", "1"))
            result = json.loads(self.run(source, "iperf3", *words))
        finally:
            listening.kill()
            listening.communicate()
        end = result["end"]
        return float((end.get("sum_received") or end["sum"])["bits_per_second"]) / 8

    # --- How ------------------------------------------------------------------------------------

    def _block(self, hosts: tuple[str, ...], what: str) -> None:
        for host in hosts or ("a", "b"):
            self._rules(host, "netdev lab_block", _BLOCK.format(what=what))

    def _rules(self, host: str, table: str, rules: str) -> None:
        """Put other rules in the place of a table's, at once."""
        self.run(host, "nft", "-f", "-", given=f"table {table}\ndelete table {table}\n{rules}")

    def _ip(self, host: str, *arguments: str) -> str:
        done = subprocess.run(
            [program("ip"), "-n", f"{self.name}-{host}", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def _exists(self, host: str) -> bool:
        return self._path(host).exists()

    def _path(self, host: str) -> Path:
        return Path("/run/netns", f"{self.name}-{host}")

    def _script(self, *arguments: str, **settings: str) -> None:
        _run_script(self.name, *arguments, **settings)

    @contextlib.contextmanager
    def _inside(self, host: str) -> Iterator[None]:
        """This thread is there, and comes back."""
        with open("/proc/thread-self/ns/net") as home, open(self._path(host)) as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


def _enter(descriptor: int) -> None:
    """This thread goes into a network namespace; Python has it from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _run_script(name: str, *arguments: str, **settings: str) -> None:
    done = subprocess.run(
        ["bash", str(_FOLDER / "lab.sh"), *arguments],
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LAB": name}
        | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode:
        raise AssertionError(f"lab.sh {' '.join(arguments)}: {done.stderr or done.stdout}")


def _take_down_remains() -> None:
    """Labs of test processes that are no more, or of this one's number before it."""
    listed = subprocess.run([program("ip"), "netns", "list"], capture_output=True, text=True).stdout
    for name, pid in set(re.findall(r"^(rtl-(\d+)-\d+)-", listed, re.MULTILINE)):
        ours = int(pid) == os.getpid()
        if name not in _standing if ours else not Path("/proc", pid).exists():
            _run_script(name, "down")


@atexit.register
def _take_down_all() -> None:
    for name in list(_standing):
        _run_script(name, "down")


_building = threading.Lock()
_built: list[str] = []


def _delaybox() -> str:
    """The program, built once for this process."""
    needs("cc")
    with _building:
        if not _built:
            folder = tempfile.mkdtemp(prefix="rt-lab-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            path = f"{folder}/delaybox"
            subprocess.run(["cc", "-O2", "-o", path, str(_FOLDER / "delaybox.c")], check=True)
            _built.append(path)
        return _built[0]
