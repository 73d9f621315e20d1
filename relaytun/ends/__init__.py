"""
What a visitor and a provider are made of, whoever they are: legs, sessions, links, datagrams.

A client is both; the server is a visitor when it opens a public port or a host name.  Who is asked
for a session, and how, is not known here.
"""
