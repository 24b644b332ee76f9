"""What is sold."""

from django.db import models


class Order(models.Model):
    """An order; its confirmation is a task, which the outbox keeps with it."""

    address = models.EmailField()
    confirmation = models.CharField(max_length=255)
