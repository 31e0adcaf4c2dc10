"""Linear probes: what a linear map of frozen features tells of labels or of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import require_real, wrong
from vitdyn.metrics.measured import ROUND_OFF, Measured, centred, chosen, double
from vitdyn.metrics.neighbours import labels_of

_STEPS = 2000
_FLAT = (
    1e-6  # largest entry of the gradient at which a logistic fit counts as done; it aims a hundredfold lower
)


@dataclass(frozen=True, kw_only=True)
class ProbeConvention:
    """Whether the loss is the mean over samples (``averaged``) or their sum, and whether there is an intercept.

    The intercept is never penalised.
    """

    averaged: bool = True
    intercept: bool = True


PROBE = {"exact": ProbeConvention(), "scikit-learn": ProbeConvention(averaged=False)}


class LinearMap(NamedTuple):
    """Scores x W + b."""

    weight: Float[Tensor, "*batch feature output"]
    bias: Float[Tensor, "*batch output"]

    def scores(
        self, features: Float[Tensor, "*batch sample feature"]
    ) -> Float[Tensor, "*batch sample output"]:
        """Return the scores of ``features``, in float64."""
        return features.to(torch.float64) @ self.weight + self.bias[..., None, :]


def fit_ridge(
    features: Float[Tensor, "*batch sample feature"],
    targets: Float[Tensor, "*batch sample output"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> LinearMap:
    """Return the linear map of least ½ mean ‖xW + b − y‖² + ½ penalty ‖W‖², in closed form.

    W = (XᵀX + n · penalty)⁻¹ XᵀY for centred X and Y of n samples; ``scikit-learn`` sums over samples, so that
    n · penalty becomes its ``alpha``. At penalty 0 it is the least-squares solution of least norm.
    """
    used = chosen(convention, PROBE)
    require_real("penalty", penalty, low=0, high=1e12)
    x = double("features", features, "sample feature", (1, 1))
    y = double("targets", targets, "sample output", (1, 1))
    if x.shape[-2] != y.shape[-2]:
        raise wrong("targets", tuple(y.shape), f"must be one for each of {x.shape[-2]} samples")
    means = [values.mean(-2) if used.intercept else torch.zeros_like(values[..., 0, :]) for values in (x, y)]
    left, values, right = torch.linalg.svd(centred(x) if used.intercept else x, full_matrices=False)
    strength = penalty * (x.shape[-2] if used.averaged else 1)
    floor = ROUND_OFF * max(x.shape[-2:]) * values[..., :1]
    positive = values > floor
    gain = torch.where(positive, values, 0.0) / torch.where(positive, values.square() + strength, 1.0)
    weight = right.mT @ (gain[..., None] * (left.mT @ (centred(y) if used.intercept else y)))
    return LinearMap(weight, means[1] - (means[0][..., None, :] @ weight)[..., 0, :])


def ridge_probe(
    features: Float[Tensor, "*batch sample feature"],
    labels: Int[Tensor, "*batch sample"],
    test_features: Float[Tensor, "*batch test feature"],
    test_labels: Int[Tensor, "*batch test"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> Measured:
    """Accuracy on test samples of ridge regression on one-hot labels, largest score first. Value: (*batch)."""
    used = chosen(convention, PROBE)

    def fit(x: Tensor, y: Tensor) -> LinearMap:
        onehot = torch.nn.functional.one_hot(y).to(x)
        return fit_ridge(x, onehot, penalty=penalty, convention=used)

    return Measured(_accuracy(fit, features, labels, test_features, test_labels), used)


def ridge_determination(
    features: Float[Tensor, "*batch sample feature"],
    targets: Float[Tensor, "*batch sample output"],
    test_features: Float[Tensor, "*batch test feature"],
    test_targets: Float[Tensor, "*batch test output"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> Measured:
    """Coefficient of determination on test samples of ridge regression, for each output. Value: (*batch, output).

    R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)². Where the test targets do not vary: 1 if they are met to round-off, else 0.
    """
    used = chosen(convention, PROBE)
    truth = double("test_targets", test_targets, "test output", (1, 1))
    test = double("test_features", test_features, "test feature", (1, 1))
    found = fit_ridge(features, targets, penalty=penalty, convention=used).scores(test)
    if found.shape[-2:] != truth.shape[-2:]:
        raise wrong("test_targets", tuple(truth.shape), f"must be of shape {tuple(found.shape)}")
    missed = (truth - found).square().sum(-2)
    spread = centred(truth).square().sum(-2)
    met = (missed <= (1e3 * ROUND_OFF * truth.abs().amax(-2)).square() * truth.shape[-2]).to(missed)
    return Measured(torch.where(spread > 0, 1 - missed / torch.where(spread > 0, spread, 1.0), met), used)


def fit_logistic(
    features: Float[Tensor, "sample feature"],
    labels: Int[Tensor, " sample"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> LinearMap:
    """Return the linear map of least mean −log softmax(xW + b)_y + ½ penalty ‖W‖², by L-BFGS.

    ``scikit-learn`` sums over samples, so that penalty is 1/C. The penalty is more than 0: without one, classes that
    can be separated have no minimum; for the same reason every label from 0 to the largest occurs. Raises
    ``ArithmeticError`` if the gradient has not vanished after the last step: scale the features.
    """
    used = chosen(convention, PROBE)
    require_real("penalty", penalty, low=0, high=1e12, open_low=True)
    x = double("features", features, "sample feature", (1, 1)).detach()
    y = labels_of("labels", labels, x)
    size = torch.bincount(y)
    if int(size.min()) == 0:
        raise wrong("labels", int(size.argmin()), "must occur, as every label from 0 to the largest")
    classes = len(size)
    weight = x.new_zeros(x.shape[-1], classes, requires_grad=True)
    bias = x.new_zeros(classes, requires_grad=used.intercept)
    trained = [weight, bias] if used.intercept else [weight]
    strength = penalty / (1 if used.averaged else len(x))

    def loss() -> Tensor:
        wrongness = torch.nn.functional.cross_entropy(x @ weight + bias, y)
        return wrongness + 0.5 * strength * weight.square().sum()

    with torch.enable_grad():
        _descend(loss, trained)
    return LinearMap(weight.detach(), bias.detach())


def logistic_probe(
    features: Float[Tensor, "*batch sample feature"],
    labels: Int[Tensor, "*batch sample"],
    test_features: Float[Tensor, "*batch test feature"],
    test_labels: Int[Tensor, "*batch test"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> Measured:
    """Accuracy on test samples of multinomial logistic regression, :func:`fit_logistic`. Value: (*batch)."""
    used = chosen(convention, PROBE)

    def fit(x: Tensor, y: Tensor) -> LinearMap:
        return fit_logistic(x, y, penalty=penalty, convention=used)

    return Measured(_accuracy(fit, features, labels, test_features, test_labels), used)


def _descend(loss: Callable[[], Tensor], trained: list[Tensor]) -> None:
    """Minimise ``loss`` over ``trained``, all gradients down to :data:`_FLAT`."""
    optimiser = torch.optim.LBFGS(
        trained,
        max_iter=_STEPS,
        history_size=20,
        tolerance_grad=_FLAT / 100,
        tolerance_change=ROUND_OFF,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    slope = max(float(found.abs().max()) for found in torch.autograd.grad(loss(), trained))
    if not slope <= _FLAT:
        raise ArithmeticError(f"logistic fit: gradient {slope:.1e} after {_STEPS} steps; scale the features")


def _accuracy(
    fit: Callable[[Tensor, Tensor], LinearMap],
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
) -> Tensor:
    """Fit each problem of the leading axes, to the labels that occur in it; return the share of test labels met."""
    train = double("features", features, "sample feature", (1, 1))
    test = double("test_features", test_features, "test feature", (1, 1))
    known, asked = labels_of("labels", labels, train), labels_of("test_labels", test_labels, test)
    lead = train.shape[:-2]
    if test.shape[:-2] != lead or test.shape[-1] != train.shape[-1]:
        raise wrong("test_features", tuple(test.shape), f"must match the features, {tuple(train.shape)}")
    flat = (tensor.reshape(prod(lead), *tensor.shape[len(lead) :]) for tensor in (train, known, test, asked))
    shares = []
    for x, y, to, truth in zip(*flat, strict=True):
        occurring, numbered = y.unique(return_inverse=True)
        predicted = occurring[fit(x, numbered).scores(to).argmax(-1)]
        shares.append((predicted == truth).to(torch.float64).mean())
    return (torch.stack(shares) if shares else train.new_zeros(0)).reshape(lead)
