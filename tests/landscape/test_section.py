"""Sections of surfaces (exact): values, derivatives, invariance, the same bits twice and resumed; what is refused."""

import numpy as np
import pytest
import torch

from vitdyn.landscape import (
    Hessian,
    Section,
    Surface,
    gaussian_direction,
    normalised,
    section,
    top_eigenvalues,
)
from vitdyn.landscape.plane import Plane

GRID = np.linspace(-1, 1, 5)


def plane_of(surface, by="goldstein", **options):
    return [normalised(surface, gaussian_direction(surface, seed), by, **options) for seed in (0, 1)]


def test_a_section_of_a_quadratic_is_the_quadratic(quadratic):
    d, away = np.array([2.0, -1.0, 2.0, 0.0]), 0.5
    surface = quadratic(d.tolist(), away)
    axes = np.array([[1.0, 2.0, 0.0, 1.0], [0.0, 1.0, -1.0, 3.0]])
    found = section(surface, list(torch.from_numpy(axes)), (GRID, [-2.0, 0.0, 1.0]), derivatives=True)
    a, b = np.meshgrid(GRID, [-2.0, 0.0, 1.0], indexing="ij")
    w = away + a[..., None] * axes[0] + b[..., None] * axes[1]
    np.testing.assert_allclose(found["loss"], (w**2 @ d) / 2, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(found["slope"], (w * d) @ axes.T, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(
        found["curvature"], np.broadcast_to(axes * d @ axes.T, (5, 3, 2, 2)), atol=1e-13
    )
    assert found["loss"].dims == ("first", "second") and found["second"].values.tolist() == [-2, 0, 1]
    np.testing.assert_allclose(found.spec["lengths"], np.linalg.norm(axes, axis=1))
    assert found.spec["cosines"] == pytest.approx([5 / (6 * 11) ** 0.5])


def test_eigenvectors_are_directions(quadratic):
    surface = quadratic([2.0, -1.0, 5.0, 0.0], 0.5)
    found = section(surface, top_eigenvalues(Hessian(surface), 2).vectors, GRID, derivatives=True)
    np.testing.assert_allclose(found["curvature"][0, 0], np.diag([5, 2]), atol=1e-8)


def test_stopped_values_stay_what_they_are_at_the_point_all_over_the_plane():
    at = {"w": torch.tensor([2.0], dtype=torch.float64)}
    frozen, moving = (
        Surface(lambda at: (at["w"] * at["w"].detach()).sum(), at, stopped=s) for s in ("frozen", "moving")
    )
    for surface, values, curvature in ((frozen, [2.0, 4.0, 6.0], 0.0), (moving, [1.0, 4.0, 9.0], 2.0)):
        found = section(surface, [torch.ones(1)], [-1.0, 0.0, 1.0], derivatives=True)
        assert found["loss"].values.tolist() == values
        assert found["curvature"].values.flatten().tolist() == [curvature] * 3


@pytest.mark.parametrize("one_dimensional", ["zero", "weight", "scaled"])
def test_rescaling_consecutive_layers_changes_no_normalised_section(perceptron, one_dimensional):
    def values(scale, by):
        surface = perceptron(scale)
        return section(surface, plane_of(surface, by, one_dimensional=one_dimensional), GRID)["loss"].values

    for by in ("goldstein", "how-do-vits-work", "layer"):
        np.testing.assert_allclose(values(7.0, by), values(1.0, by), rtol=1e-11)
    # one factor to each hidden unit: rows of the first layer are filters, those of the second are none any more
    each = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert not np.allclose(values(each, "goldstein"), values(1.0, "goldstein"), rtol=0.01)
    raw = [section(s, [gaussian_direction(s, 0)], GRID)["loss"].values for s in map(perceptron, (1.0, 7.0))]
    assert not np.allclose(*raw, rtol=0.01)


def test_twice_and_interrupted_and_saved_are_the_same_bits(perceptron, tmp_path, monkeypatch):
    surface, path = perceptron(1.0), tmp_path / "section.nc"
    directions = plane_of(surface)
    whole = section(surface, directions, GRID, derivatives=True)
    assert whole.dataset.identical(section(surface, directions, GRID, derivatives=True).dataset)
    value, asked = Plane.value, []

    def interrupted(self, place):
        asked.append(place)
        if len(asked) == 12:
            raise KeyboardInterrupt
        return value(self, place)

    with monkeypatch.context() as patched:
        patched.setattr(Plane, "value", interrupted)
        with pytest.raises(KeyboardInterrupt):
            section(surface, directions, GRID, derivatives=True, checkpoint=path)
    with pytest.raises(ValueError, match=r"holds 11 of 25 values: call section\(\)"):
        Section.load(path)
    asked.clear()
    monkeypatch.setattr(Plane, "value", lambda self, place: asked.append(place) or value(self, place))
    resumed = section(surface, directions, GRID, derivatives=True, checkpoint=path)
    assert len(asked) == 14 + 2  # what is missing, and the first point before and after
    assert whole.dataset.identical(resumed.dataset)
    assert whole.dataset.identical(Section.load(path).dataset)
    assert whole.dataset.identical(Section.load(whole.save(tmp_path / "again.nc")).dataset)


def test_a_checkpoint_of_another_section_is_refused(perceptron, tmp_path, complaint):
    surface, path = perceptron(1.0), tmp_path / "section.nc"
    directions = plane_of(surface)
    section(surface, directions, GRID, checkpoint=path)
    bent = Surface(
        lambda at: surface.loss(at) + ((at["bias"] - surface.parameters["bias"]) ** 2).sum(),
        surface.parameters,
    )
    moved = [*map(torch.clone, directions)]
    moved[1][0] += 1
    along = plane_of(surface, one_dimensional="weight")
    cases = {
        "point": lambda: section(perceptron(2.0), directions, GRID, checkpoint=path),
        "directions": lambda: section(surface, moved, GRID, checkpoint=path),
        "coordinates": lambda: section(surface, directions, 2 * GRID, checkpoint=path),
        "derivatives": lambda: section(surface, directions, GRID, checkpoint=path, derivatives=True),
    }
    for words, ask in cases.items():
        with complaint("checkpoint", f"{words}"):
            ask()
    section(surface, along, GRID, checkpoint=(other := tmp_path / "other.nc"))
    assert bent.value() == surface.value()
    with complaint("checkpoint", "loss away from θ"):
        section(bent, along, GRID, checkpoint=other)
    other.write_bytes(other.read_bytes()[:-80])
    with complaint("path", "not a readable result file"):
        section(surface, along, GRID, checkpoint=other)


def test_a_loss_that_changes_while_the_section_is_made_is_refused_and_leaves_no_file(tmp_path, complaint):
    asked = []

    def drifting(at):
        asked.append(None)
        return at["w"].sum() + (len(asked) > 6)

    surface = Surface(drifting, {"w": torch.ones(2)})
    with complaint("loss", "was 3.0 when asked again after the section"):
        section(surface, [torch.ones(2)], GRID, checkpoint=tmp_path / "section.nc")
    assert not list(tmp_path.iterdir())


def test_a_section_in_half_precision_is_one():
    bowl = Surface(lambda at: at["w"].square().sum(), {"w": torch.ones(2, dtype=torch.bfloat16)})
    assert section(bowl, [bowl.point], [-1.0, 0.0, 1.0])["loss"].values.tolist() == [0.0, 2.0, 8.0]


def test_values_that_are_not_finite_are_kept_and_told():
    surface = Surface(lambda at: at["w"].sum().log(), {"w": torch.ones(1)})
    with pytest.warns(RuntimeWarning, match="2 of the section's 3 values"):
        found = section(surface, [torch.ones(1)], [-2.0, -1.0, 0.0])["loss"].values
    assert np.isnan(found[0]) and found[1] == -np.inf and found[2] == 0


def test_what_spans_no_section_is_refused_in_one_line(quadratic, complaint):
    surface, one = quadratic([1.0, 2.0]), torch.ones(2)
    for field, words, directions, grid in (
        ("directions", "one or two", [one] * 3, GRID),
        ("directions", "one or two", one, GRID),
        ("directions[1], parameter 'w'", "must be finite", [one, one * torch.nan], GRID),
        ("directions[0]", "must not be zero", [0 * one], GRID),
        ("vector", "must have 2 numbers", [torch.ones(3)], GRID),
        ("coordinates[0]", "increasing", [one], [0.0, 2.0, 1.0]),
        ("coordinates[1]", "increasing", [one, one], (GRID, [0.0, np.nan])),
        ("coordinates", "as many sequences", [one, one], (GRID,)),
    ):
        with complaint(field, words):
            section(surface, directions, grid)


def test_it_says_how_long_it_takes_and_how_far_it_is(quadratic, capsys):
    section(quadratic([1.0, 2.0]), [torch.ones(2)], GRID, show_progress=True)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("section: 5 of 5 values to find, about 0")
    assert last.startswith("section: 5 of 5 values (100 %)")
