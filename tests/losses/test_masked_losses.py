"""Losses of masked patches against their formulas written as loops in plain Python, and at the edges. Exact."""

from math import exp, log, sqrt

import numpy as np
import pytest
import torch

from vitdyn.losses import beit, cmae, data2vec, i_jepa, mae, rc_mae, simmim, u_mae_uniformity

SHAPE = LEAD, SAMPLES, PATCHES, DIMENSIONS = 2, 3, 5, 6


@pytest.fixture
def arrays(rng):
    """Predictions, targets, a teacher's outputs, and which patches are masked: some in each sample."""
    masked = rng.random(SHAPE[:3]) < 0.6
    masked[:, :, 0] = True
    return *(torch.from_numpy(rng.normal(size=SHAPE)) for _ in range(3)), torch.from_numpy(masked)


def patches_of(masked, lead):
    """Every masked patch, (sample, patch)."""
    return [(b, p) for b in range(SAMPLES) for p in range(PATCHES) if masked[lead, b, p]]


def mean_over_masked(masked, of_patch):
    """For each lead the mean over masked patches of a function of (lead, sample, patch)."""
    return [
        sum(of_patch(lead, b, p) for b, p in patches_of(masked, lead)) / len(patches_of(masked, lead))
        for lead in range(LEAD)
    ]


def normal(values, epsilon, unbiased=False):
    """Plain numbers less their mean, over √(variance + ε)."""
    values = [float(value) for value in values]
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - unbiased)
    return [(value - mean) / sqrt(variance + epsilon) for value in values]


def squares(first, second):
    return [(float(a) - float(b)) ** 2 for a, b in zip(first, second, strict=True)]


def smooth(first, second, beta):
    gaps = [abs(float(a) - float(b)) for a, b in zip(first, second, strict=True)]
    return [0.5 * gap**2 / beta if gap < beta else gap - beta / 2 for gap in gaps]


def agree(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("normalise", [False, True])
def test_mae_and_rc_mae(arrays, normalise):
    student, target, teacher, masked = arrays

    def goal(*at):
        return normal(target[at], 1e-6, unbiased=True) if normalise else target[at]

    rebuilt = mean_over_masked(masked, lambda *at: np.mean(squares(student[at], goal(*at))))
    agree(mae(student, target, masked, normalise=normalise), rebuilt)
    agree(mae(student, target, masked.double(), normalise=normalise), rebuilt)
    kept = mean_over_masked(masked, lambda *at: np.mean(squares(student[at], teacher[at])))
    found = rc_mae(student, teacher, target, masked, weight=0.3, normalise=normalise)
    agree(found, np.add(rebuilt, 0.3 * np.array(kept)))


def test_cmae_adds_contrast_with_the_teacher(arrays):
    student, target, teacher, masked = arrays
    query, key = student[:, :, 1], teacher[:, :, 2]

    def cosine(first, second):
        return float(first @ second) / sqrt(float(first @ first) * float(second @ second))

    expected = mean_over_masked(masked, lambda *at: np.mean(squares(student[at], target[at])))
    for lead in range(LEAD):
        for b in range(SAMPLES):
            logits = [cosine(query[lead, b], key[lead, c]) / 0.2 for c in range(SAMPLES)]
            expected[lead] -= 0.7 * 0.4 * (logits[b] - log(sum(map(exp, logits)))) / SAMPLES
    found = cmae(student, target, masked, query, key, weight=0.7, temperature=0.2, normalise=False)
    agree(found, expected)


def test_simmim_counts_pixels_as_its_code_does(arrays):
    student, target, _, masked = arrays
    for channels, epsilon in ((3, 1e-5), (1, 0.0), (2, 0.5)):
        expected = []
        for lead in range(LEAD):
            of_all = patches_of(masked, lead)
            total = sum(float((student - target)[lead, b, p].abs().sum()) for b, p in of_all)
            # the code's mask has one entry for each pixel, whatever its channels
            expected.append(total / (len(of_all) * DIMENSIONS / channels + epsilon) / channels)
        agree(simmim(student, target, masked, channels=channels, epsilon=epsilon), expected)


def test_beit_is_the_cross_entropy_of_the_tokens(arrays, rng):
    logits, _, _, masked = arrays
    token = torch.from_numpy(rng.integers(DIMENSIONS, size=SHAPE[:3]))

    def surprise(*at):
        weights = [exp(float(value)) for value in logits[at]]
        return -log(weights[token[at]] / sum(weights))

    agree(beit(logits, token, masked), mean_over_masked(masked, surprise))
    huge = beit(1e6 * logits, token, masked)
    wrong = mean_over_masked(masked, lambda *at: 1e6 * float(logits[at].max() - logits[at][token[at]]))
    agree(huge, wrong)


@pytest.mark.parametrize("normalise", [False, True])
def test_uniformity_counts_every_pair_and_each_with_itself(arrays, normalise):
    features = arrays[0][:, :, 0]
    expected = []
    for own in features.tolist():
        if normalise:
            own = [[value / sqrt(sum(each**2 for each in row)) for value in row] for row in own]
        products = [sum(a * b for a, b in zip(first, second, strict=True)) for first in own for second in own]
        expected.append(sum(product**2 for product in products) / SAMPLES**2)
    agree(u_mae_uniformity(features, normalise=normalise), expected)


@pytest.mark.parametrize("normalise", ["none", "layer", "instance"])
@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_data2vec_sums_over_dimensions(arrays, beta, normalise):
    student, _, teacher, masked = arrays

    def goal(lead, b, p):
        if normalise == "instance":
            columns = [normal(teacher[lead, b, :, d], 1e-5) for d in range(DIMENSIONS)]
            return [column[p] for column in columns]
        return normal(teacher[lead, b, p], 1e-5) if normalise == "layer" else teacher[lead, b, p]

    def error(*at):
        return sum(smooth(student[at], goal(*at), beta) if beta else squares(student[at], goal(*at)))

    expected = np.array(mean_over_masked(masked, error))
    agree(data2vec(student, teacher, masked, beta=beta, normalise=normalise), expected / sqrt(DIMENSIONS))
    found = data2vec(student, teacher, masked, beta=beta, normalise=normalise, scale=2.0)
    agree(found, 2.0 * expected)


@pytest.mark.parametrize("normalise", [False, True])
def test_i_jepa_in_its_code_and_in_its_paper(arrays, normalise):
    predicted, _, teacher, masked = arrays

    def goal(*at):
        return normal(teacher[at], 1e-5) if normalise else teacher[at]

    for convention, error in (
        ("code", lambda *at: np.mean(smooth(predicted[at], goal(*at), 1.0))),
        ("paper", lambda *at: sum(squares(predicted[at], goal(*at)))),
    ):
        found = i_jepa(predicted, teacher, masked, normalise=normalise, convention=convention)
        agree(found, mean_over_masked(masked, error))


def test_teachers_take_no_gradient(arrays):
    student, target, teacher, masked = (each.clone() for each in arrays)
    student.requires_grad_()
    teacher.requires_grad_()
    losses = data2vec(student, teacher, masked), i_jepa(student, teacher, masked)
    total = sum(each.sum() for each in (*losses, rc_mae(student, teacher, target, masked)))
    total.backward()
    assert teacher.grad is None
    assert bool((student.grad[masked] != 0).all())
    assert not student.grad[~masked].any()


def test_the_edges(arrays):
    student, target, _, masked = arrays
    # what is right costs nothing, and where nothing is masked there is no mean
    for loss in (mae, simmim, data2vec):
        assert not loss(student, student, masked).any()
    assert mae(student, target, torch.zeros_like(masked)).isnan().all()
    # a mask that all samples share is one for each
    shared = masked[:, :1]
    for loss in (mae, simmim, i_jepa):
        agree(loss(student, target, shared), loss(student, target, shared.expand_as(masked)))
    # a target without variance is 0 once it is normalised, whatever its value
    flat = torch.full_like(target, 7.0)
    agree(mae(student, flat, masked, normalise=True), mae(student, torch.zeros_like(flat), masked))
    agree(i_jepa(student, flat, masked), i_jepa(student, torch.zeros_like(flat), masked, normalise=False))
    # a zero vector is like none, and equal unit vectors are wholly alike; one sample has itself alone
    zero, same = torch.zeros(4, 3), torch.ones(4, 3, dtype=torch.float64)
    assert float(u_mae_uniformity(zero)) == 0
    agree([float(u_mae_uniformity(same)), float(u_mae_uniformity(same[:1]))], [1.0, 1.0])
    # the two forms of the smooth distance meet at β
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    agree(data2vec(one, 0 * one, one[0], beta=1.0), 0.5)


def test_what_has_no_meaning_is_refused(arrays, complaint):
    student, target, _, masked = arrays
    with complaint("beta", "[0"):
        data2vec(student, target, masked, beta=-1.0)
    with complaint("scale", "(0"):
        data2vec(student, target, masked, scale=0.0)
    with complaint("normalise", "layer"):
        data2vec(student, target, masked, normalise="batch")
    with complaint("convention", "code, paper"):
        i_jepa(student, target, masked, convention="ours")
    with complaint("channels", "6 or less"):
        simmim(student, target, masked, channels=7)
