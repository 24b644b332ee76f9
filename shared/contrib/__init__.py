"""Parts for other frameworks; each needs its framework installed."""
