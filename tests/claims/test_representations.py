"""What the field reads off real models, each claim with its control; and broken on purpose.

Runs are those of the quick scale with five of its eight seeds, and every third model of the grid that LiDAR orders. By
them each case and each control is decided as by all, at a quarter to a half of the time. Metrics, of which claims read
the last, are taken at four steps for twelve.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from vitdyn.claims import (
    INCONCLUSIVE,
    LIDAR_ORDER,
    PARK_DISTANCE,
    PARK_FREQUENCY,
    PARK_HOMOGENEITY,
    PARK_MIXTURE,
    REFUTED,
    check,
    judge,
    representations,
)
from vitdyn.claims.representations import ORDERED_STEPS
from vitdyn.dynamics import Schedule
from vitdyn.experiments import ResultStore
from vitdyn.trajectory import Trajectory

pytestmark = [pytest.mark.verdict, pytest.mark.xdist_group("representations")]

PARK = (PARK_DISTANCE, PARK_HOMOGENEITY, PARK_FREQUENCY, PARK_MIXTURE)


def on_every_third_model(claim):
    def thinned(cases):
        return lambda scale: tuple(replace(case, runs=case.runs[::3]) for case in cases(scale))

    return replace(claim, cases=thinned(claim.cases), controls=thinned(claim.controls))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return ResultStore(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module", autouse=True)
def few_seeds_and_frames():
    few = partial(representations.measured_run, schedule=Schedule(frames=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(representations._SEEDS, "quick", 5)
        patch.setattr(representations, "measured_run", few)
        yield


@pytest.mark.parametrize("claim", [*PARK, on_every_third_model(LIDAR_ORDER)], ids=lambda claim: claim.id)
def test_a_claim_holds_and_its_controls_are_refuted(claim, store):
    for verdict in check((claim,), store):
        assert verdict.status == verdict.expected, f"{verdict.case}: {verdict.interval} {verdict.reason}"


@pytest.mark.parametrize("claim", PARK[:2], ids=lambda claim: claim.id)
def test_a_claim_is_refuted_if_objectives_change_places(claim, store):
    for case in claim.cases("quick"):
        contrast, reconstruction = (store(run) for run in case.runs)
        assert judge(claim, case, (reconstruction, contrast)).status == REFUTED


def test_queries_attend_alike_after_contrast_at_every_step(store):
    """Mean pooling gives all position queries one gradient: the mutual information is 0 to round-off, at every step.

    Where queries hold contents it is not, which leaves the claim on them something to find.
    """
    for case in PARK_DISTANCE.cases("quick"):
        assert store(case.runs[0])["mutual_information"].to_numpy().max() < 1e-6
    for case in PARK_HOMOGENEITY.cases("quick"):
        assert store(case.runs[0])["mutual_information"].max("frame").to_numpy().min() > 0.02


def models(case, lidar, rank_me, quality):
    """A grid of one run whose metrics are given by number of frame and seed."""
    import xarray

    frames = len(ORDERED_STEPS)
    values = {"lidar": lidar, "rank_me": rank_me, "local_r_squared": quality}
    variables = {name: (("frame", "seed"), np.reshape(each, (frames, -1))) for name, each in values.items()}
    dataset = xarray.Dataset(variables, {"step": ("frame", list(ORDERED_STEPS))}, {"spec": "{}"})
    return judge(LIDAR_ORDER, replace(case, runs=case.runs[:1]), (Trajectory(dataset),))


def test_order_is_all_that_lidar_is_asked_for(rng):
    (case,) = LIDAR_ORDER.cases("quick")
    quality = np.sort(rng.random((3, 6)), axis=0)
    right = models(case, np.exp(quality), -quality, quality)
    assert (right.measured, right.low, right.high) == pytest.approx((2, 2, 2), abs=1e-12)
    assert models(case, -quality, np.exp(quality), quality).status == REFUTED
    assert models(case, quality, 3 * quality, quality).status == REFUTED  # equal orders: no better
    tied = models(case, np.ones((3, 6)), quality, quality)
    assert tied.status == INCONCLUSIVE and "no finite value" in tied.reason


def test_a_grid_has_every_objective_and_each_model_once():
    (case,) = LIDAR_ORDER.cases("quick")
    (control,) = LIDAR_ORDER.controls("quick")
    assert len({run.key for run in case.runs}) == len(case.runs) == 18
    assert {run.training.objective.name for run in case.runs} == {"mae", "cl", "mixture"}
    for run, other in zip(case.runs, control.runs, strict=True):
        pairs = zip(run.training.observables, other.training.observables, strict=True)
        changed = [(one.compute, another.compute) for one, another in pairs if one != another]
        assert len(changed) == 4
        for one, another in changed:
            assert replace(another, images=replace(another.images, within_cluster=True)) == one
        assert replace(other.training, observables=run.training.observables) == run.training


def test_the_scattered_control_has_the_same_sizes():
    for case, control in zip(PARK_DISTANCE.cases("quick"), PARK_DISTANCE.controls("quick"), strict=True):
        for run, other in zip(case.runs, control.runs, strict=True):
            layouts = run.training.generator.layout, other.training.generator.layout
            assert np.array_equal(layouts[0].sizes, layouts[1].sizes)
            assert layouts[0].partition != layouts[1].partition
