"""What all metrics share: leading axes, float64, presets that run and are returned (exact)."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from vitdyn import metrics
from vitdyn.metrics import attention, clusters, geometry, neighbours, probe, rank, similarity, spectra
from vitdyn.metrics.lidar import LIDAR
from vitdyn.metrics.measured import blockwise, centred

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])


def maps(x):
    return torch.softmax(x @ x.mT, -1)


def labelled(function, **arguments):
    return lambda x, **how: function(x, LABELS, x + 0.1, LABELS, **arguments, **how)


# name: how it is called on features (*batch, 9, 4), its presets
ON_FEATURES = {
    "distance": (lambda x, **how: metrics.attention_distance(maps(x), (3, 3), **how), attention.DISTANCE),
    "information": (
        lambda x, **how: metrics.mutual_information(maps(x), **how),
        attention.MUTUAL_INFORMATION,
    ),
    "entropy": (lambda x, **how: metrics.attention_entropy(maps(x), **how), attention.ENTROPY),
    "scores": (lambda x, **how: metrics.top_key_scores(maps(x), top=3, **how), attention.SCORES),
    "positions": (lambda x, **how: metrics.position_deviation(maps(x), **how), attention.DEVIATION),
    "tokens": (lambda x, **how: metrics.homogeneity(x, over="token", **how), similarity.COSINE),
    "cka": (lambda x, **how: metrics.cka(x, x.sin() + x[..., :1], **how), similarity.CKA),
    "fourier": (lambda x, **how: metrics.fourier_log_amplitude(x, 3, **how), spectra.FOURIER),
    "spectrum": (lambda x, **how: metrics.singular_value_spectrum(x, by="token", **how), spectra.SPECTRUM),
    "variance": (metrics.feature_map_variance, spectra.VARIANCE),
    "rank_me": (metrics.rank_me, rank.RANK),
    "ne_sum": (metrics.ne_sum, rank.COVARIANCE),
    "participation": (metrics.participation_ratio, rank.COVARIANCE),
    "decay": (lambda x, **how: metrics.spectral_decay(x, first=1, last=4, **how), rank.DECAY),
    "alignment": (lambda x, **how: metrics.alignment(x, x.sin(), **how), geometry.SPHERE),
    "uniformity": (metrics.uniformity, geometry.SPHERE),
    "dimension": (metrics.intrinsic_dimension, clusters.DIMENSION),
    "learnability": (
        lambda x, **how: metrics.cluster_learnability(x, clusters=3, seed=0, **how),
        clusters.LEARNABILITY,
    ),
    "ridge": (labelled(metrics.ridge_probe, penalty=0.1), probe.PROBE),
    "logistic": (labelled(metrics.logistic_probe, penalty=0.1), probe.PROBE),
    "neighbours": (labelled(metrics.neighbour_accuracy, neighbours=3), neighbours.NEIGHBOURS),
    "determination": (
        lambda x, **how: metrics.ridge_r_squared(x, x.sin(), x, x.cos(), penalty=0.1, **how),
        probe.PROBE,
    ),
}
# those of (*batch, 9, 3, 4): tokens of heads, depths, images; views of objects
ON_GROUPS = {
    "heads": (lambda x, **how: metrics.homogeneity(x, over="head", **how), similarity.COSINE),
    "depth": (lambda x, **how: metrics.homogeneity(x, over="depth", **how), similarity.COSINE),
    "head_deviation": (lambda x, **how: metrics.head_deviation(maps(x), **how), attention.DEVIATION),
    "images": (lambda x, **how: metrics.singular_value_spectrum(x, by="image", **how), spectra.SPECTRUM),
    "lidar": (metrics.lidar, LIDAR),
}
CASES = [
    pytest.param(call, shape, name, id=f"{metric}-{name}")
    for cases, shape in ((ON_FEATURES, (9, 4)), (ON_GROUPS, (9, 3, 4)))
    for metric, (call, presets) in cases.items()
    for name in presets
]


@pytest.mark.parametrize(("call", "shape", "name"), CASES)
def test_leading_axes_are_the_problems_one_by_one(rng, call, shape, name):
    features = torch.from_numpy(rng.standard_normal((2, 3, *shape)))
    together = call(features, convention=name).value
    assert together.dtype == torch.float64 and torch.isfinite(together).all()
    for i in range(2):
        for j in range(3):
            alone = call(features[i, j], convention=name).value
            assert alone.shape == together.shape[2:]
            np.testing.assert_allclose(alone, together[i, j], rtol=1e-10, atol=1e-10)
    empty = call(features[:0], convention=name).value
    assert empty.shape == (0, *together.shape[1:])


@pytest.mark.parametrize("metric", [*ON_FEATURES, *ON_GROUPS])
def test_the_convention_is_returned_and_may_be_one_s_own(rng, metric, complaint):
    call, presets = (ON_FEATURES | ON_GROUPS)[metric]
    features = torch.from_numpy(rng.standard_normal((9, 4) if metric in ON_FEATURES else (9, 3, 4)))
    default = call(features)
    assert default.convention == presets["exact"]
    for preset in presets.values():
        found = call(features, convention=preset)
        assert found.convention == preset
    with complaint("convention", ", ".join(presets)):
        call(features, convention="plain")
    with complaint("convention", "must be one of"):
        call(features, convention=0.5)


def test_half_and_single_precision_are_read_in_double(rng):
    features = torch.from_numpy(rng.standard_normal((9, 4))).float()
    for kind in (torch.float32, torch.bfloat16):
        found = metrics.rank_me(features.to(kind)).value
        np.testing.assert_allclose(found, metrics.rank_me(features.to(kind).double()).value, rtol=1e-14)


@pytest.mark.parametrize("measure", [metrics.mutual_information, metrics.attention_entropy])
def test_gradients_pass(rng, measure):
    """Against finite differences, which takes the in-place steps of the entropy with it."""
    logits = torch.from_numpy(rng.standard_normal((2, 5, 5))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: measure(x.softmax(-1)).value, logits)


def test_conventions_are_frozen():
    with pytest.raises(FrozenInstanceError):
        LIDAR["exact"].delta = 1.0


def test_only_real_arrays(complaint):
    with complaint("features", "a dense torch tensor, a numpy array or nested lists of numbers"):
        metrics.rank_me("features")
    with complaint("features", "real"):
        metrics.rank_me(torch.ones(3, 2, dtype=torch.complex64))
    with complaint("shape of features", "sample ≥ 2, feature ≥ 1"):
        metrics.ne_sum(torch.ones(3))


def test_blocks_change_nothing(rng):
    """Many maps of a size at which several blocks are needed."""
    array = torch.from_numpy(rng.standard_normal((5, 3, 200, 300))).float()
    found = blockwise(lambda block: block.sum((-2, -1)), array, 2)
    np.testing.assert_allclose(found, array.double().sum((-2, -1)), rtol=1e-12, atol=1e-9)


def test_centred_leaves_no_round_off():
    assert (centred(torch.full((7, 3), 0.1, dtype=torch.float64)) == 0).all()
