"""Small arithmetic: the first steps of Celery."""
