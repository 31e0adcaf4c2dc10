"""How results show themselves in a notebook: plain tables in the notebook's own colours, light or dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_LEFT = 'style="text-align: left"'


def html_table(title: str, rows: Iterable[Iterable[object]], columns: Iterable[str] = ()) -> str:
    """Return a table as HTML: what its cells say, escaped, under the names of its columns if it has any."""
    head = _row("th", columns) if columns else ""
    body = "".join(_row("td", row) for row in rows)
    lines = escape(title).replace("\n", "<br>")
    return f"<table><caption {_LEFT}>{lines}</caption>{head}{body}</table>"


def _row(tag: str, cells: Iterable[object]) -> str:
    written = (f"<{tag} {_LEFT}>{escape(str(cell))}</{tag}>" for cell in cells)
    return f"<tr>{''.join(written)}</tr>"
