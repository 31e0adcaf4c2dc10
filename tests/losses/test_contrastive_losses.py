"""Contrastive losses against transcriptions with loops, in plain floats, and at their edges (exact)."""

from math import exp, log, sqrt

import numpy as np
import pytest
import torch

from vitdyn import losses
from vitdyn.losses import (
    alignment,
    info_nce,
    moco_v2,
    moco_v3,
    nt_xent,
    spectral_contrastive,
    uniformity,
)


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def unit(vector):
    return [x / sqrt(sum(y * y for y in vector)) for x in vector]


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def literal_info_nce(first, second, tau, own=True):
    total = 0.0
    for b, x in enumerate(first):
        among = [exp(dot(x, y) / tau) for c, y in enumerate(second) if own or c != b]
        total -= log(exp(dot(x, second[b]) / tau) / sum(among))
    return total / len(first)


def literal_nt_xent(first, second, tau, own=True, normalise=True):
    count = len(first)
    views = [unit(x) if normalise else x for x in [*first, *second]]
    total = 0.0
    for i, x in enumerate(views):
        partner = (i + count) % (2 * count)
        among = [exp(dot(x, y) / tau) for j, y in enumerate(views) if j != i and (own or j != partner)]
        total -= log(exp(dot(x, views[partner]) / tau) / sum(among))
    return total / (2 * count)


def literal_moco_v3(first, second, tau, scaled=True, normalise=True):
    made = ([unit(x) if normalise else x for x in each] for each in (first, second))
    return (2 * tau if scaled else 1) * literal_info_nce(*made, tau)


def literal_moco_v2(first, second, queue, tau):
    total = 0.0
    for x, y in zip(first, second, strict=True):
        positive = exp(dot(unit(x), unit(y)) / tau)
        total -= log(positive / (positive + sum(exp(dot(unit(x), unit(k)) / tau) for k in queue)))
    return total / len(first)


def literal_spectral(first, second, mu=None):
    def clipped(x):
        return x if mu is None or dot(x, x) < mu else [sqrt(mu) * a for a in unit(x)]

    x, y, n = [clipped(a) for a in first], [clipped(a) for a in second], len(first)
    total = -2 * sum(dot(a, b) for a, b in zip(x, y, strict=True)) / n
    total += sum(dot(x[i], y[j]) ** 2 for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return total if mu is None else total / mu


def literal_alignment(first, second, power=2.0, normalise=True):
    total = 0.0
    for x, y in zip(first, second, strict=True):
        x, y = (unit(x), unit(y)) if normalise else (x, y)
        total += sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True))) ** power
    return total / len(first)


def literal_uniformity(rows, t=2.0, normalise=True):
    rows = [unit(x) if normalise else x for x in rows]
    pairs = [
        exp(-t * sum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True)))
        for i in range(len(rows))
        for j in range(i)
    ]
    return log(sum(pairs) / len(pairs))


PAIRS = {
    "info_nce": (lambda x, y: info_nce(x, y, temperature=0.7), lambda x, y: literal_info_nce(x, y, 0.7)),
    "decoupled": (
        lambda x, y: info_nce(x, y, temperature=0.7, positive_in_denominator=False),
        lambda x, y: literal_info_nce(x, y, 0.7, own=False),
    ),
    "nt_xent": (lambda x, y: nt_xent(x, y, temperature=0.3), lambda x, y: literal_nt_xent(x, y, 0.3)),
    "nt_xent decoupled, raw": (
        lambda x, y: nt_xent(x, y, temperature=2.0, positive_in_denominator=False, normalise=False),
        lambda x, y: literal_nt_xent(x, y, 2.0, own=False, normalise=False),
    ),
    "moco_v3": (lambda x, y: moco_v3(x, y, temperature=0.2), lambda x, y: literal_moco_v3(x, y, 0.2)),
    "moco_v3 unscaled, raw": (
        lambda x, y: moco_v3(x, y, temperature=1.5, scaled=False, normalise=False),
        lambda x, y: literal_moco_v3(x, y, 1.5, scaled=False, normalise=False),
    ),
    "moco_v2": (
        lambda x, y: moco_v2(x, y, x.flip(-2)[..., :3, :] + 1, temperature=0.2),
        lambda x, y: literal_moco_v2(x, y, [[a + 1 for a in k] for k in x[::-1][:3]], 0.2),
    ),
    "spectral, code": (lambda x, y: spectral_contrastive(x, y, mu=3.0), lambda x, y: literal_spectral(x, y, 3.0)),
    "spectral, paper": (lambda x, y: spectral_contrastive(x, y, mu=None), literal_spectral),
    "alignment": (alignment, literal_alignment),
    "alignment, cubes, raw": (
        lambda x, y: alignment(x, y, power=3.0, normalise=False),
        lambda x, y: literal_alignment(x, y, 3.0, normalise=False),
    ),
    "uniformity": (lambda x, y: uniformity(x), lambda x, y: literal_uniformity(x)),
    "uniformity, raw": (
        lambda x, y: uniformity(x, temperature=0.5, normalise=False),
        lambda x, y: literal_uniformity(x, 0.5, normalise=False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_its_formula_over_any_leading_axes(name, rng):
    loss, literal = PAIRS[name]
    x, y = normal(rng, 2, 3, 5, 4), normal(rng, 2, 3, 5, 4)
    expected = [
        [literal(a.tolist(), b.tolist()) for a, b in zip(*rows, strict=True)]
        for rows in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(loss(x, y), expected, rtol=1e-12, atol=1e-12)
    assert loss(x.float(), y.float()).dtype == torch.float32


def moco_v2_of_itself(x, y, **fields):
    return moco_v2(x, y, x, **fields)


TEMPERATURES = {
    "temperature": (info_nce, nt_xent, moco_v3, moco_v2_of_itself, lambda x, y, **of: uniformity(x, **of)),
    "mu": (spectral_contrastive,),
    "power": (alignment,),
}
EACH_TEMPERATURE = pytest.mark.parametrize(
    ("field", "loss"), [(field, loss) for field, each in TEMPERATURES.items() for loss in each]
)


@EACH_TEMPERATURE
def test_a_column_of_hyperparameters_is_one_for_each_entry(field, loss, rng):
    x, y, values = normal(rng, 3, 5, 4), normal(rng, 3, 5, 4), (0.3, 1.0, 2.0)
    column = torch.tensor(values, dtype=x.dtype)[:, None, None]
    expected = [loss(x[i], y[i], **{field: value}) for i, value in enumerate(values)]
    torch.testing.assert_close(loss(x, y, **{field: column}), torch.stack(expected), rtol=1e-14, atol=1e-15)


@EACH_TEMPERATURE
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), torch.zeros(1, 1), True])
def test_it_refuses_what_is_not_positive(field, loss, value, complaint):
    with complaint(field, "must be"):
        loss(torch.eye(3), torch.eye(3), **{field: value})


def test_it_refuses_a_batch_of_one_and_rows_without_a_pair(complaint):
    one, two = torch.ones(1, 3), torch.ones(2, 3)
    for loss in (info_nce, nt_xent, moco_v3, lambda x, y, **_: uniformity(x)):
        with complaint("batch", "at least 2"):
            loss(one, one, temperature=1.0)
    with complaint("batch", "at least 2"):
        spectral_contrastive(one, one)
    assert float(moco_v2(one, one, two, temperature=1.0)) == pytest.approx(log(3))
    with complaint("keys", "a pair for each row"):
        info_nce(one, two, temperature=1.0)
    with complaint("queue", "must hold an entry"):
        moco_v2(one, one, two[:0], temperature=1.0)


def test_keys_of_moco_take_no_gradient(rng):
    x, y = normal(rng, 4, 3).requires_grad_(), normal(rng, 4, 3).requires_grad_()
    (moco_v3(x, y, temperature=0.2) + moco_v2(x, y, y, temperature=0.2)).backward()
    assert x.grad is not None and y.grad is None


class TestEdges:
    def gradients(self, loss, *embeddings):
        leaves = [each.clone().requires_grad_() for each in embeddings]
        found = torch.autograd.grad(loss(*leaves).sum(), leaves, allow_unused=True)
        return [each for each in found if each is not None]

    @pytest.mark.parametrize("name", PAIRS)
    def test_gradients_are_finite_at_zero_and_where_all_are_equal(self, name):
        loss, _ = PAIRS[name]
        for where in (torch.zeros(3, 4), torch.ones(3, 4), torch.diag(torch.tensor([0.0, 1.0, 1.0]))):
            assert loss(where, where).isfinite()
            assert all(each.isfinite().all() for each in self.gradients(loss, where, where))

    def test_values_where_all_are_equal(self):
        same = torch.ones(6, 4, dtype=torch.float64)
        torch.testing.assert_close(info_nce(same, same, temperature=0.1), torch.tensor(log(6)).double())
        torch.testing.assert_close(nt_xent(same, same, temperature=0.1), torch.tensor(log(11)).double())
        torch.testing.assert_close(moco_v3(same, same, temperature=0.1), torch.tensor(0.2 * log(6)).double())
        assert spectral_contrastive(same, same).item() == pytest.approx(-1)  # clipped to length 1
        assert alignment(same, same).item() == 0
        assert uniformity(same).item() == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("name", PAIRS)
    def test_nan_stays_nan(self, name):
        loss, _ = PAIRS[name]
        assert loss(torch.full((3, 3), torch.nan), torch.eye(3)).isnan()

    def test_huge_logits_lose_nothing(self):
        far = 1e4 * torch.eye(3, dtype=torch.float64)
        assert info_nce(far, far, temperature=1e-3).item() == 0
        assert info_nce(far, far.roll(1, 0), temperature=1.0).item() == pytest.approx(1e8)
        assert nt_xent(far, far.roll(1, 0), temperature=1e-4).item() == pytest.approx(1e4 + log(1))

    def test_the_gradient_at_equal_views_of_any_power(self):
        equal = torch.eye(3)
        for power in (1.0, 2.0, 3.0):
            for each in self.gradients(lambda x, y, p=power: alignment(x, y, power=p), equal, equal):
                assert not each.any()

    @pytest.mark.parametrize("size", [1e-300, 1e300])
    def test_unit_vectors_of_any_size(self, size):
        tilted = size * torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
        torch.testing.assert_close(losses.unit_vectors(tilted), torch.tensor([[0.6, 0.8], [0, 0]]).double())
