"""Outcomes by HTTP."""
