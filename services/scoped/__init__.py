"""Tasks that inherit their caller's scope."""
