"""
The data plane: bytes from one descriptor to another, and how descriptors are come by.

It knows sockets and a reactor, and nothing of sessions, roles or messages.  The bytes that it
moves pass through the kernel only, wherever C{splice(2)} serves.
"""
