"""Only what the example needs."""

import os
import secrets

SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_urlsafe()
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True

# The lines that matter. Where the broker is, and who is mailed, the environment says: BROKER_URL here, ADMINS there.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"mail_admins": {"class": "shared.contrib.django.CeleryAdminEmailHandler", "level": "ERROR"}},
    "loggers": {"django.request": {"handlers": ["mail_admins"]}},
}
