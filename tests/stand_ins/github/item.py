"""A repository as an item of GitHub's search answer: the fields that matter, with GitHub's names and types."""

from base64 import urlsafe_b64encode
from datetime import datetime
from typing import Any

from tests.stand_ins.github.derived import choice, digest
from tests.stand_ins.github.search import Found

LICENSES = (
    ("mit", "MIT License", "MIT"),
    ("apache-2.0", "Apache License 2.0", "Apache-2.0"),
    ("gpl-3.0", "GNU General Public License v3.0", "GPL-3.0"),
    ("bsd-3-clause", 'BSD 3-Clause "New" or "Revised" License', "BSD-3-Clause"),
    None,
)


def render(found: Found) -> dict[str, Any]:
    repository = found.repository
    name = repository.full_name
    return {
        "id": repository.id,
        "node_id": _node_id("R", repository.id),
        "name": repository.name,
        "full_name": name,
        "private": False,
        "owner": _owner(repository.owner),
        "html_url": f"https://github.com/{name}",
        "description": repository.description,
        "fork": False,
        "url": f"https://api.github.com/repos/{name}",
        "created_at": _text(found.created_at),
        "updated_at": _text(found.pushed_at),
        "pushed_at": _text(found.pushed_at),
        "homepage": choice("homepage", name, (None, "", f"https://{repository.owner.lower()}.example/")),
        "size": digest("size", name) % 500_000,
        "stargazers_count": repository.stars,
        "watchers_count": repository.stars,  # GitHub counts stars under three names
        "language": repository.language,
        "forks_count": repository.forks,
        "open_issues_count": repository.issues,
        "license": _license(name),
        "topics": list(repository.topics),
        "visibility": "public",
        "forks": repository.forks,
        "open_issues": repository.issues,
        "watchers": repository.stars,
        "default_branch": choice("branch", name, ("main", "main", "master")),
        "score": 1.0,
    }


def _owner(login: str) -> dict[str, Any]:
    number = 1_000 + digest("owner", login) % 200_000_000
    return {
        "login": login,
        "id": number,
        "node_id": _node_id("U", number),
        "url": f"https://api.github.com/users/{login}",
        "html_url": f"https://github.com/{login}",
        "type": choice("kind", login, ("Organization", "User")),
    }


def _license(full_name: str) -> dict[str, str] | None:
    chosen = choice("license", full_name, LICENSES)
    if chosen is None:
        return None
    key, title, spdx = chosen
    return {"key": key, "name": title, "spdx_id": spdx, "url": f"https://api.github.com/licenses/{key}"}


def _node_id(kind: str, number: int) -> str:
    """GitHub's opaque ids are the MessagePack of `[0, id]` behind a letter for the type."""
    packed = b"\x92\x00\xce" + number.to_bytes(4, "big")
    return f"{kind}_{urlsafe_b64encode(packed).rstrip(b'=').decode()}"


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
