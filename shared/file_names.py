"""Which names a file under `REPORTS_URL` can have: a check of the text alone, for whoever has no storage."""

from shared.errors import Final

#: Characters of a name. An object's key may have 1024 bytes at S3, and the bucket's folder takes some of them.
LONGEST_NAME = 512
#: Bytes between two slashes: the limit of the usual file systems.
LONGEST_SEGMENT = 255


class BadName(Final, ValueError):
    """A file's name leads out of the storage, or not every kind of storage can keep it. The message gives the name."""


def check(name: str) -> None:
    """Raise BadName unless the name is a plain relative path that every kind of storage can keep."""
    if not name or len(name) > LONGEST_NAME:
        problem = f"must have 1 to {LONGEST_NAME} characters"
    elif "\\" in name or not name.isprintable():
        problem = "must have no backslash and no control character"
    elif any(segment in ("", ".", "..") for segment in name.split("/")):
        problem = "must be a relative path without an empty segment, `.` or `..`"
    elif any(len(segment.encode()) > LONGEST_SEGMENT for segment in name.split("/")):
        problem = f"must have at most {LONGEST_SEGMENT} bytes between two slashes"
    else:
        return
    raise BadName(f"The file name {name!r:.200} {problem}")
