"""Objectives of two views: MoCo with a queue against loops, and what is refused before work starts (exact)."""

import pytest
import torch
from literal import moved_state, seen_by

from vitdyn.data import PatchLayout
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.objectives import (
    AlignmentUniformity,
    BarlowTwins,
    MoCo,
    SimCLR,
    Spectral,
    VICReg,
)

KINDS = [SimCLR, MoCo, Spectral, AlignmentUniformity, VICReg, BarlowTwins]


def test_moco_with_a_queue_has_it_for_its_only_negatives(make_problem, rng):
    objective, problem = MoCo(queue=7, temperature=0.4), make_problem(scale=0.3)
    state = moved_state(objective, problem.correlations, rng)
    forward = forward_pass(problem.correlations, problem.batch, problem.views, state)
    found, after = objective.loss(forward), objective.update_state(forward, problem.correlations)
    for seed in range(len(problem.batch.seeds)):
        seen, total = seen_by(forward, seed), 0.0
        queries, keys = (
            [unit(each) for each in part] for part in (seen.pooled(0), seen.pooled(1, teacher=True))
        )
        negatives = [unit(each) for each in seen.state["queue"]]
        for query, key in zip(queries, keys, strict=True):
            logits = torch.stack([query @ key, *(query @ negative for negative in negatives)]) / 0.4
            total = total + torch.logsumexp(logits, 0) - logits[0]
        torch.testing.assert_close(found[seed], total / len(queries), rtol=1e-12, atol=0)
        entered = torch.stack([*keys, *seen.state["queue"]])[:7]
        torch.testing.assert_close(after["queue"][seed], entered, rtol=1e-12, atol=1e-12)


def unit(vector):
    return vector / vector.norm() if vector.any() else vector


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_is_refused(kind, complaint):
    with complaint("batch_size", "at least 2"):
        kind().check(PatchLayout.from_sizes([6, 4]), 1)
    kind().check(PatchLayout.from_sizes([6, 4]), 2)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *(
            (kind, "temperature", value)
            for kind in (SimCLR, MoCo, AlignmentUniformity)
            for value in (0.0, -1.0)
        ),
        *((MoCo, "momentum", value) for value in (-0.1, 1.01, "half")),
        (MoCo, "queue", -1),
        (MoCo, "momentum_steps", 1.5),
        (MoCo, "predictor", 1),
        (MoCo, "predictor_rate", -1.0),
        *((kind, "normalise", "no") for kind in (SimCLR, MoCo, AlignmentUniformity)),
        (Spectral, "mu", 0.0),
        (Spectral, "clip", None),
        (AlignmentUniformity, "power", 0.0),
        (AlignmentUniformity, "weight", -1.0),
        *((VICReg, field, -1.0) for field in ("invariance", "variance", "covariance", "target")),
        (VICReg, "convention", "thesis"),
        (BarlowTwins, "weight", -1.0),
        (BarlowTwins, "convention", "thesis"),
        (SimCLR, "views", "same"),
    ],
)
def test_bad_fields_are_named(kind, field, value, complaint):
    with complaint(field, "must be"):
        kind(**{field: value})
