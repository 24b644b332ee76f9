"""What a test needs and the machine does not have."""

import os
from typing import NoReturn

import pytest


def missing(message: str) -> NoReturn:
    """Skip on a laptop; where CI=true fail, because there everything is installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
