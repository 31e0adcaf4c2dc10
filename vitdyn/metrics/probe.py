"""Linear probes: what a linear map of frozen features tells of labels or of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_real
from vitdyn.metrics.arrays import Array, as_float64, require_alike
from vitdyn.metrics.measured import ROUND_OFF, Convention, Measured, centred, one_by_one, over, resolve
from vitdyn.metrics.neighbours import labels_of, train_and_test

_STEPS = 2000
_FLAT = 1e-6  # largest entry of the gradient at which a logistic fit counts as done


@dataclass(frozen=True, kw_only=True)
class ProbeConvention(Convention):
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
        self, features: Float[Array, "*batch sample feature"]
    ) -> Float[Tensor, "*batch sample output"]:
        """Return the scores of ``features``, in float64."""
        weight = as_float64("weight", self.weight, "feature output", (1, 1))
        bias = as_float64("bias", self.bias, "output", (1,), beside=weight)
        x = as_float64("features", features, "sample feature", (1, 1), beside=weight)
        if x.shape[-1] != weight.shape[-2]:
            raise invalid_value(
                "features", tuple(x.shape), f"must have the {weight.shape[-2]} features of the fit"
            )
        require_alike("features", x.shape[:-2], weight.shape[:-2])
        require_alike("bias", bias.shape, (*weight.shape[:-2], weight.shape[-1]))
        return x @ weight + bias[..., None, :]


def fit_ridge(
    features: Float[Array, "*batch sample feature"],
    targets: Float[Array, "*batch sample output"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> LinearMap:
    """Return the linear map of least ½ mean ‖xW + b − y‖² + ½ penalty ‖W‖², in closed form.

    W = (XᵀX + n · penalty)⁻¹ XᵀY for centred X and Y of n samples; ``scikit-learn`` sums over samples, so that
    n · penalty becomes its ``alpha``. At penalty 0 it is the least-squares solution of least norm.
    """
    convention = resolve(convention, PROBE)
    require_real("penalty", penalty, low=0, high=1e12)
    x = as_float64("features", features, "sample feature", (1, 1))
    y = as_float64("targets", targets, "sample output", (1, 1), beside=x)
    if x.shape[-2] != y.shape[-2]:
        raise invalid_value("targets", tuple(y.shape), f"must be one for each of {x.shape[-2]} samples")
    require_alike("targets", y.shape[:-2], x.shape[:-2])
    means = [
        values.mean(-2) if convention.intercept else torch.zeros_like(values[..., 0, :]) for values in (x, y)
    ]
    # By singular values: the normal equations would square the condition of the features.
    left, values, right = torch.linalg.svd(centred(x) if convention.intercept else x, full_matrices=False)
    strength = float(penalty) * (x.shape[-2] if convention.averaged else 1)
    # A direction of round-off has no weight: at penalty 0 that is the solution of least norm.
    floor = ROUND_OFF * max(x.shape[-2:]) * values[..., :1]
    positive = values > floor
    gain = torch.where(positive, values, 0.0) / torch.where(positive, values.square() + strength, 1.0)
    weight = right.mT @ (gain[..., None] * (left.mT @ (centred(y) if convention.intercept else y)))
    return LinearMap(weight, means[1] - (means[0][..., None, :] @ weight)[..., 0, :])


def ridge_probe(
    features: Float[Array, "*batch sample feature"],
    labels: Int[Array, "*batch sample"],
    test_features: Float[Array, "*batch test feature"],
    test_labels: Int[Array, "*batch test"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> Measured:
    """Accuracy on test samples of ridge regression on one-hot labels, largest score first. Value: (*batch)."""
    convention = resolve(convention, PROBE)

    def fit(x: Tensor, y: Tensor) -> LinearMap:
        onehot = torch.nn.functional.one_hot(y).to(x)
        return fit_ridge(x, onehot, penalty=penalty, convention=convention)

    return Measured(_accuracy(fit, features, labels, test_features, test_labels), convention)


def ridge_r_squared(
    features: Float[Array, "*batch sample feature"],
    targets: Float[Array, "*batch sample output"],
    test_features: Float[Array, "*batch test feature"],
    test_targets: Float[Array, "*batch test output"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> Measured:
    """Coefficient of determination on test samples of ridge regression, for each output. Value: (*batch, output).

    R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)². Where the test targets do not vary: 1 if they are met to round-off, else 0.
    """
    convention = resolve(convention, PROBE)
    train, test = train_and_test(features, test_features)
    truth = as_float64("test_targets", test_targets, "test output", (1, 1), beside=train)
    found = fit_ridge(train, targets, penalty=penalty, convention=convention).scores(test)
    require_alike("test_targets", truth.shape[:-2], found.shape[:-2])
    if found.shape[-2:] != truth.shape[-2:]:
        raise invalid_value("test_targets", tuple(truth.shape), f"must be of shape {tuple(found.shape)}")
    missed = (truth - found).square().sum(-2)
    spread = centred(truth).square().sum(-2)
    # Targets that do not vary have no R²: they are met to round-off, or they are not.
    met = (missed <= (1e3 * ROUND_OFF * truth.abs().amax(-2)).square() * truth.shape[-2]).to(missed)
    return Measured(torch.where(spread > 0, 1 - over(missed, spread), met), convention)


def fit_logistic(
    features: Float[Array, "sample feature"],
    labels: Int[Array, " sample"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> LinearMap:
    """Return the linear map of least mean −log softmax(xW + b)_y + ½ penalty ‖W‖², by L-BFGS.

    ``scikit-learn`` sums over samples, so that penalty is 1/C. The penalty is more than 0: without one, classes that
    can be separated have no minimum; for the same reason every label from 0 to the largest occurs. Raises
    ``ArithmeticError`` if the gradient has not vanished after the last step: scale the features.
    """
    convention = resolve(convention, PROBE)
    require_real("penalty", penalty, low=0, high=1e12, open_low=True)
    x = as_float64("features", features, "sample feature", (1, 1)).detach()
    if x.ndim != 2:
        raise invalid_value(
            "shape of features", tuple(x.shape), "must be (sample, feature): one fit at a time"
        )
    y = labels_of("labels", labels, x)
    occurring = y.unique()
    classes = len(occurring)
    if classes <= int(occurring[-1]):
        lacking = int((occurring > torch.arange(classes, device=x.device)).to(torch.uint8).argmax())
        raise invalid_value("labels", lacking, "must occur, as every label from 0 to the largest")
    weight = x.new_zeros(x.shape[-1], classes, requires_grad=True)
    bias = x.new_zeros(classes, requires_grad=convention.intercept)
    trained = [weight, bias] if convention.intercept else [weight]
    # The loss below is a mean: a penalty beside a sum is divided by the number of samples.
    strength = float(penalty) / (1 if convention.averaged else len(x))

    def loss() -> Tensor:
        wrongness = torch.nn.functional.cross_entropy(x @ weight + bias, y)
        return wrongness + 0.5 * strength * weight.square().sum()

    # Also for a caller who has switched gradients off.
    with torch.enable_grad():
        _descend(loss, trained)
    return LinearMap(weight.detach(), bias.detach())


def logistic_probe(
    features: Float[Array, "*batch sample feature"],
    labels: Int[Array, "*batch sample"],
    test_features: Float[Array, "*batch test feature"],
    test_labels: Int[Array, "*batch test"],
    *,
    penalty: float,
    convention: str | ProbeConvention = "exact",
) -> Measured:
    """Accuracy on test samples of multinomial logistic regression, :func:`fit_logistic`. Value: (*batch)."""
    convention = resolve(convention, PROBE)

    def fit(x: Tensor, y: Tensor) -> LinearMap:
        return fit_logistic(x, y, penalty=penalty, convention=convention)

    return Measured(_accuracy(fit, features, labels, test_features, test_labels), convention)


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
    # L-BFGS does not say how it ended; the gradient does.
    slope = max(float(found.abs().max()) for found in torch.autograd.grad(loss(), trained))
    if not slope <= _FLAT:
        raise ArithmeticError(f"logistic fit: gradient {slope:.1e} after {_STEPS} steps; scale the features")


def _accuracy(
    fit: Callable[[Tensor, Tensor], LinearMap],
    features: Array,
    labels: Array,
    test_features: Array,
    test_labels: Array,
) -> Tensor:
    """Fit each problem of the leading axes, to the labels that occur in it; return the share of test labels met."""
    train, test = train_and_test(features, test_features)
    known, asked = labels_of("labels", labels, train), labels_of("test_labels", test_labels, test)

    def share(x: Tensor, y: Tensor, to: Tensor, truth: Tensor) -> Tensor:
        occurring, numbered = y.unique(return_inverse=True)
        predicted = occurring[fit(x, numbered).scores(to).argmax(-1)]
        return (predicted == truth).to(torch.float64).mean()

    return one_by_one(share, [train, known, test, asked], [2, 1, 2, 1])
