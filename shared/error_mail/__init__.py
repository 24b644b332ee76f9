"""Errors of any Python program by e-mail: a `logging` handler that hands them to the `mailer` service.

"handlers": {"mail": {"class": "shared.error_mail.ErrorMailHandler", "level": "ERROR"}},
"root": {"handlers": ["mail"]},
"""

from shared.error_mail.handler import ErrorMailHandler

__all__ = ["ErrorMailHandler"]
