"""What could not be done, kept with its reason: a worker buries it; an operator reads, replays and drops it."""
