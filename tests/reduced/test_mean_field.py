"""The mean field against a literal transcription of the notes (exact) and against real finite models (statistical)."""

from math import exp

import numpy as np
import pytest
import torch
from enumeration import population

from vitdyn.data import AreaSizes, Beta, PatchGenerator, PatchLayout, TwoPoint, Uniform
from vitdyn.dynamics import loss_gradient
from vitdyn.dynamics.batches import BatchSource
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.models import Correlations
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.observables.standard import sample_mean
from vitdyn.reduced import MeanField
from vitdyn.reduced.quadrature import quadrature

SIZES = AreaSizes.from_exponents(1e4, 0.8, 0.4)
DISTRIBUTIONS = {
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
        self.total, self.masked = spec.sizes.local_areas, spec.objective.mask_ratio

    def keys(self, kind, hidden):
        """Keys of each area beside a hidden query, or all of them, and the share that is visible on average."""
        sizes, own = self.spec.sizes, "a" if kind == LOCAL else "g"
        keys = {"g": sizes.global_size, "a": sizes.local_size, "o": sizes.local_size}
        keys = {area: size - (hidden and area == own) for area, size in keys.items()}
        others = self.total - 1 if kind == LOCAL else self.total
        number = {"g": 1.0, "o": others} | ({"a": 1.0} if kind == LOCAL else {})
        shown = 1 - self.masked
        return own, keys, number, shown * sizes.patches / (sizes.patches - 1) if hidden else shown

    def latents(self, kind, z1, za):
        return {"g": z1, "a": za} if kind == LOCAL else {"g": z1}

    def attention(self, kind, z1, za, hidden):
        """A to the global and the own area, A_o as a function of z_o, and the attention of one hidden key of each."""
        phi, up = self.phi[kind], self.upsilon[kind]
        own, keys, number, shown = self.keys(kind, hidden)
        z = self.latents(kind, z1, za)
        total = exp(up[own]) if hidden else 0.0
        for area, count in number.items():
            total += count * (1 - shown) * keys[area] * exp(up[area])
            if area == "o":
                for zo, weight in self.nodes:
                    total += count * weight * shown * keys[area] * exp(up[area] + zo * phi[area])
            else:
                total += shown * keys[area] * exp(up[area] + z[area] * phi[area])
        found = {a: shown * keys[a] * exp(up[a] + z[a] * phi[a]) / total for a in z}
        found["o"] = {zo: shown * keys["o"] * exp(up["o"] + zo * phi["o"]) / total for zo, _ in self.nodes}
        return found, {area: exp(value) / total for area, value in up.items()}

    def pull(self, kind, z1, za, push, hidden):
        """z_j A_j (G_j − Ḡ) for Φ and attn (u G − Ḡ) for Υ, at one z_1 and z_a; ``push`` is G, by area."""
        attention, of_hidden = self.attention(kind, z1, za, hidden)
        _, keys, number, shown = self.keys(kind, hidden)
        z = self.latents(kind, z1, za)
        mean = sum(attention[area] * push[area] for area in z)
        for zo, weight in self.nodes:
            mean += number["o"] * weight * attention["o"][zo] * push["o"][zo]
        feature, position = {}, {}
        for area in z:
            feature[area] = z[area] * attention[area] * (push[area] - mean)
            position[area] = attention[area] / keys[area] * (push[area] - mean)
        feature["o"] = sum(w * zo * attention["o"][zo] * (push["o"][zo] - mean) for zo, w in self.nodes)
        position["o"] = sum(w * attention["o"][zo] * (push["o"][zo] - mean) for zo, w in self.nodes)
        position["o"] /= keys["o"]
        for area in position:
            position[area] -= (1 - shown) * of_hidden[area] * mean
        return feature, position

    def collect(self, push_of, factor, hidden):
        """Average over z_1 and z_a, in the order of the state."""
        total = {}
        for kind in (LOCAL, GLOBAL):
            for z1, w1 in self.nodes:
                for za, wa in self.nodes:
                    pulls_of = self.pull(kind, z1, za, push_of(kind, z1, za), hidden)
                    for block, pulls in zip("ΦΥ", pulls_of, strict=True):
                        for area, value in pulls.items():
                            place = kind, block, area
                            total[place] = total.get(place, 0.0) + factor * w1 * wa * value
        rows = [(LOCAL, "g"), (LOCAL, "a"), (LOCAL, "o"), (GLOBAL, "g"), (GLOBAL, "o")]
        blocks = "ΦΥ" if self.spec.position_correlations else "Φ"
        return np.array([total[kind, block, area] for block in blocks for kind, area in rows])

    def reconstruction(self):
        def push(kind, z1, za):
            attention, _ = self.attention(kind, z1, za, True)
            own = "a" if kind == LOCAL else "g"
            z = self.latents(kind, z1, za)
            found = {area: z[area] ** 2 * ((area == own) - attention[area]) for area in z}
            return found | {"o": {zo: -(zo**2) * attention["o"][zo] for zo, _ in self.nodes}}

        return self.collect(push, self.masked / self.spec.clusters, True)

    def pooled(self, z1):
        """z_1 Ā_1, and z_j Ā_j by z_j, of a sample whose global latent is z_1."""
        sizes = self.spec.sizes
        share, local = sizes.global_size / sizes.patches, sizes.local_size / sizes.patches
        centre, _ = self.attention(GLOBAL, z1, None, False)
        on_global, on_local = share * centre["g"], {}
        for za, weight in self.nodes:
            on_global += (1 - share) * weight * self.attention(LOCAL, z1, za, False)[0]["g"]
        for zj, _ in self.nodes:
            value = share * centre["o"][zj] + local * self.attention(LOCAL, z1, zj, False)[0]["a"]
            for za, weight in self.nodes:
                value += (1 - share - local) * weight * self.attention(LOCAL, z1, za, False)[0]["o"][zj]
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

        return self.collect(push, 1 / (spec.sizes.patches * clusters), False)

    def drift(self, state):
        objective = self.spec.objective
        if objective.name == "mae":
            return self.reconstruction()
        if objective.name == "cl":
            return self.contrast() - objective.weight_decay * state
        mae = self.reconstruction() / (self.masked * self.spec.sizes.patches)
        return (1 - objective.weight) * mae + objective.weight * self.contrast()


OBJECTIVES = {
    "mae": MaskedReconstruction(mask_ratio=0.6),
    "cl": Contrastive(mask_ratio=0.4, temperature=0.3),
    "cl, decay": Contrastive(temperature=0.5, weight_decay=1e-3),
    "mixture": Mixture(weight=0.3, mask_ratio=0.6, temperature=0.4),
}


@pytest.mark.parametrize("scale", [0.5, 4.0])
@pytest.mark.parametrize(("clusters", "position"), [(1, False), (1, True), (3, False)])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_drift_is_that_of_the_notes(objective, distribution, clusters, position, scale, rng):
    spec = MeanField(
        sizes=SIZES,
        objective=objective,
        latents=distribution,
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
        (local, row), _ = right.rows(state).loss_queries
        np.testing.assert_allclose(row.complement + row.to_own, 1, rtol=1e-12)
        shown = row.to_own + row.to_global + local.others * row.to_other * right.moment(0, row.boost)
        assert (shown <= 1 + 1e-12).all() and (shown > 0).all()


# ---- real finite models ------------------------------------------------------------------------------------


def embedded(layout, state):
    """The model with these order parameters, K = 1, Υ = 0."""
    own = torch.from_numpy(layout.area_of_patch[0])
    phi = torch.empty(1, layout.patches, 1, layout.areas, dtype=torch.float64)
    phi[0, :, 0, 0] = torch.where(own == 0, state[3], state[0])
    phi[0, :, 0, 1:] = torch.where(own == 0, state[4], state[2])[:, None]
    phi[0, own > 0, 0, own[own > 0]] = state[1]
    return Correlations(phi, torch.zeros(1, layout.patches, layout.patches, dtype=torch.float64))


def measured(layout, distribution, state, samples, batches, seed):
    """The drift of φ_1 and φ_a of a local query and of φ_1 of a global one, in batches of a real model."""
    generator = PatchGenerator(layout=layout, latents=distribution)
    objective, own = MaskedReconstruction(), torch.from_numpy(layout.area_of_patch[0])
    source = BatchSource(generator, objective, (seed,), samples, None, torch.float64, torch.device("cpu"))
    model, found = embedded(layout, state), []
    for step in range(batches):
        pull = -loss_gradient(model, objective, *source.training(step, None), {})[0].feature_position[0, :, 0]
        to_own = pull.gather(1, own[:, None])[:, 0]
        means = pull[own > 0, 0].mean(), to_own[own > 0].mean(), pull[own == 0, 0].mean()
        found.append([float(mean) for mean in means])
    return np.array(found)


SMALL, LARGE = PatchLayout.from_sizes([64] + [4] * 48), PatchLayout.from_sizes([256] + [16] * 48)


def test_first_drift_of_a_real_model_knows_that_a_hidden_query_is_one_of_its_area(rng):
    """At Q = 0 attention is linear in the counts, whose means are exact: nothing of order 1/C_s is left, C_s = 4.

    Counted as one that may be visible, the query would make the drift larger by a third of itself.
    """
    distribution, layout = TwoPoint(low=1.0, high=1.3), SMALL
    found = measured(layout, distribution, np.zeros(5), 64, 40, int(rng.integers(2**31)))[:, 1]
    drift = MeanField(sizes=AreaSizes.of(layout), latents=distribution).right_hand_side(np.zeros(5))[1]
    ratio, error = found.mean() / drift, found.std(ddof=1) / drift / np.sqrt(len(found))
    assert error < 0.01
    assert abs(ratio - 1) < 4 * error + 0.01
    assert abs(ratio - layout.local_size / (layout.local_size - 1)) > 0.25


@pytest.mark.parametrize("masked", [3, 4, 7])
@pytest.mark.parametrize("name", ["mae", "cl", "mixture"])
@pytest.mark.parametrize("sizes", [(4, 3, 3), (2, 2, 2, 2, 2), (5, 1, 1, 1, 1, 1)], ids=str)
def test_counts_are_the_means_over_every_mask(sizes, name, masked, rng):
    """With Φ = 0 attention is linear in the counts, so that the mean field has the mean over all masks, exactly.

    Υ is any with Υ_self that of the query's own area. Hidden queries, or all of them for contrast.
    """
    layout = PatchLayout.from_sizes(list(sizes))
    batch, visible = population(layout, masked, values=(1.0,))
    made = {"mae": MaskedReconstruction, "cl": Contrastive, "mixture": Mixture}[name](
        mask_ratio=masked / layout.patches
    )
    spec = MeanField(sizes=AreaSizes.of(layout), objective=made, position_correlations=True, nodes=2)
    state = np.concatenate([np.zeros(5), rng.standard_normal(5)])
    local, central = dict(zip("1ao", state[5:8], strict=True)), dict(zip("1o", state[8:], strict=True))
    own = layout.area_of_patch[0]
    upsilon = np.where(own[:, None] == own, local["a"], np.where(own == 0, local["1"], local["o"]))
    upsilon[own == 0] = np.where(own == 0, central["1"], central["o"])
    model = Correlations(
        torch.zeros(1, layout.patches, 1, layout.areas, dtype=torch.float64), torch.from_numpy(upsilon)[None]
    )
    forward = forward_pass(model, batch, (visible, visible), {})
    mean = sample_mean(forward.attention[0], made.loss_queries(forward))[0].numpy().T
    at_local, at_global = mean[own == 1], mean[own == 0]
    truth = [at_local[:, 0], at_local[:, 1], at_local[:, 2], at_global[:, 0], at_global[:, 1]]
    right = spec.right_hand_side
    found = right.attention(right.rows(state).loss_queries)
    np.testing.assert_allclose(found, [each.mean() for each in truth], rtol=1e-12, atol=1e-15)
    assert all(np.ptp(each) < 1e-12 for each in truth)


def test_an_area_of_one_patch_is_never_learned():
    """Its only patch is hidden where the query is, so that nothing of it can be seen."""
    sizes = AreaSizes(patches=1e4, global_size=3e3, local_size=1.0)
    right = MeanField(sizes=sizes, position_correlations=True).right_hand_side
    state = np.array([0.1, 2.0, 0.3, 0.4, 0.5, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert right.attention(right.rows(state).loss_queries)[1] == 0
    drift = right(state)
    assert np.isfinite(drift).all() and drift[1] == 0
    assert MeanField(sizes=sizes, objective=Contrastive()).right_hand_side(state[:5])[1] != 0


@pytest.mark.parametrize("layout", [SMALL, LARGE], ids=["C_s = 4", "C_s = 16"])
def test_drift_of_real_models_is_that_of_the_mean_field_up_to_the_spread_of_counts(layout, rng):
    """Away from Q = 0, within 1/(8 C_s): an eighth of what the query would make, were it counted as seen."""
    distribution, state = Uniform(), np.array([-0.5, 1.0, 0.1, 1.0, -0.1])
    samples = 64 if layout is SMALL else 32
    found = measured(layout, distribution, state, samples, 30, int(rng.integers(2**31)))
    drift = MeanField(sizes=AreaSizes.of(layout), latents=distribution).right_hand_side(state)[[0, 1, 3]]
    gaps = np.abs(found.mean(0) / drift - 1)
    errors = found.std(0, ddof=1) / np.abs(drift) / np.sqrt(len(found))
    assert errors[1] < 0.005
    assert (gaps < 1 / (8 * layout.local_size) + 4 * errors).all()
