"""What a direct path is worth: ``python -m bench.direct`` from the root of a checkout, as root.

It builds the homes and the server of ``tests/natlab`` as namespaces, starts relaytun and its peers
there, and drives the same load through each of them in turn.  ``subjects`` says what is compared,
``measures`` what is measured, ``report`` what is written.

The peers: openssl, for the certificate of plain TLS; socat; frps and frpc.  What is missing, or
does not work, is named in the report.
"""
