"""
The end-to-end side of relaytun: what the two clients do that the server has no part in.

For now this is the identity of a client; the encrypted, multiplexed link joins it here.
"""
