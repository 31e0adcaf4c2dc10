"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable


def text_table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return rows as lines of aligned columns; numbers that are not whole get three decimals."""
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
