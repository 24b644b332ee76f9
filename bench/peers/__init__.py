"""Peers side by side, in one run, on one broker: `python -m bench.peers`."""
