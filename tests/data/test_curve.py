"""The space-filling curve (exact): every cell once, and each step goes to a neighbouring cell."""

from itertools import pairwise, product

import pytest

from vitdyn.data.curve import grid_curve

SIDES = range(1, 17)


def steps(curve):
    return [(abs(a - c), abs(b - d)) for (a, b), (c, d) in pairwise(curve)]


@pytest.mark.parametrize("rows", SIDES)
def test_every_cell_is_visited_once(rows):
    for columns in SIDES:
        assert sorted(grid_curve(rows, columns)) == list(product(range(rows), range(columns)))


@pytest.mark.parametrize("rows", SIDES)
def test_consecutive_cells_touch(rows):
    for columns in SIDES:
        moves = steps(grid_curve(rows, columns))
        assert all(max(move) == 1 for move in moves)
        assert moves.count((1, 1)) <= 1


@pytest.mark.parametrize("rows", SIDES[1::2])
def test_even_grids_have_no_corner_step(rows):
    for columns in SIDES[1::2]:
        assert all(sum(move) == 1 for move in steps(grid_curve(rows, columns)))


def test_curve_stays_local():
    """A quarter of an 8 x 8 curve is a quadrant, which a scan row by row is not."""
    curve = grid_curve(8, 8)
    for start in range(0, 64, 16):
        rows, columns = zip(*curve[start : start + 16], strict=True)
        assert (max(rows) - min(rows), max(columns) - min(columns)) == (3, 3)
