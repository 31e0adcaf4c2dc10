"""A space-filling curve through any rectangle: consecutive cells touch, so a run of them is one connected area."""

from __future__ import annotations

from collections.abc import Iterator


def grid_curve(rows: int, columns: int) -> list[tuple[int, int]]:
    """Return all cells (row, column) of the grid in the order of a generalised Hilbert curve.

    The rectangle is halved along its longer side, or cut into the three strokes of a U, until strips
    remain. Consecutive cells share an edge, but for at most a few corner steps when a side is odd.
    """
    along, across = ((columns, 0), (0, rows)) if columns >= rows else ((0, rows), (columns, 0))
    return [(row, column) for column, row in _strokes((0, 0), along, across)]


def _strokes(
    start: tuple[int, int], along: tuple[int, int], across: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    length, breadth = abs(sum(along)), abs(sum(across))
    step = tuple(_sign(part) for part in along)
    side = tuple(_sign(part) for part in across)
    if length == 1 or breadth == 1:  # a strip: walk along it
        move = step if breadth == 1 else side
        for index in range(max(length, breadth)):
            yield start[0] + index * move[0], start[1] + index * move[1]
        return
    # an odd half would end in a corner that touches no cell of the next stroke
    half = _half(along, step, length // 2, even=2 * length > 3 * breadth)
    if 2 * length > 3 * breadth:
        yield from _strokes(start, half, across)
        yield from _strokes(_add(start, half), _subtract(along, half), across)
        return
    lift = _half(across, side, breadth // 2, even=True)
    yield from _strokes(start, lift, half)
    yield from _strokes(_add(start, lift), along, _subtract(across, lift))
    corner = _add(start, _subtract(_subtract(along, step), _subtract((0, 0), _subtract(lift, side))))
    yield from _strokes(corner, _subtract((0, 0), lift), _subtract((0, 0), _subtract(along, half)))


def _half(vector: tuple[int, int], unit: tuple[int, ...], length: int, *, even: bool) -> tuple[int, int]:
    longer = even and length % 2 == 1 and abs(sum(vector)) > 2
    scale = length + 1 if longer else length
    return unit[0] * scale, unit[1] * scale


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _add(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, int]:
    return first[0] + second[0], first[1] + second[1]


def _subtract(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, int]:
    return first[0] - second[0], first[1] - second[1]
