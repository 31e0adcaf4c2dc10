"""BYOL, SimSiam, DINO and iBOT against transcriptions with loops, and at their edges (exact: round-off of float64)."""

from math import log

import pytest
import torch
import transcriptions as literal

from vitdyn import losses

LEADS, SAMPLES, PATCHES, SIZE = 2, 4, 5, 3


@pytest.fixture
def normal(rng):
    """Draw a normal array of float64."""
    return lambda *shape: torch.from_numpy(rng.standard_normal(shape))


def same(found, expected):
    torch.testing.assert_close(found, torch.stack(list(expected)), rtol=1e-12, atol=1e-13)


def of_lead(views, lead):
    return [view[lead] for view in views]


def test_byol_and_simsiam(normal):
    predicted, targets = ([normal(LEADS, SAMPLES, SIZE) for _ in range(2)] for _ in range(2))
    for name in ("byol", "simsiam"):
        found = getattr(losses, name)(predicted, targets)
        of_each = (getattr(literal, name)(of_lead(predicted, l), of_lead(targets, l)) for l in range(LEADS))  # noqa: E741
        same(found, of_each)
    stopped = losses.byol(predicted, [target.requires_grad_() for target in targets])
    assert not stopped.requires_grad


@pytest.mark.parametrize("teachers", [1, 2])
def test_dino_pairs_each_teacher_with_the_other_views(teachers, normal):
    students = [normal(LEADS, SAMPLES, SIZE) for _ in range(3)]
    taught, centre = [normal(LEADS, SAMPLES, SIZE) for _ in range(teachers)], normal(LEADS, SIZE)
    found = losses.dino(students, taught, centre, student_temperature=0.3, teacher_temperature=0.2)
    of_each = (
        literal.dino(of_lead(students, lead), of_lead(taught, lead), centre[lead], 0.3, 0.2)
        for lead in range(LEADS)
    )
    same(found, of_each)


def test_ibot(normal, rng):
    pooled, patches = (
        tuple([normal(LEADS, SAMPLES, *rest, SIZE) for _ in range(2)] for _ in range(2))
        for rest in ((), (PATCHES,))
    )
    masked = [torch.from_numpy(rng.random((LEADS, SAMPLES, PATCHES)) < 0.5) for _ in range(2)]
    masked[0][:, 0], masked[1][:, 1] = False, True
    centres = normal(LEADS, SIZE), normal(LEADS, SIZE)
    kept = {"student_temperature": 0.3, "teacher_temperature": 0.2, "weight": 0.7}
    found = losses.ibot(pooled, patches, masked, centres, **kept)
    of_each = (
        literal.ibot(
            [of_lead(each, lead) for each in pooled],
            [of_lead(each, lead) for each in patches],
            of_lead(masked, lead),
            of_lead(centres, lead),
            *(0.3, 0.2, 0.7),
        )
        for lead in range(LEADS)
    )
    same(found, of_each)
    columns = {name: torch.full((LEADS, 1, 1), value, dtype=torch.float64) for name, value in kept.items()}
    torch.testing.assert_close(losses.ibot(pooled, patches, masked, centres, **columns), found)


def test_a_centre_is_a_moving_average_of_all_rows(normal):
    centre, views = normal(LEADS, SIZE), [normal(LEADS, SAMPLES, PATCHES, SIZE) for _ in range(2)]
    expected = 0.8 * centre + 0.2 * (views[0] + views[1]).mean((1, 2)) / 2
    torch.testing.assert_close(losses.next_centre(centre, views, momentum=0.8), expected)
    pooled = [view[:, :, 0] for view in views]
    expected = 0.8 * centre + 0.2 * (pooled[0] + pooled[1]).mean(1) / 2
    torch.testing.assert_close(losses.next_centre(centre, pooled, momentum=0.8), expected)


class TestEdges:
    def test_a_constant_output_costs_log_d_where_centred_and_nothing_where_sharp(self, normal):
        centre = normal(LEADS, SIZE)
        constant = [centre[:, None].expand(-1, SAMPLES, -1)] * 2
        zero = [torch.zeros(LEADS, SAMPLES, SIZE).double()] * 2
        torch.testing.assert_close(
            losses.dino(zero, constant, centre), torch.full((LEADS,), log(SIZE)).double()
        )
        huge = [1e4 * view for view in constant]
        assert (losses.dino(huge, huge, 0 * centre).abs() < 1e-12).all()

    def test_vectors_that_are_equal_or_of_length_0(self, normal):
        view = normal(LEADS, SAMPLES, SIZE)
        torch.testing.assert_close(losses.simsiam([view] * 2, [view] * 2), -torch.ones(LEADS).double())
        zero = torch.zeros_like(view).requires_grad_()
        found = losses.byol([zero, zero], [view, view])
        assert found.tolist() == [4.0] * LEADS
        assert torch.autograd.grad(found.sum(), zero)[0].isfinite().all()

    def test_complaints(self, normal, complaint):
        views, centre = [normal(LEADS, SAMPLES, SIZE)] * 2, normal(LEADS, SIZE)
        for field, call in (
            ("student_temperature", lambda: losses.dino(views, views, centre, student_temperature=0.0)),
            ("teacher_temperature", lambda: losses.dino(views, views, centre, teacher_temperature=-1.0)),
            ("students", lambda: losses.dino(views[:1], views[:1], centre)),
            ("target", lambda: losses.byol(views, [view[:, :1] for view in views])),
        ):
            with complaint(field):
                call()
