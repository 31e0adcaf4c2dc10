"""Loss landscapes, judged at the quick scale with their own seeds: each claim with its controls.

On the layer with eight of twelve seeds. Intervals lie as clearly on one side of the margin, 0.2: from 0.43 on where
supervision is by a local latent, up to 0.07 where it is by the global one.
"""

import pytest
import torch

from vitdyn.claims import check, landscape, passes
from vitdyn.claims.landscape import (
    LANDSCAPE_MAE_SMOOTHER,
    LANDSCAPE_TEACHER_CONVEX,
    LatentRegression,
    blocks_of_queries,
    on_layer,
)
from vitdyn.dynamics import simulate
from vitdyn.experiments import ResultStore
from vitdyn.landscape import Hessian, dense
from vitdyn.objectives import RCMAE
from vitdyn.observables import Observable
from vitdyn.observables.loss_surface import loss_surface


@pytest.mark.verdict
@pytest.mark.parametrize(
    "claim", [LANDSCAPE_MAE_SMOOTHER, LANDSCAPE_TEACHER_CONVEX], ids=lambda claim: claim.id
)
def test_it_holds_and_its_controls_are_refuted(claim, tmp_path, monkeypatch):
    monkeypatch.setattr(landscape, "_LAYER_SEEDS", 8)
    verdicts = check((claim,), ResultStore(tmp_path))
    told = "\n".join(f"{each.case}: {each.status} {each.interval}" for each in verdicts)
    assert all(each.status == each.expected for each in verdicts), told
    assert passes(verdicts)


def test_a_target_that_there_is_not_is_named(complaint):
    with complaint("target", "must be one of global, local"):
        LatentRegression(target="loca")


@pytest.mark.parametrize("teacher_sees", ["same", "permuted"])
def test_blocks_of_queries_have_the_eigenvalues_of_the_whole_hessian(teacher_sees):
    def off(state):
        hessian = Hessian(loss_surface(state))
        whole = torch.linalg.eigvalsh(dense(hessian))
        parts = torch.linalg.eigvalsh(blocks_of_queries(hessian)).flatten().sort().values
        return ((parts - whole).abs().max() / whole.abs().max())[None]

    kind = Observable(name="off", compute=off, meaning="what the blocks leave out")
    objective = RCMAE(momentum=0.9, teacher_sees=teacher_sees)
    run = simulate(on_layer(objective, patches=12, steps=4, seeds=1, observables=(kind,)))
    assert run.final["off"].item() < 1e-10
