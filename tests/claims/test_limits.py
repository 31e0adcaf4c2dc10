"""The limits of training at P = 256, at both signs of Δ, each claim with its controls.

Runs are those of the quick scale with five of its eight seeds. Their intervals lie as clearly on one side of the
margin, 0.8, as those of the full scale's 32: MAE-AREA above 0.91, CL-GLOBAL above 0.99, the controls below 0.74.
"""

import numpy as np
import pytest

from vitdyn.claims import CL_GLOBAL, MAE_AREA, MAE_LOSS, check, limits, passes
from vitdyn.experiments import ResultStore

pytestmark = [pytest.mark.verdict, pytest.mark.xdist_group("limits")]


@pytest.fixture(scope="module", autouse=True)
def five_seeds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(limits._SEEDS, "quick", 5)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return ResultStore(tmp_path_factory.mktemp("results"))


def test_claims_hold_and_controls_are_refuted(store):
    verdicts = check((MAE_AREA, MAE_LOSS, CL_GLOBAL), store, scale="quick")
    told = "\n".join(f"{verdict.claim} on {verdict.case}: {verdict.status}" for verdict in verdicts)
    assert all(verdict.status == verdict.expected for verdict in verdicts), told
    assert passes(verdicts)


def test_first_phase_comes_first_iff_the_gap_is_positive(store):
    """φ_1 of local queries falls below −1 before their own φ_a passes half its final value, or never does."""
    for case in MAE_AREA.cases("quick"):
        (experiment,) = case.runs
        phi = store(experiment)["feature_position"].sel(statistic="mean").mean("cluster")
        areas = range(1, phi.sizes["key_area"])
        to_global = phi.isel(query_area=list(areas), key_area=0).mean("query_area").to_numpy()
        to_own = np.mean([phi.isel(query_area=area, key_area=area).to_numpy() for area in areas], axis=0)
        halfway = (to_own >= to_own[-1] / 2).argmax(axis=0)
        lowest_before = np.array([to_global[: stop + 1, seed].min() for seed, stop in enumerate(halfway)])
        if experiment.training.generator.layout.information_gap > 0:
            assert (lowest_before < -1).all()
        else:
            assert (to_global > -1).all()
