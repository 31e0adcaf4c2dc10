"""Contrast of cosines, and decorrelation: claims with their controls; thresholds against algebra and exact counts."""

from itertools import product
from math import comb, inf, log

import numpy as np
import pytest

from vitdyn.claims import BARLOW_SCALE, COSINE_GAP, COSINE_SPREAD, COSINE_THRESHOLD, check, passes
from vitdyn.claims.cosine import repulsion
from vitdyn.data import AreaSizes, Constant, Uniform
from vitdyn.experiments import ResultStore
from vitdyn.objectives import AlignmentUniformity
from vitdyn.theory import critical_clusters, own_cluster_share, repulsion_threshold
from vitdyn.theory.cosine import count_noise


@pytest.mark.verdict
@pytest.mark.parametrize(
    "claim", [COSINE_THRESHOLD, COSINE_GAP, COSINE_SPREAD, BARLOW_SCALE], ids=lambda claim: claim.id
)
def test_a_claim_holds_and_its_controls_are_refuted(claim, tmp_path):
    verdicts = check((claim,), ResultStore(tmp_path))
    told = "\n".join(f"{each.case}: {each.interval} {each.status}" for each in verdicts)
    assert all(each.status == each.expected for each in verdicts), told
    assert passes(verdicts)


@pytest.mark.parametrize("gap", [(0.9, 0.4), (0.6, 0.5)])
def test_the_threshold_is_that_of_algebra(gap):
    cosine = pytest.importorskip("vitdyn.theory.derivations.cosine")
    sizes, latents = AreaSizes.from_exponents(256, *gap), Uniform(low=1.0, high=1.5)
    noise = count_noise(sizes.local_size, 256, 0.3)
    if sizes.information_gap > 0:  # the ratio of two counts that share the visible patches
        noise += count_noise(sizes.global_size, 256, 0.3) + 2 * (0.3 / 0.7) / 255
    # moments of the uniform distribution: (U^{k+1} − L^{k+1})/((k + 1)(U − L))
    values = {f"m_{k}": (1.5 ** (k + 1) - 1) / ((k + 1) * 0.5) for k in (1, 2, 3)} | {"v": noise}
    symbolic = cosine.threshold() if sizes.information_gap > 0 else cosine.threshold_among_many()
    expected = symbolic.subs({each: values[each.name] for each in symbolic.free_symbols})
    assert repulsion_threshold(sizes, latents, 0.3) == pytest.approx(float(expected), rel=5e-3)


def test_drifts_of_cosines_are_as_the_notes_have_them():
    cosine = pytest.importorskip("vitdyn.theory.derivations.cosine")
    q, v, m1, m2 = cosine.REPULSION, cosine.NOISE, cosine.moment(1), cosine.moment(2)
    m3, i1, i2 = cosine.moment(3), cosine.moment(-1), cosine.moment(-2)
    found = cosine.global_drift() - cosine.LOCAL_AREAS * i1 * (v * m2 - q * (m2 * (1 + v) - m1**2))
    assert found.expand() == 0
    found = cosine.local_drift() - (q * (m3 * i2 * (1 + v) - m1 * m2 * i1**2) - v * m3 * i2)
    assert found.expand() == 0


@pytest.mark.parametrize(("size", "patches", "masked"), [(3, 8, 4), (5, 9, 3)])
def test_the_noise_of_a_count_is_that_of_all_masks(size, patches, masked):
    shown = np.array(range(max(0, size - masked), size + 1))
    ways = [comb(size, n) * comb(patches - size, size + patches - masked - n - size) for n in shown]
    mean = np.average(shown, weights=ways)
    variance = np.average((shown - mean) ** 2, weights=ways)
    assert count_noise(size, patches, masked / patches) == pytest.approx(variance / mean**2)


def test_thresholds_at_their_ends(complaint):
    sizes = AreaSizes.from_exponents(256, 0.9, 0.4)
    assert repulsion_threshold(sizes, Constant(value=1.0)) == 1  # nothing in a cluster tells samples apart
    assert critical_clusters(sizes, Constant(value=1.0), 0.1) == 1
    assert repulsion_threshold(AreaSizes.from_exponents(1e12, 0.6, 0.5), Uniform()) == inf
    for clusters, temperature in product((2, 8), (0.2, 1.0)):
        share = own_cluster_share(clusters, temperature)
        assert 1 / log((clusters - 1) / (1 / share - 1)) == pytest.approx(temperature)
    assert own_cluster_share(1, 0.5) == 1
    with complaint("mask_ratio", "must be a number"):
        repulsion_threshold(sizes, Uniform(), 1.0)
    with complaint("sizes", "must be an AreaSizes"):
        repulsion_threshold(None, Uniform())
    case = COSINE_THRESHOLD.cases("quick")[0]
    assert isinstance(case.runs[0].training.objective, AlignmentUniformity)
    assert repulsion(case.specs[1]) == pytest.approx(repulsion_threshold(sizes, Uniform()), abs=2e-2)
