"""Every link of the built pages is followed: to files and anchors here, never to the network."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


class Page(HTMLParser):
    """The links of a page, its anchors, and what it would fetch from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)
                if tag != "a" and urlsplit(value).netloc:
                    self.fetched.add(value)


def faults(folder: Path) -> list[str]:
    """Return a line for each link to nothing, and for each page that needs the network."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(folder)
        found += [f"{where} would fetch {address}" for address in sorted(page.fetched)]
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{where} leads to {link}, which is no file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{where} leads to {link}, which has no such anchor")
    return found


def _follow(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html" and (found := faults(Path(app.outdir).resolve())):
        raise ExtensionError("links of the built pages:\n" + "\n".join(found))


def setup(app: Sphinx) -> dict[str, bool]:
    """Follow the links when all pages are written."""
    app.connect("build-finished", _follow, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
