"""Public doors of the reduction and the mean field: what cannot be right is one line, before work starts. Exact."""

import numpy as np
import pytest

from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout, Uniform
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.reduced import (
    ExactReduction,
    MeanField,
    Symmetry,
    crossing_time,
    descend,
    integrate,
    integrate_batch,
    integrate_descents,
    integrate_flows,
    local_correlations,
    phase_one_end,
    when_reached,
)
from vitdyn.reduced.exact_reduction import sampled_gradient
from vitdyn.reduced.quadrature import quadrature
from vitdyn.theory import Prediction, Rate

SIZES = AreaSizes.from_exponents(1e3, 0.9, 0.4)
LAYOUT = PatchLayout.from_sizes([6, 2, 2])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"position_correlations": "x"}, "position_correlations"),
        ({"position_correlations": 1}, "position_correlations"),
        ({"position_correlations": None}, "position_correlations"),
        ({"clusters": 10**400}, "clusters"),
        ({"clusters": True}, "clusters"),
        ({"negatives": 10**30}, "negatives"),
        ({"nodes": 20_000}, "nodes"),
        ({"nodes": 2_000_000_000}, "nodes"),
        ({"nodes": 8.0}, "nodes"),
        ({"frames": 10**10}, "frames"),
        ({"frames": float("nan")}, "frames"),
        ({"steps": 10**30, "learning_rate": 1.0}, "steps"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"learning_rate": "1"}, "learning_rate"),
        ({"until": float("nan")}, "until"),
        ({"until": "0.9"}, "until"),
        ({"latents": 1.5}, "latents"),
        ({"latents": Uniform}, "latents"),
        ({"sizes": 1e4}, "sizes"),
        ({"objective": MaskedReconstruction}, "objective"),
    ],
)
def test_a_mean_field_that_cannot_be(changes, field, complaint):
    with complaint(field):
        MeanField(**{"sizes": SIZES} | changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": 10**30}, "steps"),
        ({"frames": 10**10}, "frames"),
        ({"batch_size": 10**15}, "batch_size"),
        ({"seeds": 10**15}, "seeds"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"batch_size": 2.5}, "batch_size"),
    ],
)
def test_a_reduced_run_that_cannot_be(changes, field, complaint):
    with complaint(field):
        ExactReduction(**{"layout": LAYOUT, "objective": MaskedReconstruction()} | changes)


@pytest.fixture(scope="module")
def flow():
    """A short trajectory."""
    return integrate(MeanField(sizes=SIZES, nodes=4, frames=6, until=0.5))


CALLS = {
    "integrate of a text": (lambda flow: integrate("mae"), "spec"),
    "batch of one spec": (lambda flow: integrate_batch(MeanField(sizes=SIZES)), "specs"),
    "batch of a text": (lambda flow: integrate_batch(["mae"]), "specs"),
    "flows of a text": (lambda flow: integrate_flows("mae"), "specs"),
    "flows of texts": (lambda flow: integrate_flows(["mae"]), "specs"),
    "descents of nothing": (lambda flow: integrate_descents(None), "specs"),
    "one level": (lambda flow: integrate_batch([MeanField(sizes=SIZES, nodes=4)], levels=0.5), "levels"),
    "max_active": (
        lambda flow: integrate_batch([MeanField(sizes=SIZES, nodes=4)], max_active=0),
        "max_active",
    ),
    "descend of a layout": (lambda flow: descend(LAYOUT), "spec"),
    "distribution": (lambda flow: quadrature("uniform", 4), "latents"),
    "count": (lambda flow: quadrature(Uniform(), 0), "nodes"),
    "crossing of a number": (lambda flow: crossing_time(0.5, np.zeros(3), 0.5), "trajectory"),
    "crossing of other frames": (lambda flow: crossing_time(flow, np.zeros(2), 0.5), "values.shape"),
    "crossing of NaN": (lambda flow: crossing_time(flow, flow["time"].to_numpy(), float("nan")), "level"),
    "end of nothing": (lambda flow: phase_one_end(None), "trajectory"),
    "correlations of a dataset": (lambda flow: local_correlations(flow.dataset), "trajectory"),
    "values of other lengths": (lambda flow: when_reached(np.zeros(2), np.zeros(3), 0.5), "values.shape"),
    "a batch size of no number": (lambda flow: _gradient(batch_size="many"), "batch_size"),
    "seeds that are one": (lambda flow: _gradient(seeds=0), "seeds"),
    "a layout for its symmetry": (lambda flow: _gradient(symmetry=LAYOUT), "symmetry"),
    "no order": (lambda flow: _gradient(order=np.zeros(3)), "order"),
    "a rate that is a text": (
        lambda flow: Rate(symbol="T", exponent="1", statement="", source="", note=""),
        "exponent",
    ),
    "a level that is a text": (
        lambda flow: Prediction(symbol="x", low="a", high="b", statement="", source="", note=""),
        "low",
    ),
}


def _gradient(**changes):
    symmetry = Symmetry.of(LAYOUT)
    given = {
        "symmetry": symmetry,
        "order": symmetry.zeros(1),
        "generator": PatchGenerator(layout=LAYOUT),
        "objective": MaskedReconstruction(),
        "batch_size": 4,
        "seeds": (0,),
    }
    return sampled_gradient(*(given | changes).values())


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be(name, flow, complaint):
    call, field = CALLS[name]
    with complaint(field):
        call(flow)


def test_a_batch_that_does_not_fit_is_refused_before_anything_is_made(monkeypatch, complaint):
    monkeypatch.setattr("vitdyn._memory.machine_memory", lambda: 2**20)
    spec = MeanField(sizes=SIZES, objective=Contrastive(), clusters=8, nodes=100, learning_rate=1.0, steps=2)
    with complaint("specs", "nodes"):
        integrate_descents([spec] * 4)


def test_what_is_right_passes():
    """The largest of what is allowed, numpy's numbers, and an infinite end."""
    MeanField(sizes=SIZES, clusters=10**15, negatives=np.int64(64), position_correlations=np.bool_(False))
    ExactReduction(layout=LAYOUT, objective=MaskedReconstruction(), seeds=np.int64(3), batch_size=2)
    Rate(symbol="T", exponent=float("inf"), statement="", source="", note="")
