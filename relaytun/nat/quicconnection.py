"""
aioquic's connection, with what it lacks for a byte pipe between two clients.

All that this package uses of aioquic beyond its documented face is here: limits that let a slow
reader stop the other side (aioquic raises them whatever was read), pacing by the rate that
L{Controller} measured, the size of datagrams, and how much of a stream was sent and acked.

Two keys are no certificates: both sides know a secret that they were given over a channel that is
proven already, and use it as the pre-shared key of TLS 1.3 (RFC 8446, section 4.2.11).  Neither
can come through the handshake without it, and with the ephemeral key exchange that goes with it,
who learns the secret later can read nothing.  Its alternative, a certificate that the server asks
of a client, is a private flag of aioquic, and an empty one would pass.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import logging
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.base import register_congestion_control
from aioquic.quic.connection import MAX_STREAM_DATA_FRAME_CAPACITY, QuicConnection
from aioquic.quic.packet import (
    QuicFrameType,
    QuicPacketType,
    QuicProtocolVersion,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import CipherSuite, SessionTicket
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .congestion import Controller, Pacer

#: What a side may send beyond what the other has taken: 100 Mbit/s over 160 ms are 2 MB, and as
#: much again for each round trip that a lost packet needs.
WINDOW = 8 * 1024 * 1024
#: The largest datagram that is ever tried: Ethernet's, less the headers of IPv6 and UDP.
LARGEST = 1452
#: Seconds of bytes that may wait to be sent; bytes, at the least and at the most.
_AHEAD = 0.05
_LEAST_AHEAD = 64 * 1024
_MOST_AHEAD = 512 * 1024
#: A client's unidirectional stream, and a server's: each side writes to its own.
_STREAMS = {True: 2, False: 3}
_PROTOCOL = "relaytun"
_CONTROL = "relaytun"
_SUITE = CipherSuite.AES_128_GCM_SHA256
#: There is one path; what it is called does not matter.
_PATH = ("path", 0)
#: So much that the limit for all streams is never what counts.
_NO_LIMIT = 1 << 60
_SMALLEST_INITIAL = 1200
#: A packet without its one frame (RFC 9000, section 17.3.1: flags, identifier, number; and the tag
#: of AES-GCM), and a DATAGRAM frame without its data (RFC 9221, section 4).
_AROUND_PROBE = 1 + 8 + 2 + 16 + 3
#: Probes that are sent at once, because one may be lost for another reason.
_PROBES = 3
_PROBE = b"?"
_PROVEN = b"!"
#: The ticket has to be one of the "server" that is dialled; an address is not sent in the clear.
_SERVER_NAME = "0.0.0.0"

register_congestion_control(_CONTROL, Controller)  # type: ignore[arg-type]
# What went wrong is told by events; without a handler Python would print it.
logging.getLogger("quic").addHandler(logging.NullHandler())


class Connection(QuicConnection):
    """
    One side's connection.

    @ivar taken: bytes of the other side's stream that are out of our hands.
    @ivar written: bytes of ours that were handed in.
    """

    def __init__(
        self,
        *,
        client: bool,
        key: bytes,
        idle_timeout: float,
        datagram_size: int,
        destination: bytes | None = None,
    ) -> None:
        """@param destination: a server's: what the client calls it, see L{destination_of}."""
        ticket = _ticket(key)
        configuration = QuicConfiguration(
            alpn_protocols=[_PROTOCOL],
            cipher_suites=[_SUITE],
            congestion_control_algorithm=_CONTROL,
            idle_timeout=idle_timeout,
            is_client=client,
            max_data=_NO_LIMIT,
            max_datagram_frame_size=65535,
            max_datagram_size=datagram_size,
            max_stream_data=WINDOW,
            supported_versions=[QuicProtocolVersion.VERSION_1],
        )
        if client:
            configuration.server_name = _SERVER_NAME
            configuration.session_ticket = ticket
            super().__init__(configuration=configuration)
        else:
            configuration.certificate, configuration.private_key = _unused_certificate()
            super().__init__(
                configuration=configuration,
                original_destination_connection_id=destination,
                session_ticket_fetcher=lambda name: ticket if name == ticket.ticket else None,
            )
        self.taken = 0
        self.written = 0
        self._ours: QuicStream | None = None
        self._own_id = _STREAMS[client]
        self._other_id = _STREAMS[not client]
        # One stream from each side is all that there is, and all that memory is spent on.
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = 0
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = 1
        self.controller: Controller = self._loss._cc  # type: ignore[assignment]
        self._loss._pacer = Pacer(self.controller)  # type: ignore[assignment]

    def begin(self, now: float) -> None:
        """A client's first packet."""
        self.connect(_PATH, now)

    def hear(self, datagram: bytes, now: float) -> None:
        """What came over the path."""
        self.receive_datagram(datagram, _PATH, now)

    def to_send(self, now: float) -> list[bytes]:
        """What is to go over the path now."""
        if not self._network_paths:
            return []
        datagrams = [datagram for datagram, _ in self.datagrams_to_send(now)]
        if not self.unsent and self.controller.bytes_in_flight < self.controller.congestion_window:
            self.controller.more_could_be_sent()
        return datagrams

    def probe(self, size: int, now: float) -> list[bytes]:
        """
        Datagrams of that size, and what has to go before: if one arrives, the other side says so,
        and from then on all have that size.
        """
        datagrams = self.to_send(now)
        usual, self._max_datagram_size = self._max_datagram_size, size
        for _ in range(_PROBES):
            self.send_datagram_frame(_PROBE * (size - _AROUND_PROBE))
        try:
            datagrams += self.to_send(now)
        finally:
            self._max_datagram_size = usual
            self._datagrams_pending.clear()  # It did not fit into the window; never mind.
        return datagrams

    def probed(self, data: bytes) -> None:
        """A probe came, or what was said of one of ours."""
        if data.startswith(_PROBE):
            self.send_datagram_frame(_PROVEN + (len(data) + _AROUND_PROBE).to_bytes(2, "big"))
        elif data.startswith(_PROVEN):
            size = int.from_bytes(data[1:3], "big")
            self._max_datagram_size = min(max(size, self._max_datagram_size), LARGEST)
            self.controller.datagram_size = self._max_datagram_size

    def write(self, data: bytes, end: bool = False) -> None:
        """Bytes for the other side."""
        self.written += len(data)
        self.send_stream_data(self._own_id, data, end)
        if self._ours is None:
            self._ours = self._streams[self._own_id]

    @property
    def unsent(self) -> int:
        """Bytes that were written and not sent once."""
        return self.written - self._ours.sender.highest_offset if self._ours is not None else 0

    @property
    def room(self) -> int:
        """
        Bytes that may be written now: so many that there is always something to send, and so few
        that what is urgent to a link is soon on its way.
        """
        ahead = int(self.controller.bandwidth * _AHEAD)
        return min(max(ahead, _LEAST_AHEAD), _MOST_AHEAD) - self.unsent

    @property
    def all_arrived(self) -> bool:
        """Whether the end of our bytes was written, and the other side has it all."""
        return self._ours is not None and self._ours.sender.is_finished

    @property
    def end(self) -> tuple[int, str] | None:
        """
        The code and the words with which either side ended it; its event comes only when packets
        of the other side cannot come any more.
        """
        event = self._close_event
        return (event.error_code, event.reason_phrase) if event is not None else None

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        """Let the other side send as much as was taken, in large steps; again if that got lost."""
        if stream.stream_id != self._other_id or stream.receiver.is_finished:
            return
        lost = not stream.max_stream_data_local_sent
        limit = self.taken + WINDOW
        if lost or limit - stream.max_stream_data_local >= WINDOW // 4:
            # It may find no room; then nothing is said, and has to be said the next time.
            buffer = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buffer.push_uint_var(stream.stream_id)
            buffer.push_uint_var(limit)
            stream.max_stream_data_local = stream.max_stream_data_local_sent = limit


def destination_of(datagram: bytes) -> bytes | None:
    """
    What the client calls the server in C{datagram}; C{None} if no connection begins with it.
    """
    if len(datagram) < _SMALLEST_INITIAL:
        return None
    try:
        header = pull_quic_header(Buffer(data=datagram), host_cid_length=8)
    except ValueError:
        return None
    if (
        header.packet_type is not QuicPacketType.INITIAL
        or header.version != QuicProtocolVersion.VERSION_1
    ):
        return None
    return header.destination_cid


def _ticket(key: bytes) -> SessionTicket:
    """The shared secret, in the form in which aioquic takes one."""
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    return SessionTicket(
        age_add=0,
        cipher_suite=_SUITE,
        not_valid_after=now + day,
        not_valid_before=now - day,
        resumption_secret=hmac.new(key, b"relaytun quic 1", hashlib.sha256).digest(),
        server_name=_SERVER_NAME,
        ticket=_PROTOCOL.encode(),
    )


def _unused_certificate() -> tuple[x509.Certificate, Any]:
    """aioquic wants a server to have one; who needs to see it does not know the secret."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relaytun")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()), key
