"""Where Flower can be asked, by its own table: a newer Flower's routes are among them."""

import re

from flower.urls import handlers


def flower_routes() -> list[str]:
    """A path for each rule."""
    patterns = [rule.matcher.regex.pattern if hasattr(rule, "matcher") else rule[0] for rule in handlers]
    found = [re.sub(r"\(\.[+*]\)|\.\*", "x", pattern).replace("/?", "").rstrip("$") for pattern in patterns]
    assert all(re.fullmatch(pattern, path) for pattern, path in zip(patterns, found, strict=True)), found
    return [path if path.startswith("/") else f"/{path}" for path in found]
