"""A shop whose till is broken."""
