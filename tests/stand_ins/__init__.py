"""Servers that stand in for the ones outside, so that tests and demos need no internet."""
