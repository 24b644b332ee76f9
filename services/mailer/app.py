"""`celery -A services.mailer.app worker` starts here."""

from services.mailer.transport import check_settings
from shared.app import create_app

app = create_app("mailer")
check_settings(app.settings)
