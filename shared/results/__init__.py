"""Result stores: Celery's own, with progress that cannot overwrite a final state."""
