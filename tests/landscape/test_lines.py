"""Lines through a point: width and convex reach where both are known."""

import numpy as np
import pytest
import torch

from vitdyn.landscape import Surface, convex_reach, line_losses, line_width


def test_the_width_of_a_bowl_is_where_it_has_risen_so_far():
    surface = Surface(lambda at: (at["w"] ** 2).sum() + 5, {"w": torch.zeros(3, dtype=torch.float64)})
    lines = line_losses(surface, list(2 * torch.eye(3, dtype=torch.float64)), 1.0, 201)  # 5 + 4 t²
    assert line_width(lines, 1.0, rise=1.0) == pytest.approx(0.5)
    assert line_width(lines, 1.0, rise=8.0) == 1.0
    assert convex_reach(lines, 1.0) == 1.0


def test_neither_depends_on_the_unit_of_the_loss_or_on_its_zero():
    lines = 1 - np.cos(np.linspace(-2, 2, 81))[None] * np.array([[1.0], [2.0]])
    assert line_width(7 * lines + 3, 2.0, rise=7.0) == pytest.approx(line_width(lines, 2.0, rise=1.0))
    # a cosine has its inflection at π/2, between two places that are 0.05 apart
    assert convex_reach(7 * lines + 3, 2.0) == convex_reach(lines, 2.0) == pytest.approx(1.5, abs=0.051)


def test_a_hill_is_convex_nowhere_and_half_a_line_counts_by_itself():
    t = np.linspace(-1, 1, 41)
    assert convex_reach(-(t**2)[None], 1.0) == 0.0
    # one way convex to the end, the other way to the inflection at −1/2
    assert convex_reach(np.where(t > -0.5, t**2, -(t**2))[None], 1.0) == pytest.approx(0.75, abs=0.051)


def test_round_off_is_not_concave_and_what_is_not_finite_is_not_convex():
    t = np.linspace(-1, 1, 21)
    assert convex_reach(40 + 0.3 * t[None], 1.0) == 1.0
    bowl = np.where(t > 0.45, np.nan, t**2)[None]
    # one way to the end, the other to the last place whose neighbours are there
    assert convex_reach(bowl, 1.0) == pytest.approx((1.0 + 0.3) / 2)
    assert line_width(bowl, 1.0, rise=0.04) == pytest.approx(0.2) and np.isnan(
        line_width(bowl, 1.0, rise=0.5)
    )


def test_an_even_number_of_places_is_refused(complaint):
    surface = Surface(lambda at: at["w"].sum(), {"w": torch.zeros(2)})
    with complaint("points", "must be odd"):
        line_losses(surface, [torch.ones(2)], 1.0, 20)
