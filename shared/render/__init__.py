"""Topology in, files out: each module renders one kind of file, and knows nothing of the others."""
