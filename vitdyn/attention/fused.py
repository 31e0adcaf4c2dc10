"""The same as ``shares``, each way in one pass over the arrays: compiled by numba, for CPU.

A pass reads the masses once and writes A and R once; what lies between stays in the first cache. Each
kernel holds no lock of the interpreter, so that groups of seeds run side by side on threads.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba.extending import overload
from torch import Tensor

from vitdyn.attention.geometry import Arrangement
from vitdyn.attention.shares import Shares
from vitdyn.attention.workspace import Workspace


def shares(
    by_cluster: Arrangement,
    phi: Tensor,
    latents: Tensor,
    masses: Tensor,
    masked_mass: Tensor | None,
    total: Tensor,
    work: Workspace,
) -> Shares:
    """Return what ``shares.shares`` returns; exponents are always shifted."""
    attention, ratios = (work.take(name, masses, *masses.shape) for name in ("attention", "ratios"))
    rest = (*masses.shape[:2], masses.shape[3])
    masked_ratio, inverse = (work.take(name, masses, *rest) for name in ("masked ratio", "inverse"))
    subtract = masked_mass is None
    _forward(
        *(_array(part) for part in (by_cluster.cluster, phi, latents, masses)),
        _array(inverse if masked_mass is None else masked_mass),
        subtract,
        *(_array(part) for part in (total, attention, ratios, masked_ratio, inverse)),
    )
    return Shares(attention, ratios, masked_ratio, inverse)


def pull(
    found: Shares,
    by_cluster: Arrangement,
    latents: Tensor,
    masses: Tensor,
    adjoint: Tensor,
    weight: Tensor | None,
    clusters: int,
    work: Workspace,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what ``shares.pull`` returns."""
    attention, ratios, masked_ratio, inverse = found
    scale = inverse if weight is None else inverse.mul_(weight)
    phi = attention.new_zeros(len(attention), clusters, *attention.shape[2:])
    pulled = work.take("weighted", attention, *attention.shape)
    masked = attention.new_zeros(len(attention), attention.shape[3])
    _backward(
        *(
            _array(part)
            for part in (by_cluster.cluster, latents, masses, attention, ratios, masked_ratio, scale)
        ),
        _array(adjoint.expand_as(attention)),
        *(_array(part) for part in (phi, pulled, masked)),
    )
    return phi, pulled, masked


def _array(tensor: Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.numpy()


def _exponential(x):
    """Return e^x: a name that the compiler resolves by type."""
    raise NotImplementedError


@overload(_exponential, inline="always")
def _exponential_by_type(x):
    if x == numba.float32:
        return _exponential_float32
    return lambda x: math.exp(x)


def _exponential_float32(x):  # pragma: no cover  (compiled)
    """Return e^x in float32 to 1e-7, in operations that the compiler turns into vector instructions.

    x = n log 2 + r with |r| ≤ ½ log 2: a polynomial in r (Cephes), times 2^n put together from its bits.
    """
    limited = min(max(x, np.float32(-87.0)), np.float32(88.0))
    whole = np.floor(limited * np.float32(1.44269504) + np.float32(0.5))
    rest = limited - whole * np.float32(0.693359375) + whole * np.float32(2.12194440e-4)
    value = np.float32(1.9875691500e-4)
    value = value * rest + np.float32(1.3981999507e-3)
    value = value * rest + np.float32(8.3334519073e-3)
    value = value * rest + np.float32(4.1665795894e-2)
    value = value * rest + np.float32(1.6666665459e-1)
    value = value * rest + np.float32(5.0000001201e-1)
    value = value * rest * rest + rest + np.float32(1.0)
    bits = (np.int32(whole) + np.int32(127)) << np.int32(23)
    return value * np.int32(bits).view(np.float32)


_compiled = numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})


@_compiled
def _forward(
    cluster, phi, latents, masses, masked_mass, subtract, total, attention, ratios, masked_ratio, inverse
):  # pragma: no cover  (compiled)
    seeds, samples, areas, queries = masses.shape
    zero, one = masses.dtype.type(0), masses.dtype.type(1)
    shift, mass = np.empty(queries, masses.dtype), np.empty(queries, masses.dtype)
    for s in range(seeds):
        for b in range(samples):
            k = cluster[s, b]
            for p in range(queries):
                mass[p] = zero
            if subtract:
                for j in range(areas):
                    for p in range(queries):
                        mass[p] += masses[s, b, j, p]
                for p in range(queries):
                    mass[p] = max(total[s, p] - mass[p], zero)
            else:
                for p in range(queries):
                    mass[p] = masked_mass[s, b, p]
            for p in range(queries):
                shift[p] = zero if mass[p] > zero else -np.inf
            for j in range(areas):
                z = latents[s, b, j]
                for p in range(queries):
                    x = z * phi[s, k, j, p]
                    shift[p] = x if masses[s, b, j, p] > zero and x > shift[p] else shift[p]
            for p in range(queries):
                lift = _exponential(-shift[p]) if mass[p] > zero else zero
                masked_ratio[s, b, p] = lift
                inverse[s, b, p] = lift * mass[p]
            for j in range(areas):
                z = latents[s, b, j]
                for p in range(queries):
                    ratio = _exponential(z * phi[s, k, j, p] - shift[p])
                    ratio = ratio if masses[s, b, j, p] > zero else zero
                    ratios[s, b, j, p] = ratio
                    attention[s, b, j, p] = ratio * masses[s, b, j, p]
                    inverse[s, b, p] += ratio * masses[s, b, j, p]
            for p in range(queries):
                inverse[s, b, p] = one / inverse[s, b, p]
            for j in range(areas):
                for p in range(queries):
                    attention[s, b, j, p] *= inverse[s, b, p]


@_compiled
def _backward(
    cluster, latents, masses, attention, ratios, masked_ratio, scale, adjoint, phi, pulled, masked
):  # pragma: no cover  (compiled)
    seeds, samples, areas, queries = masses.shape
    mean = np.empty(queries, masses.dtype)
    for s in range(seeds):
        for b in range(samples):
            k = cluster[s, b]
            for p in range(queries):
                mean[p] = 0
            for j in range(areas):
                for p in range(queries):
                    mean[p] += attention[s, b, j, p] * adjoint[s, b, j, p]
            for j in range(areas):
                z = latents[s, b, j]
                for p in range(queries):
                    own = ratios[s, b, j, p] * scale[s, b, p] * (adjoint[s, b, j, p] - mean[p])
                    phi[s, k, j, p] += z * masses[s, b, j, p] * own
                    pulled[s, b, j, p] = own + masked_ratio[s, b, p] * scale[s, b, p] * mean[p]
            for p in range(queries):
                masked[s, p] += masked_ratio[s, b, p] * scale[s, b, p] * mean[p]
