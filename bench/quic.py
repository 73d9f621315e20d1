"""
QUIC over a real UDP path, between two processes on loopback or in the namespaces of a NAT lab.

    python -m bench.quic                            both on loopback
    python -m bench.quic receive PORT               one side (it is QUIC's server)
    python -m bench.quic send HOST PORT [MIB]       the other one: prints what it carried

Options for all: C{--datagram BYTES}, C{--profile}, C{--verbose} (what the sender's congestion
control thinks), C{--plain} (aioquic's own congestion control, C{reno}, for comparison).
"""

from __future__ import annotations

import cProfile
import pstats
import socket
import subprocess
import sys
import time

import click
from aioquic.quic.congestion.base import register_congestion_control
from aioquic.quic.congestion.reno import RenoCongestionControl
from twisted.internet.epollreactor import EPollReactor

from relaytun.nat import quic, quicconnection
from relaytun.nat.udpsocket import UdpSocket
from relaytun.plane.accept import close_in_order, reset
from relaytun.plane.pair import End, is_broken, pair

_KEY = bytes(32)


class _Plain(RenoCongestionControl):
    """What aioquic has by itself, unpaced."""

    pacing_rate = None
    datagram_size = quic.SAFE_SIZE

    def more_could_be_sent(self) -> None:
        """It does not matter here."""


class _Talker:
    """The program at the other end of the pair: sends so many bytes, or counts what comes."""

    def __init__(self, reactor: EPollReactor, sock: End, size: int) -> None:
        self.reactor = reactor
        self.sock = sock
        self.left = size
        self.count = 0
        self.data = bytes(256 * 1024)
        self.times: list[tuple[float, int]] = []
        (reactor.addWriter if size else reactor.addReader)(self)

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "talker"

    def connectionLost(self, reason: object) -> None:
        """The pipe broke, which says so itself."""

    def doWrite(self) -> None:
        try:
            self.left -= self.sock.send(self.data[: self.left])
        except BlockingIOError:
            return
        if not self.left:
            self.reactor.removeWriter(self)
            self.sock.shutdown(socket.SHUT_WR)

    def doRead(self) -> None:
        data = self.sock.recv(256 * 1024)
        now = time.monotonic()
        if not self.times or now - self.times[-1][0] > 1:
            self.times.append((now, self.count))
        self.count += len(data)
        if not data:
            self.times.append((now, self.count))
            self.reactor.removeReader(self)
            self.sock.close()


def _tell(reactor: EPollReactor, pipe: quic.QuicPipe) -> None:
    """Each half second, what the congestion control thinks."""
    reactor.callLater(0.5, _tell, reactor, pipe)
    if pipe._connection is not None:
        control = pipe._connection.controller
        print(
            f"{control.phase.name:7} {control.bandwidth / 1e6:5.1f} MB/s, round trip "
            f"{control._min_rtt * 1e3:.0f} to {control._usual_rtt * 1e3:.0f} ms, in flight "
            f"{control.bytes_in_flight // 1024} of {control.congestion_window // 1024} KiB, "
            f"ceiling {control._ceiling}, unsent {pipe._connection.unsent // 1024} KiB",
            file=sys.stderr,
        )


def _talk(
    sock: socket.socket, client: bool, size: int, datagram: int, profile: bool, verbose: bool
) -> None:
    reactor = EPollReactor()
    near, far = pair()
    peer = sock.getpeername()
    path = UdpSocket(reactor, sock, lambda data, *_: pipe.received(data))
    path.widen()
    pipe = quic.QuicPipe(
        reactor,
        lambda data: path.send(data, peer),
        far,
        client=client,
        key=_KEY,
        close_in_order=close_in_order,
        reset=reset,
        is_broken=is_broken,
        datagram_size=datagram,
    )
    talker = _Talker(reactor, near, size)
    began: list[float] = []
    pipe.connected.addCallbacks(lambda _: began.append(time.monotonic()), lambda why: print(why))
    pipe.closed.addBoth(lambda _: reactor.callLater(0.1, reactor.stop))
    pipe.start()
    if verbose and size:
        _tell(reactor, pipe)
    profiler = cProfile.Profile()
    cpu = time.process_time()
    if profile:
        profiler.runcall(reactor.run)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(28)
    else:
        reactor.run()
    cpu = time.process_time() - cpu
    if size:
        print(f"sender: {cpu:.2f} s of CPU")
    if talker.times:
        rates = [
            f"{(more - less) / (later - sooner) / 1e6:.1f}"
            for (sooner, less), (later, more) in zip(talker.times, talker.times[1:], strict=False)
            if later > sooner
        ]
        took = talker.times[-1][0] - began[0]
        print(
            f"{talker.count / 1e6:.0f} MB in {took:.2f} s: {talker.count / took / 1e6:.1f} MB/s, "
            f"{cpu:.1f} s of CPU; by the second: {' '.join(rates)}"
        )


@click.command()
@click.argument("what", nargs=-1)
@click.option("--datagram", default=quic.SAFE_SIZE)
@click.option("--profile", is_flag=True)
@click.option("--plain", is_flag=True)
@click.option("--verbose", is_flag=True)
def _main(what: tuple[str, ...], datagram: int, profile: bool, plain: bool, verbose: bool) -> None:
    """Measure QUIC over a real UDP path."""
    options = ["--datagram", str(datagram)]
    if verbose:
        options.append("--verbose")
    if plain:
        options.append("--plain")
        quicconnection._CONTROL = "plain"
        register_congestion_control("plain", _Plain)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    if what[:1] == ("receive",):
        sock.bind(("0.0.0.0", int(what[1])))
        print(sock.getsockname()[1], flush=True)
        sock.setblocking(True)
        _, peer = sock.recvfrom(1, socket.MSG_PEEK)
        sock.setblocking(False)
        sock.connect(peer)
        _talk(sock, False, 0, datagram, profile, verbose)
    elif what[:1] == ("send",):
        sock.connect((what[1], int(what[2])))
        size = int(what[3]) if len(what) > 3 else 64
        _talk(sock, True, size * 1024 * 1024, datagram, profile, verbose)
    else:
        command = [sys.executable, "-m", "bench.quic", *options]
        with subprocess.Popen(
            [*command, *(["--profile"] if profile else []), "receive", "0"],
            stdout=subprocess.PIPE,
            text=True,
        ) as receiver:
            assert receiver.stdout is not None
            port = receiver.stdout.readline().strip()
            subprocess.run(
                [*command, *(["--profile"] if profile else []), "send", "127.0.0.1", port, *what],
                check=True,
            )
            print(receiver.stdout.read(), end="")


if __name__ == "__main__":
    _main()
