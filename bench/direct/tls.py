"""Plain TLS 1.3 over TCP: two programs that have no tunnel in between and speak TLS themselves.

Run as a script: ``tls.py receive PORT CERTIFICATE`` counts and confirms what each connection
announces; ``tls.py send --port PORT --host HOST --bytes SIZE`` is for it what ``load.py
throughput`` is for ``service.py``: it warms up, waits for a line, works and prints its numbers.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import struct
import sys
import time

_BLOCK = memoryview(bytes(256 << 10))
_WARM_UP = 64 << 20


def receive(port: int, certificate: str) -> None:
    """Serve one connection after the other until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate)
    with socket.create_server(("", port)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(connection, server_side=True) as stream:
                while _sink(stream):
                    pass


def _sink(stream: ssl.SSLSocket) -> bool:
    buffer = memoryview(bytearray(256 << 10))
    header = stream.recv(8)
    if len(header) < 8:
        return False
    (left,) = struct.unpack(">Q", header)
    while left:
        got = stream.recv_into(buffer[: min(left, len(buffer))])
        if not got:
            return False
        left -= got
    stream.sendall(b"K")
    return True


def send(host: str, port: int, size: int) -> None:
    """Seconds for `size` bytes one way over a connection that has been warmed up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = socket.create_connection((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(connection) as stream:
        _send_all(stream, min(size, _WARM_UP))
        _handshake("ready")
        began = time.perf_counter()
        _send_all(stream, size)
        _handshake(json.dumps({"seconds": time.perf_counter() - began}))


def _send_all(stream: ssl.SSLSocket, size: int) -> None:
    stream.sendall(struct.pack(">Q", size))
    left = size
    while left:
        block = _BLOCK[: min(left, len(_BLOCK))]
        stream.sendall(block)
        left -= len(block)
    if stream.recv(1) != b"K":
        sys.exit("the sink did not confirm the transfer")


def _handshake(line: str) -> None:
    print(line, flush=True)
    if not sys.stdin.readline():
        sys.exit(0)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    modes = parser.add_subparsers(dest="mode", required=True)
    receiver = modes.add_parser("receive")
    receiver.add_argument("port", type=int)
    receiver.add_argument("certificate")
    sender = modes.add_parser("send")
    sender.add_argument("--host", required=True)
    sender.add_argument("--port", type=int, required=True)
    sender.add_argument("--bytes", type=int, required=True)
    options = parser.parse_args()
    if options.mode == "receive":
        receive(options.port, options.certificate)
    else:
        send(options.host, options.port, options.bytes)


if __name__ == "__main__":
    main()
