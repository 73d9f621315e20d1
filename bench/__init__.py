"""The side-by-side benchmark: ``python -m bench`` from the root of a checkout.

It starts relaytun and its peers as a user would, on loopback, drives the same load through each of
them and prints medians with ratios.  ``subjects`` says what is compared, ``measures`` says what is
measured, ``report`` says what is written.  It is no part of the installed package.

A peer takes part when it is on PATH: haproxy, nginx, socat, sshd and ssh; frps and frpc; rathole,
built with its features tls and noise; fowl, with magic-wormhole-mailbox-server in the same
environment.  What is missing is named in the report.
"""
