"""The simulation: what must hold of any run (exact, to the round-off that is said)."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from vitdyn.data import Constant, PatchGenerator, PatchLayout
from vitdyn.dynamics import (
    Adam,
    DivergenceError,
    GradientDescent,
    Momentum,
    Runtime,
    Schedule,
    Training,
    loss_gradient,
    simulate,
)
from vitdyn.dynamics.batches import BatchSource
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.dynamics.memory import estimate_memory
from vitdyn.dynamics.resources import pick_device
from vitdyn.models import Correlations
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.observables import RECORD, ModelState
from vitdyn.observables.observable import observe

BOTH = pytest.mark.parametrize("objective", ["mae", "cl"])
CONTENT = pytest.mark.parametrize("content", [False, True], ids=["positions", "content"])
RULES = pytest.mark.parametrize("optimizer", [GradientDescent, Momentum, Adam])


def final_blocks(trajectory):
    """The correlations at the end, by name."""
    names = [str(name) for name in trajectory.dataset if str(name).startswith("final_")]
    return {name.removeprefix("final_"): torch.from_numpy(trajectory[name].to_numpy()) for name in names}


def random_start(training, rng, scale=1.0):
    layout = training.generator.layout
    zeros = Correlations.zeros(layout, len(training.seed_numbers), content_queries=training.content_queries)
    return zeros.map(lambda block: scale * torch.from_numpy(rng.standard_normal(block.shape)))


class TestStart:
    @BOTH
    @CONTENT
    def test_step_0_is_the_start(self, objective, content, rng, make_training, source_of):
        """Frame 0 is what is observed of the start, whatever comes after."""
        training = make_training(objective, content_queries=content)
        start = random_start(training, rng)
        batch, views = source_of(training).evaluation(0, training.evaluation_samples)
        owners = ((training.generator, training.objective),) * 2
        forward = forward_pass(start, batch, views, {})
        state = ModelState(start, training.objective, forward, 0, lambda: start, owners)
        expected = observe(state, training.recorded)
        frame = simulate(training, start=start).dataset.isel(frame=0)
        assert {name for name in frame if not str(name).startswith("final_")} == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(frame[name], value, rtol=0, atol=1e-12, err_msg=name)

    @BOTH
    @CONTENT
    def test_no_step_leaves_the_start(self, objective, content, rng, make_training):
        training = make_training(objective, content_queries=content, steps=0)
        start = random_start(training, rng)
        for given, expected in ((start, start), (None, start.map(torch.zeros_like))):
            trajectory = simulate(training, start=given)
            assert trajectory["step"].to_numpy().tolist() == [0]
            found = final_blocks(trajectory)
            assert found.keys() == expected.named().keys()
            assert all(torch.equal(found[name], block) for name, block in expected.named().items())

    def test_the_start_is_not_written_to(self, rng, make_training):
        training = make_training()
        start = random_start(training, rng)
        kept = start.map(torch.clone)
        simulate(training, start=start)
        assert all(torch.equal(kept.named()[name], block) for name, block in start.named().items())

    @BOTH
    @RULES
    def test_zero_learning_rate_is_the_identity(self, objective, optimizer, rng, make_training):
        training = make_training(objective, optimizer=optimizer(learning_rate=0.0))
        start = random_start(training, rng)
        found = final_blocks(simulate(training, start=start))
        assert all(torch.equal(found[name], block) for name, block in start.named().items())


class TestSeeds:
    @BOTH
    @CONTENT
    def test_a_batch_of_seeds_equals_the_seeds_one_by_one(self, objective, content, make_training, agree):
        training = make_training(objective, seeds=(5, 0, 11), content_queries=content)
        together = simulate(training).dataset
        for index, seed in enumerate(training.seeds):
            alone = simulate(replace(training, seeds=(seed,))).dataset
            assert float(abs(alone["final_feature_position"]).max()) > 0.1
            agree(alone, together.isel(seed=[index]))

    @BOTH
    def test_how_seeds_are_split_does_not_matter(self, objective, make_training, agree):
        training = make_training(objective, seeds=5)
        one = estimate_memory(training) / 2**20
        limits = (one / 1e3, 2.1 * one, 1e3)
        runs = [simulate(training, runtime=Runtime(memory_limit_mib=limit)).dataset for limit in limits]
        for run in runs[:2]:
            agree(run, runs[2])

    @pytest.mark.parametrize("precision", ["float32", "float64"])
    def test_the_same_call_gives_the_same_bits(self, precision, make_training, identical):
        training = make_training("cl", precision=precision)
        identical(simulate(training), simulate(training))

    def test_groups_side_by_side_give_the_same_bits(self, make_training, identical, monkeypatch):
        """Threads do not change a number, and the caller keeps its own number of threads."""
        monkeypatch.setattr("vitdyn.dynamics.memory.LEAST_WORK", 0)
        training, before = make_training(seeds=6, steps=30), torch.get_num_threads()
        single = simulate(training, runtime=Runtime(memory_limit_mib=1e-6))
        torch.set_num_threads(3)
        try:
            identical(single, simulate(training, runtime=Runtime(memory_limit_mib=1e-6)))
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(before)

    def test_seeds_differ(self, make_training):
        final = simulate(make_training())["final_feature_position"].to_numpy()
        assert abs(final[0] - final[1]).max() > 0.01


class FixedMask(MaskedReconstruction):
    """Always the same views, so that with constant latents the gradient has no noise."""

    def draw_views(self, generator, samples, patches):
        return (np.arange(samples)[:, None] % 3 != np.arange(patches)[None] % 3,)


def test_views_are_truth_values_whatever_an_objective_draws():
    class Marks(FixedMask):
        def draw_views(self, generator, samples, patches):
            return tuple(view.astype(np.int64) for view in super().draw_views(generator, samples, patches))

    generator = PatchGenerator(layout=PatchLayout.from_sizes([4, 2, 1]))
    (marks,), (truth,) = (
        BatchSource(generator, objective, (3, 8), 5, None, torch.float32, torch.device("cpu")).views(0, 5)
        for objective in (Marks(), FixedMask())
    )
    assert marks.dtype == truth.dtype == torch.bool
    assert torch.equal(marks, truth) and marks.shape == (2, 5, 7)


class TestFlow:
    """Halving the learning rate at a fixed time: the error against the gradient flow halves."""

    time = 30.0
    generator = PatchGenerator(layout=PatchLayout.from_sizes([4, 2, 1]), latents=Constant(value=1.2))

    def training(self, steps):
        optimizer = GradientDescent(learning_rate=self.time / steps)
        return Training(
            generator=self.generator, objective=FixedMask(), optimizer=optimizer, steps=steps, batch_size=3, seeds=1,
            evaluation_samples=3, precision="float64", schedule=Schedule(spacing="explicit"),
        )  # fmt: skip

    @pytest.fixture(scope="class")
    def flow(self, source_of):
        """The flow at the final time by an adaptive Runge-Kutta method."""
        batch, views = source_of(self.training(1)).training(0, None)
        patches, areas = 7, 3

        def unpack(state):
            blocks = torch.from_numpy(state).split([patches * areas, patches * patches])
            return Correlations(
                blocks[0].reshape(1, patches, 1, areas), blocks[1].reshape(1, patches, patches)
            )

        def velocity(_, state):
            gradient, _ = loss_gradient(unpack(state.copy()), FixedMask(), batch, views, {})
            return -torch.cat([block.flatten() for block in gradient.named().values()]).numpy()

        state = np.zeros(patches * (areas + patches))
        return solve_ivp(velocity, (0, self.time), state, rtol=1e-10, atol=1e-12).y[:, -1]

    def test_slope_1(self, flow):
        errors = []
        for steps in (40, 80, 160, 320):
            blocks = final_blocks(simulate(self.training(steps)))
            found = torch.cat([block.flatten() for block in blocks.values()]).numpy()
            errors.append(abs(found - flow).max())
        assert abs(flow).max() > 1
        slopes = np.log2(np.divide(errors[:-1], errors[1:]))
        np.testing.assert_allclose(slopes, 1.0, atol=0.1)
        assert abs(slopes[-1] - 1) < 0.02


class TestRecord:
    def test_frames_are_taken_before_the_step_of_their_number(self, make_training):
        """A run of fewer steps ends with the frame that a longer one has there."""
        schedule = Schedule(spacing="explicit", steps=(0, 1, 4, 7))
        longer = simulate(make_training(steps=12, schedule=schedule))
        assert longer["step"].to_numpy().tolist() == [0, 1, 4, 7, 12]
        for index, step in ((1, 1), (2, 4), (3, 7)):
            shorter = simulate(make_training(steps=step, schedule=Schedule(spacing="explicit")))
            for name in {each.name for each in RECORD} & set(longer.dataset):
                np.testing.assert_array_equal(longer[name][index], shorter[name][-1], err_msg=name)
            start = shorter["final_feature_position"].mean()
            assert float(abs(start)) > 0

    def test_clock_labels_and_attributes(self, make_training):
        training = make_training(optimizer=GradientDescent(learning_rate=0.25))
        trajectory = simulate(training, runtime=Runtime(keep_final_state=False))
        np.testing.assert_array_equal(trajectory["time"], 0.25 * trajectory["step"].to_numpy())
        assert trajectory["seed"].to_numpy().tolist() == [3, 8]
        assert not [name for name in trajectory.dataset if str(name).startswith("final_")]
        attributes = trajectory.dataset.attrs
        assert attributes["device"] == "CPU"
        assert attributes["seconds"] > 0
        assert "vitdyn=" in attributes["versions"]
        assert json.loads(attributes["spec"])["training"]["steps"] == 12
        for about in training.recorded:
            assert trajectory[about.name].dims == ("frame", *about.axes)
            assert trajectory[about.name].attrs["symbol"] == about.symbol

    def test_training_does_what_it_should(self, make_training):
        """Masked reconstruction lowers its loss and its queries find their own areas."""
        final = simulate(make_training(steps=120, precision="float32")).dataset
        loss = final["excess_loss"].mean("seed")
        assert float(loss[-1]) < 0.4 * float(loss[0])
        own = final["own_area_attention"].sel(statistic="mean").isel(frame=-1)
        assert float(own.mean()) > 0.7


class TestDivergence:
    def test_step_and_seed_are_named(self, make_training):
        """λη = 1e18: each step multiplies Φ by that. One step less is still finite."""
        objective, optimizer = Contrastive(weight_decay=1e6), GradientDescent(learning_rate=1e12)
        training = make_training(objective, optimizer=optimizer, precision="float32")
        with pytest.raises(DivergenceError) as caught:
            simulate(training)
        found = re.fullmatch(
            r"step (\d+), seed 3: the parameters .* smaller learning rate .*", str(caught.value)
        )
        last = int(found[1]) - 1
        assert last in (1, 2)
        blocks = final_blocks(simulate(replace(training, steps=last)))
        assert all(block.isfinite().all() for block in blocks.values())

    def test_only_the_seed_that_diverged_is_named(self, make_training):
        class Breaking(GradientDescent):
            def step(self, correlations, gradient, state, count):
                super().step(correlations, gradient, state, count)
                correlations.feature_position[1, 2, 0, 0] = float("inf")

        training = make_training(precision="float32", steps=4, optimizer=Breaking(learning_rate=1.0))
        with pytest.raises(ArithmeticError, match="step 1, seed 8: "):
            simulate(training)


class TestDevice:
    def test_the_cpu(self):
        assert pick_device("cpu") == torch.device("cpu")
        assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
    @pytest.mark.parametrize("name", ["cuda", "cuda:1"])
    def test_cuda_where_there_is_none(self, name, complaint):
        with complaint("device", "no CUDA device"):
            pick_device(name)
        with complaint("device", "no CUDA device"):
            Runtime(device=name)

    @pytest.mark.parametrize("name", ["gpu", "", "tpu:0"])
    def test_unknown_devices_are_named(self, name, complaint):
        with complaint("device", "must be one of auto, cpu, cuda"):
            pick_device(name)

    @pytest.mark.parametrize("field", ["memory_limit_mib", "checkpoint_seconds"])
    def test_bad_limits_are_named(self, field, complaint):
        with complaint(field, "must be a number"):
            Runtime(**{field: -1.0})

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    @BOTH
    def test_cuda_equals_the_cpu(self, objective, make_training, agree):
        training = make_training(objective)
        agree(*(simulate(training, runtime=Runtime(device=name)).dataset for name in ("cuda", "cpu")), 1e-5)


MEASURE = """
import gc
import sys
import torch
torch.set_num_threads(1)
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Adam, Runtime, Schedule, Training, simulate
from vitdyn.dynamics.memory import estimate_memory
from vitdyn.models import Transformer
from vitdyn.objectives import Contrastive, MaskedReconstruction

def run(patches, samples, objective, seeds, **options):
    generator = PatchGenerator(layout=PatchLayout.from_exponents(patches, 0.9, 0.4))
    training = Training(generator=generator, objective=objective, steps=2, batch_size=samples, seeds=seeds,
                        schedule=Schedule(spacing="explicit"), **options)
    simulate(training, runtime=Runtime(memory_limit_mib=1e6, keep_final_state=False))
    return estimate_memory(training) * seeds

OBJECTIVES = {"mae": MaskedReconstruction(), "cl": Contrastive()}
OPTIONS = {"plain": {}, "adam": {"optimizer": Adam(learning_rate=0.1)}, "content": {"content_queries": True}}
SMALL = {"optimizer": Adam(learning_rate=1e-3)}
OPTIONS["heads"] = SMALL | {"model": Transformer(layers=2, heads=3, residual=True, initial_scale=0.1)}
OPTIONS["vit"] = SMALL | {"model": Transformer(
    layers=2, heads=2, values="projections", residual=True, mlp=64, norm=True, content_queries=True, key_dimension=32,
    positions="stream", initial_scale=0.1,
)}

def status(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) * 1024

for case in sys.argv[1:]:
    name, patches, samples, options = case.split()
    run(128, int(samples), OBJECTIVES[name], 1, **OPTIONS[options])
    gc.collect()  # what the case before has left must not go in this one; the largest comes first for that
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
    before = status("VmRSS")
    estimate = run(int(patches), int(samples), OBJECTIVES[name], 1, **OPTIONS[options])
    print((status("VmHWM") - before) / estimate)
"""
MEASURED = (
    "mae 2048 16 plain", "mae 512 64 plain", "mae 1024 16 plain", "mae 1024 16 adam", "cl 1024 32 plain",
    "cl 512 16 content", "cl 256 16 content", "mae 256 64 heads", "cl 256 32 heads", "mae 256 4 heads", "cl 256 16 vit",
)  # fmt: skip
"""Objective, patches, samples and what else is asked for."""


class TestMemory:
    def test_more_of_anything_takes_more(self):
        def estimate(patches=64, clusters=1, **options):
            layout = PatchLayout.from_exponents(patches, 0.9, 0.3, clusters=clusters)
            given = {"generator": PatchGenerator(layout=layout), "objective": Contrastive(), "batch_size": 64}
            return estimate_memory(Training(**given | options))

        more = [
            {"patches": 128},
            {"batch_size": 128},
            {"clusters": 2},
            {"precision": "float64"},
            {"content_queries": True},
            {"optimizer": Adam(learning_rate=0.1)},
        ]
        assert all(estimate(**change) > estimate() for change in more)
        assert estimate() > estimate(objective=MaskedReconstruction())

    @pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from Linux's /proc")
    def test_the_estimate_is_what_a_run_takes_within_30_percent(self):
        command = [sys.executable, "-c", MEASURE, *MEASURED]
        # freed arrays go back to the system at once: what is in use is counted, not what the C library keeps
        frees = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=300, env=os.environ | frees
        )
        shares = dict(zip(MEASURED, map(float, done.stdout.split()), strict=True))
        assert not {case: share for case, share in shares.items() if not 0.7 < share < 1.3}


def test_a_progress_bar_counts_every_step(make_training, monkeypatch):
    updates = []

    class Bar:
        def __init__(self, show, total, unit):
            updates.append(-total)

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def update(self, count):
            updates.append(count)

    monkeypatch.setattr(import_module("vitdyn.dynamics.simulate"), "shown", Bar)
    simulate(make_training(), runtime=Runtime(progress=True))
    assert sum(updates) == 0
    assert updates[0] == -2 * 12
