"""A space-filling curve through any rectangle: consecutive cells touch, so a run of them is one connected area."""

from __future__ import annotations

from collections.abc import Iterator


def grid_curve(rows: int, columns: int) -> list[tuple[int, int]]:
    """Return all cells (row, column) of the grid in the order of a generalised Hilbert curve.

    The rectangle is halved along its longer side, or cut into the three strokes of a U, until strips
    remain. Consecutive cells share an edge, but for at most a few corner steps when a side is odd.
    """
    sides = complex(columns, 0), complex(0, rows)
    along, across = sides if columns >= rows else sides[::-1]
    return [(int(cell.imag), int(cell.real)) for cell in _strokes(0j, along, across)]


def _strokes(start: complex, along: complex, across: complex) -> Iterator[complex]:
    """Yield the cells of a rectangle; places and sides are complex, columns real and rows imaginary."""
    length, breadth = abs(along), abs(across)
    step, side = along / length, across / breadth
    if length == 1 or breadth == 1:  # a strip: walk along it
        for index in range(int(max(length, breadth))):
            yield start + index * (step if breadth == 1 else side)
        return
    # an odd half would end in a corner that touches no cell of the next stroke
    half = step * _half(length, even=2 * length > 3 * breadth)
    if 2 * length > 3 * breadth:
        yield from _strokes(start, half, across)
        yield from _strokes(start + half, along - half, across)
        return
    lift = side * _half(breadth, even=True)
    yield from _strokes(start, lift, half)
    yield from _strokes(start + lift, along, across - lift)
    yield from _strokes(start + along - step + lift - side, -lift, half - along)


def _half(length: float, *, even: bool) -> float:
    half = length // 2
    return half + 1 if even and half % 2 == 1 and length > 2 else half
