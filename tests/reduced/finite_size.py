"""How far finite models are from the mean field on the way, at sizes that no full simulation reaches.

``python tests/reduced/finite_size.py mae 64 1024 16384`` prints rows of a table in ``mean_field.md``.
"""

from __future__ import annotations

import sys
from math import ceil

import numpy as np

from vitdyn.data import AreaSizes, PatchLayout, Uniform
from vitdyn.data.masking import masked_count
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.reduced import ExactReduction, MeanField, descend, integrate, integrate_batch, local_correlations

FRAMES = 16


class OneRow:
    """Contrast from Q = 0 by the row that all queries share: φ_1 and φ_o of every cluster, Υ = 0, drawn counts.

    Exact: the rows of contrast stay equal, and by symmetry a row needs the two numbers. One batch for each seed.
    """

    def __init__(self, sizes, clusters, samples, seeds, objective, distribution, rng):
        self.counts = np.array(
            [round(sizes.global_size), *[round(sizes.local_size)] * round(sizes.local_areas)]
        )
        self.patches = int(self.counts.sum())
        self.clusters, self.samples, self.seeds = clusters, samples, seeds
        self.objective, self.distribution, self.rng = objective, distribution, rng

    def draw(self):
        """Clusters, latents and the visible counts of two independent views, one batch for each seed."""
        shape = (self.seeds, self.samples)
        visible = self.patches - masked_count(self.patches, self.objective.mask_ratio)
        views = [
            self.rng.multivariate_hypergeometric(self.counts, visible, size=shape, method="marginals")
            for _ in range(2)
        ]
        latents = self.distribution.sample(self.rng, (*shape, len(self.counts)))
        return self.rng.integers(self.clusters, size=shape), latents, views

    def attention(self, phi, latents, visible):
        """A_j of the common row; ``phi`` (seed, 2)."""
        row = np.concatenate([phi[:, :1], np.repeat(phi[:, 1:], len(self.counts) - 1, 1)], 1)
        weight = visible * np.exp(latents * row[:, None])
        return weight / (weight.sum(-1) + self.patches - visible.sum(-1))[..., None]

    def drift(self, phi, cluster, latents, views):
        """−∂L/∂φ_1 and −∂L/∂φ_o, the mean over clusters."""
        rows = [self.attention(phi, latents, view) for view in views]
        anchor, target = (latents * row for row in rows)
        tau = self.objective.temperature
        same = cluster[:, :, None] == cluster[:, None]
        logits = same * (anchor @ target.swapaxes(1, 2)) / tau
        share = np.exp(logits - logits.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        pull = latents / tau * (target - (same * share) @ target)
        above = pull - (rows[0] * pull).sum(-1, keepdims=True)
        found = (latents * rows[0] * above).mean(1) / (self.patches * self.clusters)
        return np.stack([found[:, 0], found[:, 1:].mean(1)], 1)

    def descend(self, rate, recorded):
        """φ_1 and φ_o at the recorded steps, (seed, frame, 2)."""
        phi, frames = np.zeros((self.seeds, 2)), []
        for step in range(recorded[-1] + 1):
            if step in recorded:
                frames.append(phi)
            phi = phi + rate * self.drift(phi, *self.draw())
        return np.stack(frames, 1)


def deviation(found, truth):
    """The largest deviation over moments and the two correlations, relative to the larger at the end, and its error."""
    gaps = (found - truth) / np.abs(truth[-1]).max()
    mean, error = np.abs(gaps.mean(0)), gaps.std(0, ddof=1) / np.sqrt(len(gaps))
    worst = np.unravel_index(mean.argmax(), mean.shape)
    return float(mean[worst]), float(error[worst])


def twin(sizes, objective, clusters, negatives, rate):
    """The descent of the mean field to 1.5 times the time of the take-over."""
    common = {"sizes": sizes, "objective": objective, "clusters": clusters, "negatives": negatives}
    time = np.exp(integrate_batch([MeanField(until=0.9, **common)]).log_time[0])
    return MeanField(
        learning_rate=rate,
        steps=ceil(1.5 * time / rate),
        until=None,
        frames=FRAMES,
        position_correlations=clusters == 1,
        **common,
    )


def reconstruction(patches, *, kappa=(0.9, 0.4), seeds=8):
    """The sampled reduction, Υ included, against the mean field with Υ."""
    layout = PatchLayout.from_exponents(patches, *kappa)
    spec = twin(AreaSizes.of(layout), MaskedReconstruction(), 1, 1, 4.0)
    run = ExactReduction(
        layout=layout,
        objective=spec.objective,
        steps=spec.steps,
        learning_rate=4.0,
        seeds=tuple(range(500, 500 + seeds)),
        frames=FRAMES,
    )
    return spec, *deviation(
        local_correlations(descend(run), over=("cluster",)), local_correlations(integrate(spec))
    )


def contrast(patches, *, kappa=(0.8, 0.4), clusters=4, samples=64, seeds=64):
    """Draws by the common row against the mean field with as many negatives."""
    layout = PatchLayout.from_exponents(patches, *kappa)
    local = round(layout.local_size)  # the row has areas of one size
    count = (patches - round(layout.global_size)) // local
    total = round(layout.global_size) + local * count
    sizes = AreaSizes(patches=total, global_size=layout.global_size, local_size=local)
    rate = 2.0 * total * clusters
    spec = twin(sizes, Contrastive(), clusters, samples - 1, rate)
    truth = integrate(spec)
    row = OneRow(sizes, clusters, samples, seeds, spec.objective, Uniform(), np.random.default_rng(patches))
    found = row.descend(rate, truth["step"].to_numpy().tolist())
    return spec, *deviation(found, local_correlations(truth))


if __name__ == "__main__":
    for each in map(int, sys.argv[2:]):
        spec, value, error = (reconstruction if sys.argv[1] == "mae" else contrast)(each)
        size = spec.sizes.local_size if sys.argv[1] == "mae" else spec.sizes.global_size
        print(
            f"| {each} | {size:.3g} | {spec.steps} | {100 * value:.2f} ({100 * error:.2f}) | {value * size:.2f} |",
            flush=True,
        )
