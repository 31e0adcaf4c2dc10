"""What pages are put together from: the document around a body, tables, marks of status, escaped words."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from vitdyn.pages.math_font import font_face
from vitdyn.pages.style import STYLE


def document(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """Return a whole page around a body of HTML: the one style and what is added to it, and a script at the end.

    The title is plain words; ``body``, ``style`` and ``script`` stand in the page as they are.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{font_face()}\n{STYLE}\n{style}</style>\n</head>\n<body>\n{body}\n"
        f"{f'<script>{script}</script>' if script else ''}</body>\n</html>\n"
    )


def text(words: str) -> str:
    """Return plain words as HTML, in which they are words and nothing else, in attributes too."""
    return escape(words, quote=True)


def badge(status: str) -> str:
    """Return the mark of a verdict's status."""
    return f'<span class="status {text(status)}">{text(status)}</span>'


def table(header: Iterable[str], rows: Iterable[Iterable[str]], *, numeric: Iterable[str] = ()) -> str:
    """Return a table of cells that are HTML already, wider than a phone where it must be.

    Cells of the columns named in ``numeric`` are not broken into lines.
    """
    header, unbroken = tuple(header), frozenset(numeric)
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    kinds = [' class="number"' if name in unbroken else "" for name in header]
    lines = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>{lines}</tbody>\n</table></div>'
    )
