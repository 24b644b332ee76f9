"""Django's own error mail, through the `mailer` service.

"handlers": {"mail_admins": {"class": "shared.contrib.django.CeleryAdminEmailHandler", "level": "ERROR"}},
"""

import logging
import re
import socket
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from django.utils.log import AdminEmailHandler

from shared.error_mail import outlet
from shared.error_mail.masking import MASK, Masking, is_secret
from shared.error_mail.report import fingerprint, one_line, readable, shorten
from shared.signatures.mailer import LONGEST_SUBJECT, LONGEST_TEXT

#: A name and its value in the tables of Django's HTML report.
_CELLS = re.compile(r"(<td>([^<]*)</td>\s*<td class=\"code\"><pre>)(.*?)(</pre>)", re.DOTALL)


class CeleryAdminEmailHandler(AdminEmailHandler):
    """Django's `AdminEmailHandler`, whose mail goes to the administrators of the mailer, and holds up no request.

    Django shows a POST as it came unless the view says what is sensitive in it; here what has the name of a secret is
    masked in the whole report.
    """

    def send_mail(self, subject: str, message: str, *args: Any, **kwargs: Any) -> None:
        """Hand the mail over. Never raises."""
        way_out = outlet.default()
        if way_out.is_own_thread():
            return
        try:
            way_out.put(_arguments(subject, message, kwargs.get("html_message")))
        except Exception:
            # As `logging` itself does where a handler fails.
            if logging.raiseExceptions:
                traceback.print_exc()


def _arguments(subject: str, message: str, page: str | None) -> dict[str, Any]:
    masking = Masking()
    masking.remember_assigned(message)
    # Django calls handlers while the exception is being handled.
    error = sys.exc_info()[1]
    return {
        "subject": masking.clean(one_line(subject))[:LONGEST_SUBJECT],
        "message": shorten(masking.clean(readable(message))),
        "html_message": masking.clean(_mask_cells(readable(page)))[:LONGEST_TEXT] if page else None,
        "fingerprint": fingerprint(error) if error is not None else None,
        "source": socket.gethostname(),
        "occurred_at": datetime.now(UTC).isoformat(),
    }


def _mask_cells(page: str) -> str:
    return _CELLS.sub(lambda cell: f"{cell[1]}{MASK if is_secret(cell[2]) else cell[3]}{cell[4]}", page)
