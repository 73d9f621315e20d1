"""
UDP sockets that take and give datagrams by the batch.

A system call for each datagram is what makes relaying them dear.  Linux passes up to 64 KiB of
datagrams of one size in a single call: C{UDP_GRO} (udp(7)) when it receives, C{UDP_SEGMENT} when
it sends.  Elsewhere, and whenever the kernel refuses, the same code sends them one by one.

Nothing waits: what the kernel has no room for is dropped and counted, as any router would.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..wire.datagram import LARGEST, split
from .oneway import ReadOnly

Address: TypeAlias = tuple[Any, ...]
Buffer: TypeAlias = bytes | memoryview

#: Bytes that the kernel is asked to keep in each direction; it gives what it allows.
KERNEL_BUFFER = 4 * 1024 * 1024
#: Reads in one turn of the reactor; a read gives one datagram, or up to 64 KiB of them.
AT_ONCE = 64
#: Datagrams in one call that sends (UDP_MAX_SEGMENTS; newer kernels take 128).
MOST_SEGMENTS = 64

# From linux/udp.h, linux/in.h and linux/in6.h: Python's socket module has none of these.
_UDP_SEGMENT, _UDP_GRO = 103, 104
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DO = 10, 23, 2
_IP_MTU, _IPV6_MTU = 14, 24
_LINUX = sys.platform == "linux"
_INT = struct.Struct("@i")
_SHORT = struct.Struct("@H")
_ROOM_FOR_SIZE = socket.CMSG_SPACE(_INT.size) if hasattr(socket, "CMSG_SPACE") else 0
#: The kernel, or the network device, cannot segment at all.
_NEVER = {errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP}
#: It cannot, or not these: larger than the path takes, for instance.
_NOT_THESE = {errno.EINVAL, errno.EMSGSIZE}


class ReceiveBuffer:
    """
    Where datagrams are read to; one serves all sockets of a reactor, since what is in it is good
    only until the next read.
    """

    def __init__(self) -> None:
        # Two of the largest batches, so that single datagrams gather to one, too.
        self.view = memoryview(bytearray(2 * 65536))


def prepare_datagrams(sock: socket.socket, whole: bool = False) -> None:
    """
    The options that every UDP socket of ours has: non-blocking, large buffers, batches.

    @param whole: never fragment: what is too large for the path is refused (C{EMSGSIZE}).
    """
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
    if not _LINUX:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    if whole:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
        if sock.family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)


def path_mtu(sock: socket.socket) -> int:
    """
    @param sock: a connected one.
    @return: the largest IP packet that is known to get to its peer, headers and all; 1500 where
        the kernel does not tell.
    """
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_MTU)
        if sock.family == socket.AF_INET6
        else (socket.IPPROTO_IP, _IP_MTU)
    )
    try:
        return sock.getsockopt(level, option) if _LINUX else 1500
    except OSError:
        return 1500


def mtu_towards(address: tuple[str, int]) -> int:
    """As L{path_mtu}, for a peer that no socket is connected to; nothing is sent."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        with contextlib.suppress(OSError):
            sock.connect(address)
        return path_mtu(sock)


@implementer(IReadDescriptor)
class DatagramSocket(ReadOnly):
    """
    A UDP socket under the reactor.

    @ivar dropped: datagrams that the kernel did not take.
    @ivar oversized: those of them that were too large for the path.
    """

    def __init__(
        self,
        reactor: IReactor,
        sock: socket.socket,
        buffer: ReceiveBuffer,
        received: Callable[[memoryview, int, Address], None],
        turn_over: Callable[[], None] = lambda: None,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param sock: prepared by L{prepare_datagrams}; closed by L{close}.
        @param received: gets each run of datagrams: the bytes (good during the call), the size
            of each datagram but the last, which may be shorter, and who sent them.
        @param turn_over: called after the last run of a turn of the reactor.
        @param refused: called when the peer of a connected socket says that nobody is there.
        """
        self.dropped = 0
        self.oversized = 0
        self._reactor = reactor
        self._sock = sock
        self._buffer = buffer.view
        self._received = received
        self._turn_over = turn_over
        self._refused = refused
        self._segments = _LINUX
        self._closed = False
        reactor.addReader(self)

    @property
    def address(self) -> Address:
        """Where it is bound."""
        return self._sock.getsockname()  # type: ignore[no-any-return]

    def mtu(self) -> int:
        """As L{path_mtu}."""
        return path_mtu(self._sock)

    def close(self) -> None:
        """Let it go; nothing is called any more."""
        if not self._closed:
            self._closed = True
            self._reactor.removeReader(self)
            self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "datagrams"

    def doRead(self) -> None:
        """Read what is there, within bounds, and hand it on in runs as long as can be."""
        view, read = self._buffer, self._sock.recvmsg_into
        full = len(view) - LARGEST
        start = end = size = 0
        sender: Address | None = None
        for _ in range(AT_ONCE):
            try:
                count, ancillary, _, address = read([view[end:]], _ROOM_FOR_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if not self._survives(error):
                    break
                continue
            each = _INT.unpack(ancillary[0][2])[0] if ancillary else count
            # The last one of a run, and only that, may be shorter; an empty one stays alone.
            fits = each == size or (each == count and 0 < count < size)
            if sender is not None and not (fits and address == sender and not (end - start) % size):
                self._received(view[start:end], size, sender)
                if self._closed:
                    return
                # What was just read moves nowhere: the run begins where it is.
                start = end
                size = 0
            if start == end:
                sender, size = address, each
            end += count
            if not size:
                self._received(view[start:end], 0, address)
                if self._closed:
                    return
                sender = None
            if end > full:
                break
        if sender is not None:
            self._received(view[start:end], size, sender)
        if not self._closed:
            self._turn_over()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw an error without data, such as an ICMP message: that is no end."""
        if not self._closed:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._survives(OSError(code, ""))
            if not self._closed:
                self._reactor.addReader(self)

    def send_run(self, run: Buffer, size: int, address: Address | None = None) -> int:
        """
        @param run: datagrams one behind the other.
        @param size: of each but the last.
        @param address: to whom; none for the peer of a connected socket.
        @return: how many of them the kernel took.
        """
        view = memoryview(run)
        most = max(1, min(MOST_SEGMENTS, LARGEST // max(1, size))) * size
        if len(view) <= size:
            return self._send_one(view, address)
        sent = 0
        for start in range(0, len(view), most):
            part = view[start : start + most]
            sent += self._send_segments([part], size, address, -(-len(part) // size))
        return sent

    def send(self, datagrams: Sequence[Buffer], address: Address | None = None) -> int:
        """
        The same for datagrams that are in pieces, and of any sizes.

        @return: how many of them the kernel took.
        """
        sent = start = 0
        sizes = list(map(len, datagrams))
        while start < len(sizes):
            size = sizes[start]
            most = min(MOST_SEGMENTS, LARGEST // max(1, size), len(sizes) - start)
            end = start + 1
            if most > 1 and size:
                end = start + most
                run = sizes[start:end]
                same = most if run.count(size) == most else _equal(run)
                end = start + same
                if same < most and 0 < run[same] < size:
                    end += 1
            if end - start == 1:
                sent += self._send_one(datagrams[start], address)
            else:
                sent += self._send_segments(datagrams[start:end], size, address, end - start)
            start = end
        return sent

    def _send_segments(
        self, parts: Sequence[Buffer], size: int, address: Address | None, count: int
    ) -> int:
        """
        @param parts: one run in one piece, or a piece for each datagram.
        """
        if self._segments and count > 1:
            marks = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SHORT.pack(size))]
            code = self._attempt(parts, marks, address)
            if code in _NEVER:
                self._segments = False
            elif code not in _NOT_THESE:
                self.dropped += count if code else 0
                return 0 if code else count
        if len(parts) < count:
            parts = list(split(memoryview(parts[0]), size))
        return sum(self._send_one(part, address) for part in parts)

    def _send_one(self, datagram: Buffer, address: Address | None) -> int:
        code = self._attempt([datagram], [], address)
        self.dropped += code != 0
        self.oversized += code == errno.EMSGSIZE
        return int(not code)

    def _attempt(self, parts: Sequence[Buffer], marks: Any, address: Address | None) -> int:
        """@return: 0, or the error number."""
        code = 0
        for _ in range(2):  # The first may be news of an earlier datagram, and not about these.
            try:
                if address is None:
                    self._sock.sendmsg(parts, marks)
                else:
                    self._sock.sendmsg(parts, marks, 0, address)
                return 0
            except OSError as error:
                code = error.errno or errno.EIO
                if code != errno.ECONNREFUSED or not self._survives(error):
                    break
        return code

    def _survives(self, error: OSError) -> bool:
        """Whether the socket is still open after C{error}, which has been told on."""
        if error.errno == errno.ECONNREFUSED and not self._closed:
            self._refused()
        return not self._closed


def _equal(sizes: Sequence[int]) -> int:
    """How many of them, from the first on, are the same."""
    return sum(1 for _ in itertools.takewhile(sizes[0].__eq__, sizes))
