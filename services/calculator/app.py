"""`celery -A services.calculator.app worker` starts here."""

from shared.app import create_app

app = create_app("calculator")
