"""The application's name."""

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """Has a table and no models: the relay reads it, not Django."""

    name = "shared.contrib.django_outbox"
    label = "taskhouse_outbox"
    default_auto_field = "django.db.models.BigAutoField"
