"""One frame of a trajectory: everything that is read off the correlations and one evaluation batch."""

from __future__ import annotations

from math import nan

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import wrong
from vitdyn.attention import Correlations, attend
from vitdyn.data import PatchLayout
from vitdyn.metrics import attention_diversity
from vitdyn.objectives import ForwardPass, Objective
from vitdyn.objectives.contract import decay_of, loss_of, loss_queries_of, lower_bound_of
from vitdyn.observables.by_area import over_pairs, over_positions

_DIVERSITY_SAMPLES = 2


def observe(correlations: Correlations, objective: Objective, forward: ForwardPass) -> dict[str, Tensor]:
    """Return the values of all observables that this model has, by name, with the axes of ``OBSERVABLES``.

    Attention is read on the first view, over the queries that the objective counts. Values that do not
    exist (areas that a cluster lacks, positions that no sample counted) are NaN.
    """
    batch = forward.batch
    counted = loss_queries_of(objective, forward)
    own_shown = batch.own_area_shown(forward.views[0])
    own = forward.attention[0].gather(2, batch.area[:, :, None])[:, :, 0]
    error = _reconstruction_error(forward)

    by_cluster: dict[str, list[Tensor]] = {}
    for cluster in range(batch.layout.clusters):
        drawn = (batch.cluster == cluster)[..., None]
        by_position = {
            "area_attention": sample_mean(forward.attention[0], counted & drawn).transpose(1, 2),
            "own_area_attention": sample_mean(own, counted & drawn & own_shown),
            "reconstruction_error": sample_mean(error, ~forward.views[0] & drawn),
        }
        for name, values in _by_area(correlations, batch.layout, cluster, by_position).items():
            by_cluster.setdefault(name, []).append(values)

    loss = loss_of(objective, forward) + decay_of(objective, correlations, forward)
    return {
        **{name: torch.stack(values, 1) for name, values in by_cluster.items()},
        "loss": loss,
        "excess_loss": loss - lower_bound_of(objective, forward),
        "attention_diversity": _diversity(correlations, forward),
    }


def _by_area(
    correlations: Correlations, layout: PatchLayout, cluster: int, by_position: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Summarise one cluster's correlations and attention over the positions of its areas."""
    device = correlations.position_position.device
    areas = torch.from_numpy(layout.area_of_patch[cluster]).to(device)
    lacking = torch.from_numpy(layout.sizes[cluster] == 0).to(device)

    def summary(values: Tensor) -> Tensor:
        return over_positions(values, areas, layout.areas)

    upsilon = correlations.position_position
    phi = correlations.feature_position[:, :, cluster].masked_fill(lacking, nan)
    attention = by_position["area_attention"].masked_fill(lacking, nan)
    own, error = by_position["own_area_attention"], by_position["reconstruction_error"]
    together = torch.cat([phi, attention, own[..., None], error[..., None]], -1)  # one pass over the areas
    of_phi, of_attention, of_own, of_error = summary(together).split((layout.areas, layout.areas, 1, 1), 2)
    found = {
        "feature_position": of_phi,
        "position_position": over_pairs(upsilon, areas, layout.areas),
        "position_position_self": summary(upsilon.diagonal(dim1=1, dim2=2)),
        "area_attention": of_attention,
        "own_area_attention": of_own[:, :, 0],
        "reconstruction_error": of_error[:, :, 0, 0],
    }
    if correlations.content_position is not None and correlations.content_content is not None:
        psi = correlations.content_position[:, cluster].transpose(1, 2).masked_fill(lacking, nan)
        found["content_position"] = summary(psi).transpose(1, 2)
        pairs = lacking[:, None] | lacking
        found["content_content"] = correlations.content_content[:, cluster].masked_fill(pairs, nan)
    return found


def sample_mean(
    values: Float[Tensor, "seed sample *rest query"], counted: Bool[Tensor, "seed sample query"]
) -> Float[Tensor, "seed *rest query"]:
    """Return each query's mean over the samples that count; NaN for a query that no sample counts."""
    for field, part in (("values", values), ("counted", counted)):
        if not isinstance(part, Tensor) or part.ndim < 3 or part.layout != torch.strided or part.is_meta:
            raise wrong(field, part, "must be a dense tensor with axes for seed, sample and query")
    if counted.shape != (*values.shape[:2], values.shape[-1]):
        raise wrong("counted.shape", tuple(counted.shape), f"must fit values of shape {tuple(values.shape)}")
    between = [1] * (values.ndim - 3)
    weight = counted.to(values).reshape(*counted.shape[:2], *between, -1)
    return (values * weight).sum(1) / weight.sum(1)


def _reconstruction_error(forward: ForwardPass) -> Float[Tensor, "seed sample query"]:
    """Return ½ Σ_j z_j² (A_j − 1{j = own})² for every sample and query."""
    residual = forward.attention[0] - forward.batch.membership
    return 0.5 * residual.mul_(forward.batch.latents[..., None]).square_().sum(2)


def _diversity(correlations: Correlations, forward: ForwardPass) -> Float[Tensor, " seed"]:
    """Return the mean diversity of a few maps, spread over the batch and so over its clusters, made one by one."""
    batch = forward.batch
    few = torch.linspace(0, batch.count - 1, min(_DIVERSITY_SAMPLES, batch.count)).long()
    found = []
    for sample in few.tolist():
        own = slice(sample, sample + 1)
        found.append(attention_diversity(attend(correlations, batch.part(own), forward.views[0][:, own])))
    return torch.cat(found, 1).mean(1)
