"""
Bytes to values and back: signalling messages, the relay port's preamble.

Nothing here knows a socket, a clock or Twisted; every decoder takes bytes from
strangers and answers with a value or with a L{WireError}, never with another
exception.  C{docs/protocol.rst} is the specification that this follows.
"""
