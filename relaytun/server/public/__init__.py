"""
What the server opens for anyone on the Internet: ports and host names of its clients' services.

The server is then the visitor, in its own process.  C{visitor} carries connections to one
provider's service; C{title}, C{ports} and C{names} are what the public finds; C{leases} remembers
whose they are; C{service} puts them together as clients come and go.
"""
