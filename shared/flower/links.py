"""Links to the other pages of the house, in the bar at the top of Flower's.

Flower has no setting for them. Its pages are templates of its own package, and Tornado lets an application say who
loads these: so one of them is changed as it is read, and none is copied.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flower.urls import settings
from tornado.escape import xhtml_escape
from tornado.template import Loader, Template

NAVBAR = "navbar.html"
#: Where the first list of the bar ends: after Workers, Tasks and Broker.
_END = "</ul>"
_LINK = '<li class="nav-item"><a class="nav-link" href="{url}" target="_blank" rel="noopener">{name}</a></li>\n'


class Linked(Loader):
    """Loads Flower's templates, one of them with links.

    Args:
        links: URLs by the names that are shown.
    """

    def __init__(self, root: str, links: Mapping[str, str]) -> None:
        super().__init__(root)
        self._html = "".join(
            _LINK.format(url=xhtml_escape(url), name=xhtml_escape(name)) for name, url in links.items()
        )

    def _create_template(self, name: str) -> Any:
        text = Path(self.root, name).read_text()
        if name == NAVBAR:
            text = text.replace(_END, self._html + _END, 1)
        return Template(text, name=name, loader=self)


def install(links: Mapping[str, str]) -> None:
    """Show these links on each page."""
    settings["template_loader"] = Linked(settings["template_path"], links)
