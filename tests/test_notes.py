"""The formulas of theory_notes/, transcribed, against autograd through a literal softmax with a dense Q.

Nothing of vitdyn's attention or objectives is used here: the notes have to be right on their own.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vitdyn.data import PatchLayout

SEED = int(os.environ.get("VITDYN_TEST_SEED", "0"))
ROUND_OFF = {"rtol": 1e-11, "atol": 1e-12}
NOTES = Path(__file__).parent.parent / "theory_notes"


@dataclass
class Problem:
    """Two clusters, P = 7, N = 3, B = 5, with a random orthonormal basis in R^d, d = 2·3 + 7 + 2."""

    area: Tensor  # (cluster, patch)
    basis: Tensor  # (feature or position, d): rows v_{1,1}, ..., v_{K,N}, e_1, ..., e_P
    cluster: Tensor  # (sample,)
    z: Tensor  # (sample, area)
    u: Tensor  # (sample, patch): 1.0 where visible, first view
    u2: Tensor  # second view
    blocks: tuple[Tensor, Tensor, Tensor, Tensor]  # Φ (p,k,j), Υ (p,q), Ψ (k,j,q), Ξ (k,j,j')
    tau: float = 0.7
    decay: float = 0.03

    @property
    def own(self) -> Tensor:
        """Area of each patch in each sample: (sample, patch)."""
        return self.area[self.cluster]

    @property
    def patch_latent(self) -> Tensor:
        return self.z.gather(1, self.own)


def problem(offset: int = 0, scale: float = 0.8) -> Problem:
    g = torch.Generator().manual_seed(1000 * SEED + offset)
    clusters, patches, areas, samples = 2, 7, 3, 5

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def mask() -> Tensor:
        return (torch.rand(samples, patches, generator=g).argsort(1) >= 3).double()

    area = torch.stack(
        [torch.tensor([0, 0, 0, 1, 1, 2, 2])[torch.randperm(7, generator=g)] for _ in range(clusters)]
    )
    count = clusters * areas + patches
    basis = torch.linalg.qr(normal(count + 2, count))[0].T
    shapes = [
        (patches, clusters, areas),
        (patches, patches),
        (clusters, areas, patches),
        (clusters, areas, areas),
    ]
    blocks = tuple((scale * normal(*shape)).requires_grad_() for shape in shapes)
    z = 1 + 0.5 * torch.rand(samples, areas, generator=g, dtype=torch.float64)
    return Problem(area, basis, torch.tensor([0, 1, 0, 0, 1]), z, mask(), mask(), blocks)


# ---- the literal model: d×d matrix, tokens, one softmax over all P positions -------------------------------


def matrix(s: Problem) -> Tensor:
    """Q from its blocks; the blocks of Ξ between two clusters are filled with noise that must not matter."""
    phi, upsilon, psi, xi = s.blocks
    clusters, areas = psi.shape[:2]
    within = torch.block_diag(*xi)
    foreign = 1 - torch.block_diag(*torch.ones(clusters, areas, areas, dtype=torch.float64))
    noise = (
        torch.randn(foreign.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * foreign
    )
    top = torch.cat([within + noise, psi.flatten(0, 1)], 1)
    return s.basis.T @ torch.cat([top, torch.cat([phi.flatten(1), upsilon], 1)], 0) @ s.basis


def contents(s: Problem) -> Tensor:
    """X_p = z_j v_{k,j}: (sample, patch, d)."""
    rows = s.cluster[:, None] * s.blocks[2].shape[1] + s.own
    return s.patch_latent[..., None] * s.basis[rows]


def softmax_rows(s: Problem, u: Tensor, *, content: bool) -> Tensor:
    codes = s.basis[-s.u.shape[1] :]
    keys = u[..., None] * contents(s) + codes
    queries = keys if content else codes.expand_as(keys)
    return torch.softmax(queries @ matrix(s) @ keys.transpose(1, 2), -1)


def literal_mae(s: Problem) -> Tensor:
    output = softmax_rows(s, s.u, content=True) @ (s.u[..., None] * contents(s))
    return (0.5 * (1 - s.u) * (output - contents(s)).square().sum(-1)).sum(-1).mean()


def literal_cl(s: Problem, *, content: bool = False) -> Tensor:
    first, second = (
        (softmax_rows(s, u, content=content) @ (u[..., None] * contents(s))).mean(1) for u in (s.u, s.u2)
    )
    loss = torch.nn.functional.cross_entropy(first @ second.detach().T / s.tau, torch.arange(len(first)))
    squares = sum(block.square().sum() for block in s.blocks[: 4 if content else 2])
    return loss + 0.5 * s.decay * squares


def optimizer(loss: Tensor, s: Problem, blocks: int = 4) -> list[Tensor]:
    """−∂L by autograd."""
    found = torch.autograd.grad(loss, s.blocks[:blocks], allow_unused=True)
    return [torch.zeros_like(b) if f is None else -f for f, b in zip(found, s.blocks, strict=False)]


def attention_to_areas(s: Problem, attention: Tensor, u: Tensor) -> Tensor:
    """A (sample, query, area) = Σ over visible q of the area."""
    onto = torch.nn.functional.one_hot(s.own, s.z.shape[1]).double() * u[..., None]
    return attention @ onto


# ---- the formulas of gradients.md --------------------------------------------------------------------------


def factored(s: Problem, phi: Tensor, upsilon: Tensor, u: Tensor) -> dict[str, Tensor]:
    """Notes, section on the factored evaluation: E, W_j, W_0, the shift c, Z and A; (sample, query, area)."""
    kernel = torch.exp(upsilon - upsilon.amax(1, keepdim=True))
    onto = torch.nn.functional.one_hot(s.own, s.z.shape[1]).to(u) * u[..., None]
    w = torch.einsum("pq,bqj->bpj", kernel, onto)
    w0 = torch.einsum("pq,bq->bp", kernel, 1 - u)
    exponent = s.z.to(u)[:, None] * phi[:, s.cluster].transpose(0, 1)
    shown = onto.sum(1)[:, None] > 0
    c = torch.where(shown, exponent, -math.inf).amax(-1).clamp_min(0)
    e = torch.where(shown, torch.exp(torch.where(shown, exponent, 0) - c[..., None]), 0)
    total = torch.exp(-c) * w0 + (e * w).sum(-1)
    return {
        "E": kernel,
        "A": e * w / total[..., None],
        "e/Z": e / total[..., None],
        "1/Z": torch.exp(-c) / total,
    }


def pull_back(s: Problem, f: dict[str, Tensor], gain: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Notes: −∂L/∂Φ and −∂L/∂Υ from gain = −∂L/∂A, sample weights inside."""
    mean = (f["A"] * gain).sum(-1)
    centred = gain - mean[..., None]
    own_phi = s.z[:, None] * f["A"] * centred
    phi = torch.zeros_like(s.blocks[0])
    for b, k in enumerate(s.cluster.tolist()):
        phi[:, k] += own_phi[b]
    h, h0 = f["e/Z"] * centred, -mean * f["1/Z"]
    h_key = h.gather(2, s.own[:, None].expand(-1, h.shape[1], -1))
    return phi, f["E"] * (u[:, None] * h_key + (1 - u)[:, None] * h0[..., None]).sum(0)


def mae_gain(s: Problem, a: Tensor) -> Tensor:
    """−∂L/∂A: z_a² (1 − A_a) on the own area, −z_j² A_j elsewhere, weight 1{p masked}/B."""
    own = torch.nn.functional.one_hot(s.own, s.z.shape[1])
    return (1 - s.u)[..., None] / len(s.z) * s.z[:, None].square() * (own - a)


def cl_gain(s: Problem, a: Tensor, a2: Tensor) -> Tensor:
    """−∂L/∂A = h_j / (P B), h_j = (z_j/τ) [ (1 − π_+) f''_j − Σ_{other b} π_b 1{k_b = k} f''_{b,j} ]."""
    f1, f2 = s.z * a.mean(1), s.z * a2.mean(1)
    same = (s.cluster[:, None] == s.cluster[None]).double()
    pi = torch.softmax(same * (f1 @ f2.T) / s.tau, 1)
    h = s.z / s.tau * (f2 - (pi * same) @ f2)
    return (h / (a.shape[1] * len(f1)))[:, None].expand_as(a)


def detached(s: Problem) -> tuple[Tensor, ...]:
    return tuple(block.detach() for block in s.blocks)


# ---- exact tests -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", range(3))
def test_jacobian_of_summed_attention(offset: int) -> None:
    s = problem(offset)
    logits = torch.randn(7, generator=torch.Generator().manual_seed(offset), dtype=torch.float64)
    sets = s.own[0]
    shown = s.u[0]

    def summed(x: Tensor) -> Tensor:
        return torch.stack([(torch.softmax(x, 0) * shown)[sets == j].sum() for j in range(3)])

    a, attn = summed(logits), torch.softmax(logits, 0)
    inside = shown * torch.stack([(sets == j).double() for j in range(3)])
    torch.testing.assert_close(
        torch.autograd.functional.jacobian(summed, logits), attn * (inside - a[:, None]), **ROUND_OFF
    )


@pytest.mark.parametrize("offset", range(3))
def test_factored_attention_equals_the_softmax(offset: int) -> None:
    s = problem(offset, scale=2.0)
    phi, upsilon, *_ = detached(s)
    literal = attention_to_areas(s, softmax_rows(s, s.u, content=False), s.u).detach()
    torch.testing.assert_close(factored(s, phi, upsilon, s.u)["A"], literal, **ROUND_OFF)


@pytest.mark.parametrize("offset", range(3))
def test_gradient_of_masked_reconstruction(offset: int) -> None:
    s = problem(offset)
    phi, upsilon, psi, xi = optimizer(literal_mae(s), s)
    f = factored(s, *detached(s)[:2], s.u)
    mine = pull_back(s, f, mae_gain(s, f["A"]), s.u)
    torch.testing.assert_close(mine[0], phi, **ROUND_OFF)
    torch.testing.assert_close(mine[1], upsilon, **ROUND_OFF)
    assert phi.abs().max() > 1e-3 and upsilon.abs().max() > 1e-3
    assert max(psi.abs().max(), xi.abs().max()) < 1e-14, (
        "a masked query has no content: Ψ and Ξ must not move"
    )


@pytest.mark.parametrize("scale", [0.3, 2.0, 6.0])
def test_own_area_correlation_never_falls_under_masked_reconstruction(scale: float) -> None:
    """predictions.md: z_a A_a (g_a − ḡ) = z_a A_a [z_a² (1 − A_a)² + Σ_{j≠a} z_j² A_j²] ≥ 0 at any state."""
    s = problem(8, scale=scale)
    gradient = optimizer(literal_mae(s), s)[0]
    a = factored(s, *detached(s)[:2], s.u)["A"]
    own = torch.nn.functional.one_hot(s.own, 3).double()
    error = (s.z[:, None] * (own - a)).square().sum(-1)
    pull = (1 - s.u) * s.patch_latent * (a * own).sum(-1) * error / len(s.z)
    for k in range(2):
        found = gradient[torch.arange(7), k, s.area[k]]
        torch.testing.assert_close(found, pull[s.cluster == k].sum(0), **ROUND_OFF)
        assert (found >= -1e-14).all() and found.max() > 0


@pytest.mark.parametrize("offset", range(3))
def test_gradient_of_contrast(offset: int) -> None:
    s = problem(offset)
    expected = optimizer(literal_cl(s), s, 2)
    blocks = detached(s)
    f, f2 = (factored(s, *blocks[:2], u) for u in (s.u, s.u2))
    mine = pull_back(s, f, cl_gain(s, f["A"], f2["A"]), s.u)
    for found, block, true in zip(mine, blocks, expected, strict=False):
        torch.testing.assert_close(found - s.decay * block, true, **ROUND_OFF)


@pytest.mark.parametrize("offset", range(3))
def test_gradient_of_contrast_with_content_queries(offset: int) -> None:
    s = problem(offset, scale=0.5)
    expected = optimizer(literal_cl(s, content=True), s)
    phi, upsilon, psi, xi = detached(s)
    mine = [torch.zeros_like(block) for block in (phi, upsilon, psi, xi)]
    samples, patches = s.u.shape
    attn = []
    for u in (s.u, s.u2):
        logits = torch.empty(samples, patches, patches, dtype=torch.float64)
        for b, p, q in itertools.product(range(samples), range(patches), range(patches)):
            k, i, j = int(s.cluster[b]), int(s.own[b, p]), int(s.own[b, q])
            query, key = float(u[b, p] * s.z[b, i]), float(u[b, q] * s.z[b, j])
            logits[b, p, q] = (
                upsilon[p, q] + key * phi[p, k, j] + query * psi[k, i, q] + query * key * xi[k, i, j]
            )
        attn.append(torch.softmax(logits, -1))
    torch.testing.assert_close(attn[0], softmax_rows(s, s.u, content=True).detach(), **ROUND_OFF)
    a, a2 = (attention_to_areas(s, x, u) for x, u in zip(attn, (s.u, s.u2), strict=True))
    gain = cl_gain(s, a, a2)
    centred = gain - (a * gain).sum(-1, keepdim=True)
    for b, p in itertools.product(range(samples), range(patches)):
        k, i = int(s.cluster[b]), int(s.own[b, p])
        query = s.u[b, p] * s.z[b, i]
        along_area = s.z[b] * a[b, p] * centred[b, p]
        mean = (a[b, p] * gain[b, p]).sum()
        along_key = attn[0][b, p] * (s.u[b] * gain[b, p, s.own[b]] - mean)
        mine[0][p, k] += along_area
        mine[1][p] += along_key
        mine[2][k, i] += query * along_key
        mine[3][k, i] += query * along_area
    for found, block, true in zip(mine, detached(s), expected, strict=True):
        torch.testing.assert_close(found - s.decay * block, true, **ROUND_OFF)


def test_factored_content_queries() -> None:
    """E_pq times e^{u_p z_a Ψ_aq}, and Ξ in the exponent of Φ, give the same area attention."""
    s = problem(4, scale=0.5)
    phi, upsilon, psi, xi = detached(s)
    literal = attention_to_areas(s, softmax_rows(s, s.u, content=True), s.u).detach()
    for b, p in itertools.product(range(5), range(7)):
        k, i = int(s.cluster[b]), int(s.own[b, p])
        query = s.u[b, p] * s.z[b, i]
        weight = torch.exp(upsilon[p]) * torch.exp(query * psi[k, i])
        w = torch.stack([(weight * s.u[b])[s.own[b] == j].sum() for j in range(3)])
        lifted = torch.exp(s.z[b] * (phi[p, k] + query * xi[k, i])) * w
        torch.testing.assert_close(
            lifted / (lifted.sum() + (weight * (1 - s.u[b])).sum()), literal[b, p], **ROUND_OFF
        )


def test_contrast_from_zero_never_tells_queries_apart() -> None:
    """Position-only queries: equal rows get equal gradients. Content queries and masked loss break it."""
    for objective, alike in (
        (literal_cl, True),
        (partial(literal_cl, content=True), False),
        (literal_mae, False),
    ):
        s = problem(5)
        for block in s.blocks[:2]:
            block.data[:] = block.data[:1].clone()
        loss = objective(s)
        phi, upsilon, *_ = optimizer(loss, s)
        spread = max(float((g - g[:1]).abs().max()) for g in (phi, upsilon))
        assert (spread < 1e-13) == alike, (objective, spread)


# ---- infima ------------------------------------------------------------------------------------------------


def wholly_masked(patches: int, size: int, masked: int) -> float:
    return math.comb(patches - size, masked - size) / math.comb(patches, masked) if masked >= size else 0.0


def enumerated_mae(
    sizes: tuple[int, ...], masked: int, z: Tensor, phi: Tensor, upsilon: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss and own-area attention of masked patches by area: literal means over all masks and rows of z."""
    area = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    patches, losses, own = len(area), [], []
    onto = torch.nn.functional.one_hot(area, len(sizes)).double()
    for hidden in itertools.combinations(range(patches), masked):
        u = torch.ones(patches, dtype=torch.float64)
        u[list(hidden)] = 0
        logits = upsilon + u * (z[:, None] * phi)[..., area]
        a = torch.softmax(logits, -1) @ (u[:, None] * onto)
        error = (z[:, None] * (onto - a)).square().sum(-1)
        losses.append(0.5 * ((1 - u) * error).sum(-1).mean())
        own.append(((1 - u) * (a * onto).sum(-1)).mean(0) @ onto)
    return torch.stack(losses).mean(), torch.stack(own).mean(0)


@pytest.mark.parametrize(
    ("sizes", "masked"), [((3, 2, 2), 3), ((4, 2, 1), 4), ((4, 3), 2), ((2, 1, 1, 1), 4)]
)
def test_infimum_of_masked_reconstruction(sizes: tuple[int, ...], masked: int) -> None:
    patches = sum(sizes)
    z = torch.tensor(list(itertools.product((1.0, 1.5), repeat=len(sizes))), dtype=torch.float64)
    second = float(z.square().mean())
    infimum = 0.5 * second * sum(c * wholly_masked(patches, c, masked) for c in sizes)
    own = torch.nn.functional.one_hot(torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)))
    flat = torch.zeros(patches, patches, dtype=torch.float64)
    losses = []
    for level in (0.0, 2.0, 8.0, 30.0):
        loss, attention = enumerated_mae(sizes, masked, z, level * (2.0 * own - 1), flat)
        losses.append(float(loss))
    assert losses[0] > losses[1] > losses[2] > infimum, "approached from above, not attained"
    assert losses[3] - infimum < 1e-10
    ceiling = [c * masked / patches - c * wholly_masked(patches, c, masked) for c in sizes]
    torch.testing.assert_close(attention, torch.tensor(ceiling, dtype=torch.float64), rtol=1e-9, atol=1e-10)
    g = torch.Generator().manual_seed(SEED)
    for _ in range(5):
        phi = 3 * torch.randn(patches, len(sizes), generator=g, dtype=torch.float64)
        upsilon = 3 * torch.randn(patches, patches, generator=g, dtype=torch.float64)
        assert float(enumerated_mae(sizes, masked, z, phi, upsilon)[0]) > infimum


def infonce(s: Problem, phi: Tensor) -> Tensor:
    """Loss per sample, Υ = 0, no weight decay."""
    f1, f2 = (
        s.z * factored(s, phi, torch.zeros(7, 7, dtype=torch.float64), u)["A"].mean(1) for u in (s.u, s.u2)
    )
    same = (s.cluster[:, None] == s.cluster[None]).double()
    return -torch.log_softmax(same * (f1 @ f2.T) / s.tau, 1).diagonal()


def test_lower_bound_of_infonce() -> None:
    s = problem(6)
    bound = torch.log1p((len(s.z) - 1) * torch.exp(-s.z.amax(1).square() / s.tau))
    for scale in (0.0, 1.0, 5.0, 50.0):
        noise = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
        assert (infonce(s, scale * noise) > bound).all()
    # Two samples of two clusters, every area shown in both views: the bound is approached by the strongest
    # area taking all, and the global area taking all stays above it wherever another area is stronger.
    seen = torch.zeros(2, 7, dtype=torch.float64)
    cluster = torch.tensor([0, 1])
    for b in range(2):
        for j in range(3):
            seen[b, int((s.area[cluster[b]] == j).nonzero()[0])] = 1
    z = torch.tensor([[1.1, 1.5, 1.2], [1.4, 1.0, 1.3]], dtype=torch.float64)
    two = Problem(s.area, s.basis, cluster, z, seen, seen, s.blocks)
    bound = torch.log1p(torch.exp(-z.amax(1).square() / s.tau))
    strongest = infonce(two, torch.full((7, 2, 3), 400.0, dtype=torch.float64))
    torch.testing.assert_close(strongest, bound, rtol=1e-9, atol=0)
    onto_global = torch.zeros(7, 2, 3, dtype=torch.float64)
    onto_global[..., 0] = 400
    torch.testing.assert_close(
        infonce(two, onto_global), torch.log1p(torch.exp(-(z[:, 0] ** 2) / s.tau)), rtol=1e-9, atol=0
    )
    assert infonce(two, onto_global)[0] > bound[0] * 1.5


# ---- range of validity, first drifts, layout ---------------------------------------------------------------


def test_range_of_the_shift_in_single_precision() -> None:
    """Any Φ is safe, the spread of Υ is not: 55 keeps round-off, 150 does not (600 does in double)."""

    def error(spread: float, level: float, dtype: torch.dtype) -> float:
        s = problem(7)
        phi, upsilon, *_ = detached(s)
        upsilon = torch.zeros_like(upsilon)
        upsilon[s.area[0][None].expand(7, 7) == 0] = spread
        phi = torch.full_like(phi, -level)
        phi[..., 1] = level
        a = factored(s, phi.to(dtype), upsilon.to(dtype), s.u.to(dtype))["A"].double()
        with torch.no_grad():
            s.blocks[0].copy_(phi)
            s.blocks[1].copy_(upsilon)
        literal = attention_to_areas(s, softmax_rows(s, s.u, content=False), s.u).detach()
        return float((a - literal).abs().nan_to_num(1.0).max())

    assert error(0.0, 3000.0, torch.float32) < 1e-5
    assert error(55.0, 50.0, torch.float32) < 1e-4
    assert error(150.0, 200.0, torch.float32) > 0.1
    assert error(600.0, 650.0, torch.float64) < 1e-9


def mean_count_drifts(log_p: float, kappa_c: float, kappa_s: float) -> tuple[float, float, float, float]:
    """Drifts at Q = 0 of a local query with counts at their means, γ = 1/2, z = 1, K large, τ = 1.

    Masked reconstruction: φ_1 and φ_a. Contrast, less its common factor 1 − π_+: φ_1 and one local φ.
    """
    p = math.exp(log_p)
    a1, aa = 0.5 * p ** (kappa_c - 1), 0.5 * p ** (kappa_s - 1)
    others = (p - p**kappa_c - p**kappa_s) / p**kappa_s
    mean = aa * (1 - aa) - a1**2 - others * aa**2
    mae_1, mae_a = 0.5 * a1 * (-a1 - mean), 0.5 * aa * (1 - aa - mean)
    mean_h = a1**2 + (others + 1) * aa**2
    return mae_1, mae_a, a1 * (a1 - mean_h) / p, aa * (aa - mean_h) / p


@pytest.mark.parametrize(("kappa_c", "kappa_s"), [(0.9, 0.3), (0.7, 0.2), (0.6, 0.3)])
def test_exponents_of_the_first_drifts(kappa_c: float, kappa_s: float) -> None:
    gap = (1 - kappa_s) - 2 * (1 - kappa_c)
    near, far = (mean_count_drifts(power * math.log(10), kappa_c, kappa_s) for power in (40, 60))
    slopes = [math.log(abs(b / a)) / (20 * math.log(10)) for a, b in zip(near, far, strict=True)]
    assert slopes[0] == pytest.approx(-2 * (1 - kappa_c), abs=1e-3)
    assert slopes[1] == pytest.approx(-(1 - kappa_s), abs=1e-3)
    assert slopes[0] - slopes[1] == pytest.approx(gap, abs=2e-3)
    assert slopes[2] == pytest.approx(-1 - 2 * (1 - kappa_c), abs=1e-3)
    assert slopes[3] == pytest.approx(-1 - (1 - kappa_s) - min(1 - kappa_s, 2 * (1 - kappa_c)), abs=1e-3)
    assert near[0] < 0 < near[1] and near[2] > 0
    assert (near[3] > 0) == (gap < 0), "the sign of the local contrastive drift is that of −Δ"


def test_worked_layout_of_the_notes() -> None:
    layout = PatchLayout.from_exponents(256, 0.9, 0.4)
    row = next(
        line
        for line in (NOTES / "setup.md").read_text().splitlines()
        if line.startswith("| 256 | 0.9 | 0.4 |")
    )
    told = [float(cell) for cell in row.strip("| ").split("|")[3:]]
    assert told[:2] == [layout.sizes[0, 0], layout.areas - 1]
    assert told[2:4] == [layout.sizes[0, 1:].min(), layout.sizes[0, 1:].max()]
    assert told[4] == pytest.approx(layout.information_gap, abs=5e-3)
    with_fraction = PatchLayout.from_exponents(256, 1.0, 0.4)
    assert with_fraction.global_size == 128 and np.ptp(with_fraction.sizes[0, 1:]) <= 1


# ---- the files ---------------------------------------------------------------------------------------------

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
MENTION = re.compile(r"\b([a-z_]+\.md)#([\w-]+)")


def anchors(path: Path) -> set[str]:
    """Anchors as GitHub makes them: lower case, punctuation dropped, spaces to hyphens."""
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.+)$", prose, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


def broken(base: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = (base.parent / name) if name else base
    return not path.is_file() or bool(anchor and anchor not in anchors(path))


def test_links_between_notes_resolve() -> None:
    links = [
        (note, target) for note in sorted(NOTES.glob("*.md")) for target in LINK.findall(note.read_text())
    ]
    relative = [(note, target) for note, target in links if "://" not in target]
    assert len(relative) > 20
    assert not [(note.name, target) for note, target in relative if broken(note, target)]
    assert broken(NOTES / "README.md", "nowhere.md") and broken(
        NOTES / "README.md", "claims.md#no-such-claim"
    )


def test_anchors_named_in_notes_and_code_exist() -> None:
    sources = [*NOTES.glob("*.md"), *(NOTES.parent / "vitdyn").rglob("*.py")]
    named = {(file, anchor) for path in sources for file, anchor in MENTION.findall(path.read_text())}
    assert {("claims.md", "mae-area"), ("claims.md", "cl-global")} <= named
    assert not sorted(
        f"{file}#{anchor}" for file, anchor in named if broken(NOTES / "README.md", f"{file}#{anchor}")
    )


def test_every_note_is_in_the_index() -> None:
    index = (NOTES / "README.md").read_text()
    notes = {note.name for note in NOTES.glob("*.md")} - {"README.md", "index.md"}  # where the pages begin
    assert notes and not [name for name in sorted(notes) if f"]({name})" not in index]


@pytest.mark.parametrize("note", sorted(path.name for path in NOTES.glob("*.md")))
def test_mathematics_that_github_draws(note: str) -> None:
    text = (NOTES / note).read_text()
    assert text.count("```") % 2 == 0
    prose = re.sub(r"```bash\n.*?```", "", text, flags=re.DOTALL)  # a shell's variables begin with $
    assert "\\operatorname" not in text and "$" not in prose
    assert not [line for line in text.splitlines() if line.count("}_{") > 1]
