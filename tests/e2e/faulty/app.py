"""In the tests, in the place of the reporter's own `app.py`: the same app, with tasks that go wrong on purpose."""

from shared.app import create_app

app = create_app("reporter")
app.conf.include = [*app.conf.include, "services.reporter.faulty"]
