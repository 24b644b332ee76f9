"""`celery -A services.scoped.app worker` starts here."""

from shared.app import create_app

app = create_app("scoped")
