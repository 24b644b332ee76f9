"""Only what the example needs."""

import os
import secrets
from pathlib import Path

SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_urlsafe()
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True

# The outbox's table stands beside the shop's own: `manage.py migrate` makes both.
INSTALLED_APPS = ["shop", "shared.contrib.django_outbox"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOCAL = Path(os.environ.get("LOCAL_DIR", ".local"))
LOCAL.mkdir(parents=True, exist_ok=True)
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": LOCAL / "shop.sqlite"}}

# The lines that matter. Where the broker is, and who is mailed, the environment says: BROKER_URL here, ADMINS there.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"mail_admins": {"class": "shared.contrib.django.CeleryAdminEmailHandler", "level": "ERROR"}},
    "loggers": {"django.request": {"handlers": ["mail_admins"]}},
}
