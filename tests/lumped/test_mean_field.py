"""The mean field against a literal transcription of the notes (exact) and against real finite models (statistical)."""

from math import exp

import numpy as np
import pytest
import torch

from vitdyn.attention import Correlations
from vitdyn.data import AreaSizes, Beta, PatchGenerator, PatchLayout, TwoPoint, Uniform
from vitdyn.dynamics import BatchSource, loss_gradient
from vitdyn.lumped import MeanField, quadrature
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture

SIZES = AreaSizes.from_exponents(1e4, 0.8, 0.4)
LAWS = {
    "uniform": Uniform(low=0.5, high=1.5),
    "two-point": TwoPoint(low=0.7, high=1.4, probability_high=0.3),
    "beta": Beta(alpha=0.8, beta=2.0),
}
LOCAL, GLOBAL = "local", "global"


class Literal:
    """The right-hand side of ``mean_field.md`` as sums over nodes, one after the other, without logarithms."""

    def __init__(self, spec, state):
        z, weights = quadrature(spec.latents, spec.nodes)
        self.spec, self.nodes = spec, list(zip(z.tolist(), weights.tolist(), strict=True))
        self.phi = {
            LOCAL: {"g": state[0], "a": state[1], "o": state[2]},
            GLOBAL: {"g": state[3], "o": state[4]},
        }
        moved = state[5:] if spec.position_correlations else np.zeros(5)
        self.upsilon = {
            LOCAL: {"g": moved[0], "a": moved[1], "o": moved[2]},
            GLOBAL: {"g": moved[3], "o": moved[4]},
        }
        sizes = spec.sizes
        self.size = {"g": sizes.global_size, "a": sizes.local_size, "o": sizes.local_size}
        total = (sizes.patches - sizes.global_size) / sizes.local_size
        self.number = {LOCAL: {"g": 1.0, "a": 1.0, "o": total - 1}, GLOBAL: {"g": 1.0, "o": total}}
        self.total, self.hidden = total, spec.objective.mask_ratio

    def latents(self, kind, z1, za):
        return {"g": z1, "a": za} if kind == LOCAL else {"g": z1}

    def attention(self, kind, z1, za):
        """A to the global and the own area, A_o as a function of z_o, and the attention of one hidden key of each."""
        phi, up, gamma = self.phi[kind], self.upsilon[kind], self.hidden
        z = self.latents(kind, z1, za)
        total = 0.0
        for area, number in self.number[kind].items():
            total += number * gamma * self.size[area] * exp(up[area])
            if area == "o":
                for zo, weight in self.nodes:
                    total += number * weight * (1 - gamma) * self.size[area] * exp(up[area] + zo * phi[area])
            else:
                total += (1 - gamma) * self.size[area] * exp(up[area] + z[area] * phi[area])
        found = {a: (1 - gamma) * self.size[a] * exp(up[a] + z[a] * phi[a]) / total for a in z}
        found["o"] = {
            zo: (1 - gamma) * self.size["o"] * exp(up["o"] + zo * phi["o"]) / total for zo, _ in self.nodes
        }
        return found, {area: exp(value) / total for area, value in up.items()}

    def pull(self, kind, z1, za, push):
        """z_j A_j (G_j − Ḡ) for Φ and attn (u G − Ḡ) for Υ, at one z_1 and z_a; ``push`` is G, by area."""
        attention, of_hidden = self.attention(kind, z1, za)
        z = self.latents(kind, z1, za)
        mean = sum(attention[area] * push[area] for area in z)
        for zo, weight in self.nodes:
            mean += self.number[kind]["o"] * weight * attention["o"][zo] * push["o"][zo]
        feature, position = {}, {}
        for area in z:
            feature[area] = z[area] * attention[area] * (push[area] - mean)
            position[area] = attention[area] / self.size[area] * (push[area] - mean)
        feature["o"] = sum(w * zo * attention["o"][zo] * (push["o"][zo] - mean) for zo, w in self.nodes)
        position["o"] = sum(w * attention["o"][zo] * (push["o"][zo] - mean) for zo, w in self.nodes)
        position["o"] /= self.size["o"]
        for area in position:
            position[area] -= self.hidden * of_hidden[area] * mean
        return feature, position

    def collect(self, push_of, factor):
        """Average over z_1 and z_a, in the order of the state."""
        total = {}
        for kind in (LOCAL, GLOBAL):
            for z1, w1 in self.nodes:
                for za, wa in self.nodes:
                    for block, pulls in zip(
                        "ΦΥ", self.pull(kind, z1, za, push_of(kind, z1, za)), strict=True
                    ):
                        for area, value in pulls.items():
                            place = kind, block, area
                            total[place] = total.get(place, 0.0) + factor * w1 * wa * value
        rows = [(LOCAL, "g"), (LOCAL, "a"), (LOCAL, "o"), (GLOBAL, "g"), (GLOBAL, "o")]
        blocks = "ΦΥ" if self.spec.position_correlations else "Φ"
        return np.array([total[kind, block, area] for block in blocks for kind, area in rows])

    def reconstruction(self):
        def push(kind, z1, za):
            attention, _ = self.attention(kind, z1, za)
            own = "a" if kind == LOCAL else "g"
            z = self.latents(kind, z1, za)
            found = {area: z[area] ** 2 * ((area == own) - attention[area]) for area in z}
            return found | {"o": {zo: -(zo**2) * attention["o"][zo] for zo, _ in self.nodes}}

        return self.collect(push, self.hidden / self.spec.clusters)

    def pooled(self, z1):
        """z_1 Ā_1, and z_j Ā_j by z_j, of a sample whose global latent is z_1."""
        sizes = self.spec.sizes
        share, local = sizes.global_size / sizes.patches, sizes.local_size / sizes.patches
        centre, _ = self.attention(GLOBAL, z1, None)
        on_global, on_local = share * centre["g"], {}
        for za, weight in self.nodes:
            on_global += (1 - share) * weight * self.attention(LOCAL, z1, za)[0]["g"]
        for zj, _ in self.nodes:
            value = share * centre["o"][zj] + local * self.attention(LOCAL, z1, zj)[0]["a"]
            for za, weight in self.nodes:
                value += (1 - share - local) * weight * self.attention(LOCAL, z1, za)[0]["o"][zj]
            on_local[zj] = zj * value
        return z1 * on_global, on_local

    def contrast(self):
        spec, tau = self.spec, self.spec.objective.temperature
        clusters, count = spec.clusters, spec.negatives
        pooled = {z1: self.pooled(z1) for z1, _ in self.nodes}
        typical = {z1: sum(w * pooled[z1][1][zj] for zj, w in self.nodes) for z1, _ in self.nodes}
        along_global, along_local = {}, {}
        for z1, _ in self.nodes:
            agree = pooled[z1][0] ** 2 + self.total * sum(w * pooled[z1][1][zj] ** 2 for zj, w in self.nodes)
            positive = exp(agree / tau)
            partition = positive + count * (1 - 1 / clusters)
            repel_global = repel_local = 0.0
            for other, weight in self.nodes:
                likeness = pooled[z1][0] * pooled[other][0] + self.total * typical[z1] * typical[other]
                term = count / clusters * weight * exp(likeness / tau)
                partition += term
                repel_global += term * pooled[other][0]
                repel_local += term * typical[other]
            away = 1 - positive / partition
            along_global[z1] = z1 / tau * (away * pooled[z1][0] - repel_global / partition)
            along_local[z1] = {
                zj: zj / tau * (away * pooled[z1][1][zj] - repel_local / partition) for zj, _ in self.nodes
            }

        def push(kind, z1, za):
            found = {"g": along_global[z1], "o": along_local[z1]}
            return found | ({"a": along_local[z1][za]} if kind == LOCAL else {})

        return self.collect(push, 1 / (spec.sizes.patches * clusters))

    def drift(self, state):
        objective = self.spec.objective
        if objective.name == "mae":
            return self.reconstruction()
        if objective.name == "cl":
            return self.contrast() - objective.weight_decay * state
        mae = self.reconstruction() / (self.hidden * self.spec.sizes.patches)
        return (1 - objective.weight) * mae + objective.weight * self.contrast()


OBJECTIVES = {
    "mae": MaskedReconstruction(mask_ratio=0.6),
    "cl": Contrastive(mask_ratio=0.4, temperature=0.3),
    "cl, decay": Contrastive(temperature=0.5, weight_decay=1e-3),
    "mixture": Mixture(weight=0.3, mask_ratio=0.6, temperature=0.4),
}


@pytest.mark.parametrize("scale", [0.5, 4.0])
@pytest.mark.parametrize(("clusters", "position"), [(1, False), (1, True), (3, False)])
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_drift_is_that_of_the_notes(objective, law, clusters, position, scale, rng):
    spec = MeanField(
        sizes=SIZES,
        objective=objective,
        latents=law,
        clusters=clusters,
        position_correlations=position,
        negatives=5,
        nodes=3,
    )
    state = scale * rng.standard_normal(len(spec.parameters))
    drift, truth = spec.right_hand_side(state), Literal(spec, state).drift(state)
    assert len(drift) == (10 if position else 5)
    for block in (slice(0, 5), slice(5, 10)):
        size = np.abs(truth[block]).max(initial=0)
        np.testing.assert_allclose(drift[block], truth[block], rtol=1e-8, atol=1e-10 * size)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("value", [300.0, -300.0])
def test_attention_of_any_state_is_finite_and_adds_up(objective, value):
    spec = MeanField(sizes=AreaSizes.from_exponents(1e40, 0.9, 0.4), objective=objective)
    right = spec.right_hand_side
    for entry in range(5):
        state = np.zeros(5)
        state[entry] = value
        assert np.isfinite(right(state)).all()
        (local, row), _ = right.rows(state)
        np.testing.assert_allclose(row.rest + row.to_own, 1, rtol=1e-12)
        shown = row.to_own + row.to_global + local.others * row.other * right.moment(0, row.tilt)
        assert (shown <= 1 + 1e-12).all() and (shown > 0).all()


# ---- real finite models ------------------------------------------------------------------------------------


def lifted(layout, state):
    """The model with these order parameters, K = 1, Υ = 0."""
    own = torch.from_numpy(layout.area_of_patch[0])
    phi = torch.empty(1, layout.patches, 1, layout.areas, dtype=torch.float64)
    phi[0, :, 0, 0] = torch.where(own == 0, state[3], state[0])
    phi[0, :, 0, 1:] = torch.where(own == 0, state[4], state[2])[:, None]
    phi[0, own > 0, 0, own[own > 0]] = state[1]
    return Correlations(phi, torch.zeros(1, layout.patches, layout.patches, dtype=torch.float64))


def measured(layout, law, state, samples, batches, seed):
    """The drift of φ_1 and φ_a of a local query and of φ_1 of a global one, in batches of a real model."""
    generator = PatchGenerator(layout=layout, latents=law)
    objective, own = MaskedReconstruction(), torch.from_numpy(layout.area_of_patch[0])
    source = BatchSource(generator, objective, (seed,), samples, None, torch.float64, torch.device("cpu"))
    model, found = lifted(layout, state), []
    for step in range(batches):
        pull = -loss_gradient(model, objective, *source.training(step, None), {})[0].feature_position[0, :, 0]
        to_own = pull.gather(1, own[:, None])[:, 0]
        means = pull[own > 0, 0].mean(), to_own[own > 0].mean(), pull[own == 0, 0].mean()
        found.append([float(mean) for mean in means])
    return np.array(found)


SMALL, LARGE = PatchLayout.from_sizes([64] + [4] * 48), PatchLayout.from_sizes([256] + [16] * 48)


def test_first_drift_of_a_real_model_lacks_one_patch_of_its_area(rng):
    """At Q = 0 attention is linear in the counts: the one error left is that a hidden query is one of its own area.

    A local query that is hidden finds (1 − γ)P/(P − 1) · (C_s − 1) visible patches in its area instead of (1 − γ)C_s.
    """
    law, layout = TwoPoint(low=1.0, high=1.3), SMALL
    found = measured(layout, law, np.zeros(5), 64, 40, int(rng.integers(2**31)))[:, 1]
    drift = MeanField(sizes=AreaSizes.of(layout), latents=law).right_hand_side(np.zeros(5))[1]
    ratio, error = found.mean() / drift, found.std(ddof=1) / drift / np.sqrt(len(found))
    assert error < 0.01
    assert abs(ratio - (1 - 1 / layout.local_size)) < 4 * error + 0.01


def test_drift_of_real_models_approaches_the_mean_field_like_one_over_the_local_size(rng):
    law, state = Uniform(), np.array([-0.5, 1.0, 0.1, 1.0, -0.1])
    gaps, errors = [], []
    for layout, samples, batches in ((SMALL, 64, 30), (LARGE, 16, 30)):
        found = measured(layout, law, state, samples, batches, int(rng.integers(2**31)))
        drift = MeanField(sizes=AreaSizes.of(layout), latents=law).right_hand_side(state)[[0, 1, 3]]
        gaps.append(found.mean(0) / drift - 1)
        errors.append(found.std(0, ddof=1) / np.abs(drift) / np.sqrt(batches))
    gaps, errors = np.array(gaps), np.array(errors)
    own_gap, own_error = gaps[:, 1] * [4, 16], errors[:, 1] * [4, 16]
    assert (np.abs(own_gap) > 5 * own_error)[0], "at four patches the gap is seen"
    assert abs(own_gap[0] - own_gap[1]) < 4 * np.hypot(*own_error) + 0.5 * abs(own_gap[0])
    assert (np.abs(gaps[1]) < 0.15 + 4 * errors[1]).all()
