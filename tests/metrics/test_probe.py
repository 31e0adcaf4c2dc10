"""Linear probes and nearest neighbours: closed forms, transcriptions, stationarity (exact)."""

from math import log, sqrt

import numpy as np
import pytest
import torch

from vitdyn.metrics import (
    fit_logistic,
    fit_ridge,
    logistic_probe,
    nearest,
    neighbour_accuracy,
    ridge_probe,
    ridge_r_squared,
)
from vitdyn.metrics.neighbours import NeighbourConvention
from vitdyn.metrics.probe import ProbeConvention

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def labelled(rng, *lead, samples=30, classes=3):
    """Overlapping classes, each of which occurs."""
    label = torch.from_numpy(np.resize(np.arange(classes), samples)[rng.permutation(samples)])
    return normal(rng, *lead, samples, 4) + 1.5 * torch.nn.functional.one_hot(label, 4), label


class TestRidge:
    @pytest.mark.parametrize("intercept", [True, False])
    @pytest.mark.parametrize("averaged", [True, False])
    def test_stationary(self, rng, averaged, intercept):
        """The gradient of the stated loss, by automatic differentiation, is 0."""
        x, y = normal(rng, 12, 4) + 2, normal(rng, 12, 3) + 5
        used = ProbeConvention(averaged=averaged, intercept=intercept)
        found = fit_ridge(x, y, penalty=0.3, convention=used)
        weight, bias = (part.clone().requires_grad_() for part in found)
        errors = 0.5 * (x @ weight + bias - y).square().sum(-1)
        loss = (errors.mean() if averaged else errors.sum()) + 0.15 * weight.square().sum()
        slopes = torch.autograd.grad(loss, (weight, bias))
        assert slopes[0].abs().max() < 1e-10
        assert slopes[1].abs().max() < 1e-10 if intercept else found.bias.abs().max() == 0

    def test_literal(self, rng):
        x, y = normal(rng, 12, 4), normal(rng, 12, 3)
        a, b = (v.numpy() - v.numpy().mean(0) for v in (x, y))
        expected = np.linalg.solve(a.T @ a + 12 * 0.3 * np.eye(4), a.T @ b)
        np.testing.assert_allclose(fit_ridge(x, y, penalty=0.3).weight, expected, **CLOSE)

    def test_without_penalty(self, rng):
        """Exact where the targets are linear; of least norm where many maps are."""
        x, weight = normal(rng, 12, 4), normal(rng, 4, 2)
        found = fit_ridge(x, x @ weight + 3, penalty=0)
        np.testing.assert_allclose(found.weight, weight, **CLOSE)
        np.testing.assert_allclose(found.bias, [3, 3], **CLOSE)
        few = x[:3]
        centred = (few - few.mean(0)).numpy()
        expected = np.linalg.pinv(centred) @ (centred @ weight.numpy())
        np.testing.assert_allclose(fit_ridge(few, few @ weight, penalty=0).weight, expected, **CLOSE)

    def test_a_large_penalty_leaves_the_mean(self, rng):
        y = normal(rng, 12, 2)
        found = fit_ridge(normal(rng, 12, 4), y, penalty=1e12)
        np.testing.assert_allclose(found.bias, y.mean(0), rtol=0, atol=1e-9)

    def test_accuracy_literal(self, rng):
        (x, label), (to, truth) = labelled(rng), labelled(rng)
        a = np.c_[x.numpy() - x.numpy().mean(0)]
        target = np.eye(3)[label]
        w = np.linalg.solve(a.T @ a + 30 * 0.1 * np.eye(4), a.T @ (target - target.mean(0)))
        scores = (to.numpy() - x.numpy().mean(0)) @ w + target.mean(0)
        expected = (scores.argmax(1) == truth.numpy()).mean()
        assert 0.4 < expected < 1
        found = ridge_probe(x, label, to, truth, penalty=0.1).value
        np.testing.assert_allclose(found, expected, **CLOSE)

    def test_determination(self, rng):
        x, to = normal(rng, 20, 4), normal(rng, 15, 4)
        y, truth = x @ normal(rng, 4, 2), None
        y = y + 0.5 * normal(rng, 20, 2)
        truth = normal(rng, 15, 2)
        predicted = fit_ridge(x, y, penalty=0.1).scores(to).numpy()
        expected = 1 - ((truth.numpy() - predicted) ** 2).sum(0) / (15 * truth.numpy().var(0))
        found = ridge_r_squared(x, y, to, truth, penalty=0.1).value
        np.testing.assert_allclose(found, expected, **CLOSE)

    def test_determination_where_nothing_varies(self, rng):
        x, to = normal(rng, 20, 4), normal(rng, 15, 4)
        constant = torch.full((20, 1), 0.1, dtype=torch.float64)
        assert ridge_r_squared(x, constant, to, constant[:15], penalty=0.1).value == 1
        assert ridge_r_squared(x, constant, to, constant[:15] + 1, penalty=0.1).value == 0


class TestLogistic:
    @pytest.mark.parametrize("intercept", [True, False])
    @pytest.mark.parametrize("averaged", [True, False])
    def test_stationary(self, rng, averaged, intercept):
        x, label = labelled(rng)
        used = ProbeConvention(averaged=averaged, intercept=intercept)
        weight, bias = fit_logistic(x, label, penalty=0.2, convention=used)
        scores = (x @ weight + bias).numpy()
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        error = (p - np.eye(3)[label]) / (30 if averaged else 1)
        assert np.abs(x.numpy().T @ error + 0.2 * weight.numpy()).max() < 1e-6
        assert np.abs(error.sum(0)).max() < 1e-6 if intercept else bias.abs().max() == 0

    def test_two_points(self):
        """x = ±1, one of each class: w₁ − w₀ = v with v/2 · penalty = 1/(1 + e^v)."""
        v = 1.3
        penalty = 2 / v / (1 + np.exp(v))
        x = torch.tensor([[1.0], [-1.0]])
        weight, bias = fit_logistic(x, torch.tensor([1, 0]), penalty=penalty)
        np.testing.assert_allclose(weight[0, 1] - weight[0, 0], v, rtol=0, atol=1e-6)
        np.testing.assert_allclose(bias, [0, 0], rtol=0, atol=1e-6)

    def test_features_that_say_nothing(self):
        """Then the intercept gives the shares of the classes."""
        label = torch.tensor([0, 0, 0, 1])
        weight, bias = fit_logistic(torch.zeros(4, 2), label, penalty=0.1)
        assert weight.abs().max() == 0
        np.testing.assert_allclose(bias[0] - bias[1], log(3), rtol=0, atol=1e-6)

    def test_accuracy(self, rng):
        (x, label), (to, truth) = labelled(rng), labelled(rng)
        weight, bias = fit_logistic(x, label, penalty=0.1)
        expected = ((to @ weight + bias).argmax(1) == truth).double().mean()
        assert 0.4 < expected < 1
        found = logistic_probe(x, label, to, truth, penalty=0.1).value
        np.testing.assert_allclose(found, expected, **CLOSE)

    def test_gradients_off_and_inputs_untouched(self, rng):
        x, label = labelled(rng)
        x.requires_grad_()
        with torch.no_grad():
            found = logistic_probe(x, label, x, label, penalty=0.1).value
        assert x.grad is None and not found.requires_grad

    def test_complaints(self, rng, complaint):
        x, label = labelled(rng)
        with complaint("penalty"):
            fit_logistic(x, label, penalty=0)
        with complaint("labels", "whole numbers"):
            fit_logistic(x, label.double(), penalty=1)
        with complaint("labels", "0 or more"):
            fit_logistic(x, label - 1, penalty=1)
        with complaint("labels", "must occur"):
            fit_logistic(x, 2 * label, penalty=1)
        with complaint("shape of labels", "30 samples"):
            fit_logistic(x, label[:-1], penalty=1)


class TestNeighbours:
    @pytest.mark.parametrize("known", ["all", "others", "earlier"])
    def test_literal_search(self, rng, known):
        x = normal(rng, 600, 3)
        found = nearest(x, x, 3, known=known)
        apart = np.linalg.norm(x.numpy()[:, None] - x.numpy(), axis=-1)
        hidden = {
            "all": np.zeros((600, 600), bool),
            "others": np.eye(600, dtype=bool),
            "earlier": np.triu(np.ones((600, 600), bool)),
        }[known]
        apart[hidden] = np.inf
        expected = np.sort(apart, 1)[:, :3]
        np.testing.assert_allclose(found.distance, expected, **CLOSE)
        real = np.isfinite(expected)
        order = np.argsort(apart, 1, kind="stable")[:, :3]
        assert (found.row.numpy()[real] == order[real]).all()

    def test_far_from_the_origin(self, rng):
        x = normal(rng, 20, 3)
        np.testing.assert_allclose(
            nearest(x + 1e6, x + 1e6, 2, known="others").distance,
            nearest(x, x, 2, known="others").distance,
            rtol=1e-8,
        )

    @pytest.mark.parametrize("name", ["exact", "cosine", "dino"])
    def test_literal_vote(self, rng, name):
        (x, label), (to, truth) = labelled(rng), labelled(rng)
        a, b = x.numpy(), to.numpy()
        if name == "exact":
            near = -np.linalg.norm(b[:, None] - a, axis=-1)
        else:
            near = (b @ a.T) / np.linalg.norm(b, axis=1)[:, None] / np.linalg.norm(a, axis=1)
        hits = []
        for i in range(30):
            votes = np.zeros(3)
            for j in np.argsort(-near[i])[:7]:
                votes[label[j]] += np.exp(near[i, j] / 0.07) if name == "dino" else 1
            hits.append(votes.argmax() == truth[i])
        found = neighbour_accuracy(x, label, to, truth, neighbours=7, convention=name).value
        assert 0.3 < np.mean(hits) < 1
        np.testing.assert_allclose(found, np.mean(hits), **CLOSE)

    def test_oneself(self, rng):
        x, label = labelled(rng)
        assert neighbour_accuracy(x, label, x, label, neighbours=1).value == 1

    def test_a_tie_goes_to_the_smallest_label(self):
        x, to = torch.tensor([[1.0], [-1.0]]), torch.zeros(1, 1)
        labels = torch.tensor([1, 0])
        assert neighbour_accuracy(x, labels, to, torch.tensor([0]), neighbours=2).value == 1

    def test_complaints(self, rng, complaint):
        x, label = labelled(rng)
        with complaint("neighbours", "30 or fewer"):
            neighbour_accuracy(x, label, x, label, neighbours=31)
        with complaint("temperature", "unless the distance is cosine"):
            NeighbourConvention(temperature=0.1)
        with complaint("known", "all, others, earlier"):
            nearest(x, x, 1, known="later")


@pytest.mark.parametrize("probe", [ridge_probe, logistic_probe])
def test_numbers_of_labels_do_not_matter(rng, probe):
    """Labels with gaps; a test label that was never seen is missed."""
    (x, label), (to, truth) = labelled(rng), labelled(rng)
    expected = probe(x, label, to, truth, penalty=0.1).value
    gaps = torch.tensor([0, 3, 7])
    np.testing.assert_allclose(probe(x, gaps[label], to, gaps[truth], penalty=0.1).value, expected, **CLOSE)
    assert probe(x, gaps[label], to, torch.full_like(truth, 5), penalty=0.1).value == 0


def test_probes_agree_on_separate_classes(rng):
    label = torch.from_numpy(np.resize(np.arange(3), 30))
    x = 10 * torch.nn.functional.one_hot(label, 5).double() + 0.1 * normal(rng, 30, 5) / sqrt(5)
    assert ridge_probe(x, label, x, label, penalty=1e-3).value == 1
    assert logistic_probe(x, label, x, label, penalty=1e-3).value == 1
    assert neighbour_accuracy(x, label, x, label, neighbours=5).value == 1
