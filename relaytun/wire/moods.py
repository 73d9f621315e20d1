"""The one word with which a channel, a session or a stream ended."""

from __future__ import annotations

import enum


class Mood(str, enum.Enum):
    """
    Where an error code of the signalling says the same, the mood is that word: it is the
    C{reason} of C{session_closed}.
    """

    #: Both ends were done.
    HAPPY = "happy"
    #: The partner never came, or never answered.
    LONELY = "lonely"
    #: A connection broke, or was reset.
    ERRORY = "errory"
    #: The provider said no.
    REJECTED = "rejected"
    #: One of the two may have it no more.
    FORBIDDEN = "forbidden"
    #: One of the two clients left.
    CLIENT_OFFLINE = "client_offline"
    #: Nothing moved for C{session_timeout}.
    TIMEOUT = "timeout"
    #: C{max_bytes_per_session} was reached.
    BYTE_LIMIT = "byte_limit"
    #: The server is ending.
    SHUTDOWN = "shutdown"
