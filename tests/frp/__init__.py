"""Tests of L{relaytun.frp}."""
