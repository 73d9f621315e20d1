"""
Host names on shared HTTP ports: requests of anyone, each handed to the service that it is for.

Bytes come in from visitors (L{frontend}), one request after the other becomes an L{exchange} with
a connection to a service (L{backend}), and the answer goes back.  Who gets a request is decided
in L{routes}, from the same parsed head (L{heads}) as who may send it.
"""
