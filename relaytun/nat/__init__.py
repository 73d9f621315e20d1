"""
The direct path: which addresses a client is seen at, and how two of them make a channel of a link
without the relay.

It knows sockets and a reactor; what a link does with a channel is not its business.
"""
