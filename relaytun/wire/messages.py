"""
The signalling messages: JSON text C{{"type": ..., "payload": {...}}} to frozen values and back.

A reader ignores fields that it does not know; a type that it does not know, or a payload of the
wrong shape, is a L{WireError}.  One parser reads each message once, so that no two parts of the
program can disagree about what it said; duplicate keys, C{NaN} and lone surrogates are refused.
The names are those of C{docs/protocol.rst}, "Signalling".
"""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .errors import WireError
from .text import printable

#: The largest message that the server takes, in bytes of UTF-8.
MAX_MESSAGE = 64 * 1024

_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"

Id = Annotated[str, Meta(pattern=_ID)]
SessionId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Text = Annotated[str, Meta(max_length=256)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Blob = Annotated[str, Meta(max_length=4096)]
#: Of an HTTP header.
Value = Annotated[str, Meta(max_length=4096)]
#: Bytes per second; 0: as many as there are.
Rate = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Channel = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Mode = Literal["raw", "link"]
Fingerprint = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
#: What the datagrams of a session carry in front.
DatagramSession = Annotated[int, Meta(ge=0, le=2**32 - 1)]
#: Whatever number a client counts its time in; it comes back as it was.
Timestamp = (
    Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[float, Meta(ge=-(2**63), le=2**63)]
)


class Code(str, enum.Enum):
    """The codes of C{error} messages."""

    BAD_MESSAGE = "bad_message"
    NOT_REGISTERED = "not_registered"
    UNAUTHORIZED = "unauthorized"
    ID_IN_USE = "id_in_use"
    UNKNOWN_CLIENT = "unknown_client"
    CLIENT_OFFLINE = "client_offline"
    UNKNOWN_SERVICE = "unknown_service"
    FORBIDDEN = "forbidden"
    REJECTED = "rejected"
    SESSION_LIMIT = "session_limit"
    BYTE_LIMIT = "byte_limit"
    RATE_LIMITED = "rate_limited"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


class _Camel(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=False):
    """camelCase on the wire, snake_case in Python."""


class Service(_Camel, frozen=True):
    """
    Something that a client offers.

    @ivar mode: of its sessions; left out: raw, or link where the protocol is udp.
    @ivar compression: what the bytes of its links are compressed with; left out: nothing.
    @ivar bandwidth_up, bandwidth_down: the most bytes a second from and to the service.
    @ivar healthy: C{False}: its health check fails, and it gets no new sessions.
    """

    id: Id
    protocol: Literal["tcp", "udp", "http", "ws"]
    local_port: Port
    local_host: Text = "localhost"
    description: Text | None = None
    mode: Mode | UnsetType = UNSET
    compression: Literal["zstd"] | UnsetType = UNSET
    bandwidth_up: Rate | UnsetType = UNSET
    bandwidth_down: Rate | UnsetType = UNSET
    healthy: bool | UnsetType = UNSET


class Exposure(_Camel, frozen=True):
    """
    A service that the server is to open for anyone on the Internet.

    @ivar service: its id; it is one of those registered.
    @ivar remote_port: the public port, TCP or UDP as the service is; 0: the server picks one.
    @ivar custom_domains: host names, of which the first label may be C{*}; C{subdomain}: one label
        under the server's C{subdomain_host}.  Of an http or ws service they are found by the Host
        header, of a tcp service by the name in its own TLS handshake.
    @ivar locations: prefixes of the path, of which the longest decides; none: C{/}.
    @ivar host_header_rewrite: what the service sees as Host.
    @ivar request_headers, response_headers: names and values to set.
    @ivar http_user, http_password: what a visitor has to show.
    @ivar proxy_protocol: the version of the header in front of each stream.
    @ivar group, group_key: providers of one group, with the same key, share ports and names.
    @ivar balance: how they share: C{round_robin}, or C{least_connections}.
    """

    service: Id
    remote_port: Port | UnsetType = UNSET
    custom_domains: Annotated[tuple[Text, ...], Meta(max_length=64)] = ()
    subdomain: Text = ""
    locations: Annotated[tuple[Text, ...], Meta(max_length=64)] = ()
    host_header_rewrite: Text = ""
    request_headers: Annotated[tuple[tuple[Text, Value], ...], Meta(max_length=64)] = ()
    response_headers: Annotated[tuple[tuple[Text, Value], ...], Meta(max_length=64)] = ()
    http_user: Text = ""
    http_password: Text = ""
    proxy_protocol: Literal["v1", "v2"] | UnsetType = UNSET
    group: Text = ""
    group_key: Text = ""
    balance: Literal["round_robin", "least_connections"] = "round_robin"

    def __repr__(self) -> str:
        """Never with a password or a key."""
        return f"<Exposure of {self.service}>"


class RelayAddress(_Camel, frozen=True):
    """Where the legs of a session are dialled."""

    host: Text
    port: Port
    protocol: str = "tcp"


class Candidate(_Camel, frozen=True):
    """
    Where a client may be reached without the relay.

    @ivar kind: how it is known: one of the client's own addresses, one that a router was asked for,
        or the one that a reflector saw; or C{predicted}: a hard NAT should give it next.
    """

    kind: Literal["host", "mapped", "reflexive", "predicted"]
    protocol: Literal["udp", "tcp"]
    address: Text
    port: Annotated[int, Meta(ge=1, le=65535)]


class ClientEntry(_Camel, frozen=True):
    """A line of the client list."""

    id: Id
    status: str
    services: tuple[Service, ...]


class Message(_Camel, frozen=True):
    """What every message has in common: nothing but its type."""


# Client to server.


class Register(Message, frozen=True, tag="register"):
    """
    The login.  Without an identity, C{certificate} and C{proof} are left out.

    @ivar client_id: empty or left out: the server chooses a name.
    @ivar certificate: base64 DER of the identity's self-signed certificate.
    @ivar proof: base64 signature over L{relaytun.wire.proof.login_statement}.
    @ivar exposures: of its services, those that the server is to open for the public.
    @ivar process: of the client, any text that is new for each; so that who visits it can tell
        that the process which knew a link has died.
    @ivar transient: a second login beside the client's main one, for a visitor of short life;
        it offers nothing, is not listed and displaces nobody.
    """

    client_id: Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?\Z")] = ""
    services: Annotated[tuple[Service, ...], Meta(max_length=256)] = ()
    exposures: Annotated[tuple[Exposure, ...], Meta(max_length=256)] | UnsetType = UNSET
    token: Text | UnsetType = UNSET
    certificate: Blob | UnsetType = UNSET
    proof: Blob | UnsetType = UNSET
    transient: bool = False
    process: Text | UnsetType = UNSET


class UpdateServices(Message, frozen=True, tag="update_services"):
    """
    A registered client offers these from now on, instead of what it registered.  Sessions and
    public ports of services that stay as they were are not touched.
    """

    services: Annotated[tuple[Service, ...], Meta(max_length=256)] = ()
    exposures: Annotated[tuple[Exposure, ...], Meta(max_length=256)] = ()


class ServiceHealth(Message, frozen=True, tag="service_health"):
    """What the health check of a service says now."""

    service_id: Id
    healthy: bool


class GetClientList(Message, frozen=True, tag="get_client_list"):
    """Ask for L{ClientList}."""


class ConnectRequest(Message, frozen=True, tag="connect_request"):
    """
    A visitor asks for a session; C{request_id} comes back in the answer.

    @ivar to_client_id: left out: any client that offers the service.
    @ivar mode: C{link}: this visitor can do links.  A raw service is raw whoever asks.
    """

    service_id: Id
    to_client_id: Id | UnsetType = UNSET
    request_id: Text | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET


class AcceptSession(Message, frozen=True, tag="accept_session"):
    """The provider's yes to a L{ConnectOffer}."""

    session_id: SessionId


class RejectSession(Message, frozen=True, tag="reject_session"):
    """The provider's no to a L{ConnectOffer}, or the end of a session that it does not know."""

    session_id: SessionId
    reason: Text | None = None


class CloseSession(Message, frozen=True, tag="close_session"):
    """Either side has no further use for the session: its channels are cut."""

    session_id: SessionId


class _Meeting(Message, frozen=True):
    """
    What the two clients of a session tell each other to meet without the relay.

    @ivar attempt: rises with each.
    @ivar generation: of the main channel of their link, whose keys are used for it.
    @ivar nat: what kind of NAT the client is behind, for UDP.
    @ivar hard_nat: what the client lets be tried where exactly one NAT is C{hard}; the weaker of
        the two holds.
    @ivar rtt: seconds between the client and the server.
    @ivar quic: the client can do QUIC.
    """

    session_id: SessionId
    attempt: Count
    generation: Count
    candidates: Annotated[tuple[Candidate, ...], Meta(max_length=16)] = ()
    nat: Literal["open", "easy", "hard", "blocked"] = "blocked"
    hard_nat: Literal["no", "predict", "birthday"] = "no"
    rtt: Annotated[float, Meta(ge=0, le=60)] = 0.0
    quic: bool = False


class MeetingOffer(_Meeting, frozen=True, tag="offer"):
    """The visitor proposes to meet; the server passes it on to the provider."""


class MeetingAnswer(_Meeting, frozen=True, tag="answer"):
    """The provider agrees; the server passes it on, and tells both when to begin."""


class Go(Message, frozen=True, tag="go"):
    """
    To both clients: begin, so that both begin together.

    @ivar delay: seconds to wait first.
    """

    session_id: SessionId
    attempt: Count
    delay: Annotated[float, Meta(ge=0, le=60)]


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """Both ways: the server sends it back as it came."""

    timestamp: Timestamp = 0


class Unregister(Message, frozen=True, tag="unregister"):
    """The client leaves."""


# Server to client.


class RegisterResponse(Message, frozen=True, tag="register_response"):
    """
    The answer to L{Register}.

    @ivar error: a L{Code}, with C{message} as its sentence.
    @ivar relay: where the relay port is, so that a client can see early whether it gets there.
    @ivar ws_path: the path of the control port under which there are legs over WebSockets.
    @ivar reflectors: where a client is told by STUN, over UDP and over TCP, how it is seen: two
        that differ at least in the port, if there are any.  A server that leaves it out does not
        pass on what clients tell each other, either.
    """

    success: bool
    assigned_id: Id | UnsetType = UNSET
    error: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    relay: RelayAddress | UnsetType = UNSET
    heartbeat_timeout: float | UnsetType = UNSET
    ws_path: str | UnsetType = UNSET
    reflectors: tuple[RelayAddress, ...] | UnsetType = UNSET


class ClientList(Message, frozen=True, tag="client_list"):
    """Who is there, and what they offer."""

    clients: tuple[ClientEntry, ...]


class ConnectOffer(Message, frozen=True, tag="connect_request"):
    """
    To the provider: somebody asks for one of its services.

    @ivar mode: C{raw}, C{link}, or a word of a later version.
    @ivar peer_fingerprint: of the visitor's identity, if it has one.
    @ivar datagram_session: for udp services only.
    @ivar public: the visitor is the server itself, for somebody on the Internet.
    """

    from_client_id: Id
    to_client_id: Id
    service_id: Id
    session_id: SessionId
    channel_key: str
    relay_addr: RelayAddress
    mode: str = "raw"
    peer_fingerprint: Fingerprint | UnsetType = UNSET
    datagram_session: DatagramSession | UnsetType = UNSET
    public: bool | UnsetType = UNSET


class CreateSession(Message, frozen=True, tag="create_session"):
    """
    To the visitor: the session is granted.

    @ivar mode: C{raw}, C{link}, or a word of a later version.
    @ivar peer_fingerprint: of the provider's identity, if it has one.
    @ivar peer_process: the provider's C{process}, if it told.
    @ivar datagram_session: for udp services only.
    """

    session_id: SessionId
    peer_client_id: Id
    service: Service
    relay_addr: RelayAddress
    channel_key: str
    mode: str = "raw"
    request_id: Text | UnsetType = UNSET
    peer_fingerprint: Fingerprint | UnsetType = UNSET
    peer_process: Text | UnsetType = UNSET
    datagram_session: DatagramSession | UnsetType = UNSET


class OpenChannel(Message, frozen=True, tag="open_channel"):
    """To the provider: the visitor's leg waits for yours."""

    session_id: SessionId
    channel: Channel


class SessionClosed(Message, frozen=True, tag="session_closed"):
    """The session is over; C{reason} is its mood."""

    session_id: SessionId
    reason: str
    bytes_transferred: Count


class Exposed(Message, frozen=True, tag="exposed"):
    """
    What became of an L{Exposure}; comes after C{register_response}, and again when it changes.

    @ivar urls: where the public finds it, such as C{tcp://relay.example.com:6000}.
    @ivar error: a L{Code}, if it is refused, with C{message} as its sentence.
    """

    service_id: Id
    urls: tuple[str, ...] = ()
    remote_port: Port | UnsetType = UNSET
    error: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class GoingAway(Message, frozen=True, tag="going_away"):
    """
    The server is about to end: it takes no new sessions, and those that run have time to end.

    @ivar seconds: how long.
    """

    seconds: float


class Error(Message, frozen=True, tag="error"):
    """Something that the other side asked for, or sent, is not to be."""

    code: str
    message: str
    session_id: SessionId | UnsetType = UNSET
    request_id: Text | UnsetType = UNSET


def _table(*types: type[Message]) -> dict[str, type[Message]]:
    return {str(kind.__struct_config__.tag): kind for kind in types}


#: What a server takes from a client.
FROM_CLIENT = _table(
    Register,
    UpdateServices,
    ServiceHealth,
    GetClientList,
    ConnectRequest,
    AcceptSession,
    RejectSession,
    CloseSession,
    MeetingOffer,
    MeetingAnswer,
    Heartbeat,
    Unregister,
    Error,
)
#: What a client takes from a server.
FROM_SERVER = _table(
    RegisterResponse,
    ClientList,
    ConnectOffer,
    CreateSession,
    OpenChannel,
    Exposed,
    GoingAway,
    MeetingOffer,
    MeetingAnswer,
    Go,
    SessionClosed,
    Heartbeat,
    Error,
)


def encode(message: Message) -> bytes:
    """The message as UTF-8 JSON."""
    payload = msgspec.to_builtins(message)
    kind = payload.pop("type")
    return msgspec.json.encode({"type": kind, "payload": payload})


def decode(data: bytes, types: dict[str, type[Message]]) -> Message:
    """
    @param data: a whole message, UTF-8 JSON.
    @param types: L{FROM_CLIENT} or L{FROM_SERVER}.
    @raise WireError: if it is no such message.
    """
    envelope = _parse(data)
    if not isinstance(envelope, dict):
        raise WireError("a message is a JSON object with type and payload")
    kind = envelope.get("type")
    payload = envelope.get("payload", {})
    if not isinstance(kind, str) or not isinstance(payload, dict):
        raise WireError("a message has a type (a string) and a payload (an object)")
    struct = types.get(kind)
    if struct is None:
        raise WireError("unknown message type")
    payload.pop("type", None)
    try:
        return msgspec.convert(payload, struct)
    except msgspec.ValidationError as error:
        raise WireError(f"{kind}: {printable(_without_value(str(error)))}") from None


def _without_value(problem: str) -> str:
    """What msgspec says is wrong; of an enumeration it would quote the value that came."""
    if problem.startswith("Invalid enum value"):
        problem = "Invalid enum value" + problem[problem.rindex(" - at ") :]
    return problem


def _parse(data: bytes) -> Any:
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        if "\\u" in text:  # A lone surrogate is no text: it could not be sent on.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except WireError:
        raise
    except (ValueError, RecursionError):
        raise WireError("not JSON text") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise WireError("a key stands twice in the message")
    return result


def _no_constant(name: str) -> NoReturn:
    raise WireError("NaN and Infinity are no JSON")
