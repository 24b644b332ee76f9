"""The outbox's table as a Django application: `INSTALLED_APPS += ["shared.contrib.django_outbox"]`, then `migrate`.

with transaction.atomic():
    order.save()
    outbox.add(connection, mailer.send_notice(...))     # django.db.connection
"""
