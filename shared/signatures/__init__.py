"""The contract between services: typed task signatures, callable without the worker's code."""

from shared.signatures.declaration import Declaration, declarations, signature

__all__ = ["Declaration", "declarations", "signature"]
