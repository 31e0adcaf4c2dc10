"""One step of RODAS for many small systems at once: linearly implicit, L-stable, of order 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

Points = Float[np.ndarray, "entry run"]

GAMMA = 0.25
# The tableau in the transformed variables U of Hairer and Wanner: no product of a matrix with a stage is needed.
A = np.array(
    [
        [0, 0, 0, 0, 0],
        [1.544, 0, 0, 0, 0],
        [0.9466785280815826, 0.2557011698983284, 0, 0, 0],
        [3.314825187068521, 2.896124015972201, 0.9986419139977817, 0, 0],
        [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 0],
        [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 1],
    ]
)
C = np.array(
    [
        [0, 0, 0, 0, 0],
        [-5.6688, 0, 0, 0, 0],
        [-2.430093356833875, -0.2063599157091915, 0, 0, 0],
        [-0.1073529058151375, -9.594562251023355, -20.47028614809616, 0, 0],
        [7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160, 0],
        [8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054],
    ]
)
DENSE_OUTPUT = np.array(
    [
        [10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662, 0],
        [-0.6762803392806898, 6.087714651680015, 16.43084320892478, 24.76722511418386, -6.594389125716872, 0],
    ]
)


class Step(NamedTuple):
    """Steps by Δ from where they began: the increment, the error of order 3, and coefficients D of dense output.

    Within a step, at the share x of it, the point is begin + xΔ + x(1 − x)(D_0 + x D_1), of order 3.
    """

    increment: Points
    error: Points
    interior: Float[np.ndarray, "2 entry run"]

    def inside(self, share: float | Float[np.ndarray, " run"]) -> Points:
        """Return the increment up to a share of the step."""
        return share * (self.increment + (1 - share) * (self.interior[0] + share * self.interior[1]))


def rodas(
    slope: Callable[[Points], Points],
    begin: Points,
    first: Points,
    jacobian: Float[np.ndarray, "entry entry run"],
    length: Float[np.ndarray, " run"],
) -> Step:
    """Return one step of each system du/dσ = slope(u) from u = begin, where ``first`` is the slope there.

    Stage i solves (1/(hγ) − J) U_i = slope(begin + Σ_j a_ij U_j) + Σ_j (c_ij/h) U_j; the last U estimates the error.
    A system whose matrix is singular or not finite gives NaN and does not touch the others.
    Source: E. Hairer and G. Wanner, Solving Ordinary Differential Equations II, section IV.7, RODAS.
    """
    size = len(begin)
    matrix = np.eye(size)[:, :, None] / (GAMMA * length) - jacobian
    solve = _inverse(matrix.transpose(2, 0, 1))
    stages = np.zeros((6, *begin.shape))
    # One inverse serves six stages: numpy keeps no factors of many matrices at once.
    for stage in range(6):
        before, value = stages[:stage], first
        if stage:
            value = slope(begin + _combined(A[stage, :stage], before))
            value = value + _combined(C[stage, :stage], before) / length
        stages[stage] = (solve @ value.T.copy()[:, :, None])[:, :, 0].T
    increment = _combined(A[5], stages[:5]) + stages[5]
    return Step(increment, stages[5], np.stack([_combined(row, stages) for row in DENSE_OUTPUT]))


def _combined(weights: Float[np.ndarray, " stage"], stages: Float[np.ndarray, "stage entry run"]) -> Points:
    """Return the sum over stages of weights times stages, in one order: a product of BLAS adds up by its shape."""
    total = weights[0] * stages[0]
    for weight, stage in zip(weights[1:], stages[1:], strict=True):
        total += weight * stage
    return total


def _inverse(matrices: Float[np.ndarray, "run entry entry"]) -> Float[np.ndarray, "run entry entry"]:
    """Return inverses, NaN where there is none."""
    finite = np.isfinite(matrices).all((1, 2))
    safe = np.where(finite[:, None, None], matrices, np.eye(matrices.shape[1]))
    # All at once; only where one of them is singular does numpy refuse the rest, which are then done singly.
    try:
        found = np.linalg.inv(safe)
    except np.linalg.LinAlgError:
        found = np.stack([_inverse_of_one(each) for each in safe])
    found[~finite] = np.nan
    return found


def _inverse_of_one(matrix: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.full_like(matrix, np.nan)


def root_within(
    gap: Callable[[Float[np.ndarray, " run"]], Float[np.ndarray, " run"]], count: int
) -> Float[np.ndarray, " run"]:
    """Return where in [0, 1] each gap changes from negative to positive, by the Illinois form of false position."""
    low, high, share = np.zeros(count), np.ones(count), np.ones(count)
    below, above = gap(low), gap(high)
    done: Bool[np.ndarray, " run"] = above <= 0
    for _ in range(60):
        share = np.where(done, share, (low * above - high * below) / (above - below))
        value = gap(share)
        over = value > 0
        # The end that stays is halved in weight, so that both ends move.
        below, above = np.where(over, below * 0.5, value), np.where(over, value, above * 0.5)
        low, high = np.where(over | done, low, share), np.where(over & ~done, share, high)
        done |= (value == 0) | (high - low < 1e-13)
        if done.all():
            break
    return share
