"""One package a service. A service imports `shared`, and never another service."""
