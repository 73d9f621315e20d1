"""
A client written from sections 6 and 7 of the design alone, on websockets and plain sockets.

It imports nothing of relaytun on purpose: where it fails, the documented protocol is wrong. It is
simple and blocking, with a thread for each thing that waits, and it only speaks raw sessions.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

VISITOR = 1
PROVIDER = 2
PREAMBLE_LENGTH = 64
#: Seconds for an answer on a busy machine.
PATIENCE = 20.0

Message = dict[str, Any]


def preamble(
    session_id: str,
    key: bytes,
    role: int,
    channel: int = 0,
    *,
    nonce: bytes | None = None,
    magic: bytes = b"RTN1",
    flags: int = 0,
    padding: bytes = b"\0\0",
) -> bytes:
    """The 64 bytes with which a leg opens."""
    head = (
        magic
        + bytes([role, flags])
        + padding
        + bytes.fromhex(session_id)
        + struct.pack(">Q", channel)
        + (os.urandom(16) if nonce is None else nonce)
    )
    return head + hmac.new(key, head, hashlib.sha256).digest()[:16]


class TakingTurns(ssl.SSLSocket):
    """
    TLS that one thread may read with C{recv} while another one writes, as websockets does.

    OpenSSL lets only one at a time use a connection, and Python (3.11) does not see to it: what is
    written while a session ticket is read, just behind the handshake, may never be sent, without
    an error, or go out encrypted wrongly.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> TakingTurns:
        self = super().__new__(cls, *args, **kwargs)
        self._turn = threading.Lock()
        return self

    def settimeout(self, value: float | None) -> None:
        with self._turn:
            super().settimeout(value)

    def send(self, data: Any, flags: int = 0) -> int:
        with self._turn:
            return super().send(data, flags)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Waits between its turns, not in one: a ticket can be all that there is to be read."""
        while True:
            with self._turn:
                patience = self.gettimeout()
                super().settimeout(0)
                try:
                    return super().recv(buflen, flags)
                except ssl.SSLWantReadError:
                    if patience == 0:
                        raise
                finally:
                    super().settimeout(patience)
            waiting = select.poll()
            waiting.register(self, select.POLLIN)
            if not waiting.poll(None if patience is None else patience * 1000):
                raise TimeoutError("the read operation timed out")


def insecure_context() -> ssl.SSLContext:
    """TLS without a check of the certificate: its fingerprint is compared instead."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = TakingTurns
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def open_websocket(
    port: int,
    token: str | None = None,
    *,
    tls: bool = False,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> ClientConnection:
    """A WebSocket to the control port; C{token} goes into the header."""
    fields = dict(headers or {})
    if token is not None:
        fields["Authorization"] = f"Bearer {token}"
    return connect(
        f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/",
        ssl=insecure_context() if tls else None,
        additional_headers=fields,
        open_timeout=PATIENCE,
        close_timeout=2,
        proxy=None,
        **{"compression": None, "ping_interval": None, **options},
    )


def certificate_fingerprint(port: int) -> str:
    """SHA-256 of the certificate that the control port shows, in hex."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
        insecure_context().wrap_socket(plain) as secured,
    ):
        certificate = secured.getpeercert(binary_form=True)
    assert certificate is not None
    return hashlib.sha256(certificate).hexdigest()


class Leg:
    """One side of a channel: a plain socket to the relay port."""

    def __init__(self, address: tuple[str, int], first: bytes) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(first)

    def verdict(self) -> bytes:
        """C{b"+"}, or C{b"-"} and a code byte; empty if the relay just closed."""
        with contextlib.suppress(ConnectionError):
            first = self.socket.recv(1)
            return first + self.socket.recv(1) if first == b"-" else first
        return b""

    def granted(self) -> Leg:
        """Wait for the partner."""
        verdict = self.verdict()
        if verdict != b"+":
            raise AssertionError(f"the relay said {verdict!r}")
        return self

    def ended(self) -> bytes:
        """What still comes until the end of the connection, clean or not."""
        parts = []
        with contextlib.suppress(ConnectionError):
            while data := self.socket.recv(65536):
                parts.append(data)
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, count: int) -> bytes:
        """C{count} bytes, or fewer if the stream ends before."""
        parts = []
        while count and (data := self.socket.recv(min(count, 1 << 20))):
            parts.append(data)
            count -= len(data)
        return b"".join(parts)

    def finish(self) -> None:
        """Half-close."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()


class Session:
    """What one side knows about a session."""

    def __init__(self, role: int, payload: Message) -> None:
        self.role = role
        self.payload = payload
        self.id: str = payload["sessionId"]
        self.key = base64.b64decode(payload["channelKey"], validate=True)
        where = payload["relayAddr"]
        self.address = (str(where["host"]), int(where["port"]))

    def preamble(self, channel: int = 0, **parts: Any) -> bytes:
        return preamble(
            **{
                "session_id": self.id,
                "key": self.key,
                "role": self.role,
                "channel": channel,
                **parts,
            }
        )

    def dial(self, channel: int = 0, data: bytes = b"", **parts: Any) -> Leg:
        """A leg; C{data} goes out together with the preamble."""
        return Leg(self.address, self.preamble(channel, **parts) + data)


class Client:
    """A signalled client; a thread keeps what it hears."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.heard: list[Message] = []
        self.over = False
        self._changed = threading.Condition()
        self._service_port: int | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    # What it says.

    def say(self, kind: str, **payload: Any) -> None:
        self.say_text(json.dumps({"type": kind, "payload": payload}))

    def say_text(self, text: str | bytes) -> None:
        self.websocket.send(text)

    def register(self, client_id: str, services: Sequence[Message] = (), **more: Any) -> Message:
        """Register; returns the payload of the answer."""
        self.say("register", clientId=client_id, services=list(services), **more)
        return self.wait_for("register_response")

    def visit(self, target: str, service: str) -> Session:
        """A session as visitor."""
        self.say("connect_request", toClientId=target, serviceId=service)
        return Session(VISITOR, self.wait_for("create_session"))

    def provide(self, port: int) -> None:
        """From now on, accept every visitor and lead its channels to a local port."""
        self._service_port = port

    def accept(self) -> Session:
        """Accept the next visitor that asks, without serving it."""
        session = Session(PROVIDER, self.wait_for("connect_request"))
        self.say("accept_session", sessionId=session.id)
        return session

    # What it hears.

    def wait_for(self, kind: str, patience: float = PATIENCE, **fields: Any) -> Message:
        """The payload of the first message of a type with these fields; it is used up."""

        def look() -> Message | None:
            for message in self.heard:
                payload: Message = message["payload"]
                if message["type"] == kind and fields.items() <= payload.items():
                    self.heard.remove(message)
                    return payload
            return None

        deadline = time.monotonic() + patience
        with self._changed:
            while True:
                found = look()
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                if self.over or left <= 0:
                    state = "is closed" if self.over else "is silent"
                    raise AssertionError(f"no {kind} {fields}, it {state}; heard: {self.heard}")
                self._changed.wait(left)

    def wait_until_over(self, patience: float = PATIENCE) -> None:
        """Wait until the server ends the connection."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.over, patience):
                raise AssertionError(f"still open; heard: {self.heard}")

    def close(self) -> None:
        """In order."""
        self.websocket.close()

    def abort(self) -> None:
        """Without a word: the connection is just gone."""
        with contextlib.suppress(OSError):
            self.websocket.socket.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        try:
            for text in self.websocket:
                message = json.loads(text)
                if self._service_port is not None:
                    self._serve(message)
                with self._changed:
                    self.heard.append(message)
                    self._changed.notify_all()
        except (WebSocketException, OSError):
            pass
        with self._changed:
            self.over = True
            self._changed.notify_all()

    # How it provides.

    def _serve(self, message: Message) -> None:
        payload = message["payload"]
        if message["type"] == "connect_request":
            session = Session(PROVIDER, payload)
            self._sessions = {**getattr(self, "_sessions", {}), session.id: session}
            self.say("accept_session", sessionId=session.id)
            self._serve_channel(session, 0)
        elif message["type"] == "open_channel":
            self._serve_channel(self._sessions[payload["sessionId"]], payload["channel"])

    def _serve_channel(self, session: Session, channel: int) -> None:
        threading.Thread(target=self._carry, args=(session, channel), daemon=True).start()

    def _carry(self, session: Session, channel: int) -> None:
        with contextlib.suppress(OSError, AssertionError):
            leg = session.dial(channel).granted()
            assert self._service_port is not None
            local = socket.create_connection(("127.0.0.1", self._service_port), PATIENCE)
            back = threading.Thread(target=_copy, args=(local, leg.socket), daemon=True)
            back.start()
            _copy(leg.socket, local)
            back.join()
            local.close()
            leg.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Bytes, and the end of them."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def sign_in(
    port: int,
    token: str,
    client_id: str,
    services: Sequence[Message] = (),
    *,
    token_in_header: bool = True,
    tls: bool = False,
) -> Client:
    """A registered client."""
    client = Client(open_websocket(port, token if token_in_header else None, tls=tls))
    more = {} if token_in_header else {"token": token}
    answer = client.register(client_id, services, **more)
    if answer.get("success") is not True:
        raise AssertionError(f"not registered: {answer}")
    return client


def tcp_service(service_id: str, port: int = 1) -> Message:
    """What C{register} says about a service, with no more than the documented fields."""
    return {
        "id": service_id,
        "protocol": "tcp",
        "localHost": "127.0.0.1",
        "localPort": port,
    }
