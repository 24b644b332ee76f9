"""Reports of the hottest GitHub repositories."""
