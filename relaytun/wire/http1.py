"""
Strict checks of the heads of HTTP/1 messages, on their raw bytes.

Two readers of one connection who disagree on where a message ends, or for whom it is, can be
played off against each other ("request smuggling").  Parsers are lenient in ways of their own: so
whatever has more than one reading is refused here, before one sees it.  What a head says beyond
that is not this module's business.

A head is everything up to and with the first empty line (RFC 9112, section 2.1).
"""

from __future__ import annotations

import re

from .errors import WireError

#: Longest head that is read, bytes.
MAX_HEAD = 64 * 1024
#: Most lines in a head: each costs a parser more than its bytes.
MAX_LINES = 256
#: The end of a head.
END = b"\r\n\r\n"

#: Instead of a body's length: it comes in chunks; it lasts until the connection ends.
CHUNKED = -1
UNTIL_CLOSE = -2

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELDS = rb"(?:" + _TOKEN + rb":" + _TEXT + rb"\r\n)*\r\n"
_REQUEST = re.compile(_TOKEN + rb" [\x21\x22\x24-\x7e]+ HTTP/1\.[01]\r\n" + _FIELDS)
_RESPONSE = re.compile(rb"HTTP/1\.[01] [1-9][0-9][0-9](?: " + _TEXT + rb")?\r\n" + _FIELDS)

#: The fields that must not come twice.
_ESSENTIAL = re.compile(
    rb"\r\n(host|content-length|transfer-encoding|authorization):([^\r]*)", re.IGNORECASE
)
#: More digits are no length of anything; every reader can hold these.
_LENGTH = re.compile(rb"[0-9]{1,18}")

#: What can be wrong, in the order in which it is looked for.
_COMPLAINTS = (
    (re.compile(rb"\x00"), "a NUL byte"),
    (re.compile(rb"(?<!\r)\n"), "a line feed without carriage return"),
    (re.compile(rb"\r(?!\n)"), "a carriage return without line feed"),
    (re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]"), "a control character"),
    (re.compile(rb"\A\r\n"), "an empty line in front"),
    (re.compile(rb"\r\n[ \t]"), "a folded header line"),
    (re.compile(rb"\r\n[^:\r]*[ \t]:"), "white space before a colon"),
    (re.compile(rb"\A[^\r]* HTTP/(?!1\.[01]\r)"), "a version other than HTTP/1.0 and HTTP/1.1"),
)
#: What no head contains, however it goes on.
_HOPELESS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r[^\n]|\A\r")

_AUTHORITY = re.compile(rb"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/?]*)(?P<rest>.*)", re.IGNORECASE)


def check_partial(data: bytes | bytearray, start: int = 0) -> None:
    """
    See whether the begin of a head can still become one.

    @param start: from where on to look; what is before has been looked at.
    @raise WireError: if not.
    """
    if _HOPELESS.search(data, start):
        raise WireError(f"malformed head: {_complaint(data)}")


def check_request(head: bytes) -> dict[bytes, bytes]:
    """
    Check the head of a request.

    @return: those of the fields Host, Content-Length, Transfer-Encoding and Authorization that
        are there, by lower-case name.
    @raise WireError: if it is malformed, too long, or one of them comes twice.
    """
    if not _REQUEST.fullmatch(head):
        raise WireError(f"malformed request: {_complaint(head)}")
    return _essentials(head)


def check_response(head: bytes) -> dict[bytes, bytes]:
    """As L{check_request}, for a response."""
    if not _RESPONSE.fullmatch(head):
        raise WireError(f"malformed response: {_complaint(head)}")
    return _essentials(head)


def body_length(essentials: dict[bytes, bytes], modern: bool, default: int) -> int:
    """
    How long the body is that follows, as far as the head says (RFC 9112, section 6).

    @param modern: the message is of HTTP/1.1.
    @param default: what holds if the head says nothing.
    @return: bytes, or L{CHUNKED}, or C{default}.
    @raise WireError: if there is more than one reading.
    """
    length = essentials.get(b"content-length")
    coding = essentials.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise WireError("both Content-Length and Transfer-Encoding")
        if not modern:
            raise WireError("Transfer-Encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise WireError("a Transfer-Encoding other than chunked")
        return CHUNKED
    if length is None:
        return default
    if not _LENGTH.fullmatch(length):
        raise WireError("a Content-Length that is no number")
    return int(length)


def locate(target: bytes, host: bytes | None, modern: bool) -> tuple[bytes, str, bytes]:
    """
    What a request is for.

    @param target: of its first line.
    @param host: its Host field.
    @return: the authority as it was written, the host name in lower case without port (empty if
        an HTTP/1.0 request has none), and the target without scheme and authority.
    @raise WireError: if this is not clear.
    """
    if host is None:
        if modern:
            raise WireError("no Host")
        host = b""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute:
        authority = absolute["authority"]
        if host and authority.lower() != host.lower():
            raise WireError("a Host that differs from the target's")
        target = absolute["rest"]
        host = authority
        if not target.startswith(b"/"):
            target = b"/" + target
    elif not target.startswith(b"/") and target != b"*":
        raise WireError("a target that is neither a path nor an http address")
    elif not host and not modern:
        return b"", "", target
    match = _AUTHORITY.fullmatch(host)
    if not match:
        raise WireError("a malformed Host")
    return host, match["host"].decode("ascii").lower().removesuffix("."), target


def _essentials(head: bytes) -> dict[bytes, bytes]:
    if head.count(b"\r\n") > MAX_LINES:
        raise WireError("too many header fields")
    found: dict[bytes, bytes] = {}
    for name, value in _ESSENTIAL.findall(head):
        key = name.lower()
        if key in found:
            raise WireError(f"more than one {name.decode('ascii').title()}")
        found[key] = value.strip(b" \t")
    return found


def _complaint(data: bytes | bytearray) -> str:
    for pattern, complaint in _COMPLAINTS:
        if pattern.search(data):
            return complaint
    return "a line that cannot be read"
