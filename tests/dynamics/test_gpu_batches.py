"""Which cells share a batch on a GPU (exact; no GPU is needed)."""

import os
import sys
from types import SimpleNamespace

os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything loads Triton

import pytest
import torch

from vitdyn.data import Constant, PatchGenerator
from vitdyn.dynamics import Adam, GradientDescent, Momentum
from vitdyn.dynamics.checkpoint import Checkpointer, packed, stored_state, write_checkpoint
from vitdyn.dynamics.gradient import Workspaces
from vitdyn.dynamics.grid import ReplicaBatch, batch_key, batches_of_cells
from vitdyn.dynamics.group import Group, fresh_group
from vitdyn.dynamics.memory import estimate_memory, split_cells
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.dynamics.resume import resume
from vitdyn.dynamics.steppers import EagerStepper, stepper_of
from vitdyn.kernels.plan import capturable_backend
from vitdyn.objectives import Contrastive, MaskedReconstruction

pytest.importorskip("triton")
from vitdyn.kernels.cuda import backend as flash

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def compiled(monkeypatch):
    """Make the fused engine look as on a machine with GPUs, so that decisions for these can be asked for."""
    monkeypatch.setattr(flash, "INTERPRETED", False)


@pytest.fixture
def make_cells(make_training):
    """Two cells of a rule that differ in learning rate, mask ratio and seeds."""

    def make(kind, **changes):
        return [
            make_training(
                MaskedReconstruction(mask_ratio=ratio),
                **{"optimizer": kind(learning_rate=rate), "seeds": seeds, "precision": "float32"} | changes,
            )
            for rate, ratio, seeds in ((0.1, 0.3, (3, 8)), (0.2, 0.5, (5,)))
        ]

    return make


class TestWhoSharesABatch:
    @pytest.mark.parametrize("kind", [GradientDescent, Momentum, Adam])
    def test_cells_that_differ_in_numbers(self, kind, make_cells, compiled):
        cells = make_cells(kind)
        assert batches_of_cells([*cells, *make_cells(kind, batch_size=7)], CUDA) == [(0, 1), (2, 3)]
        other = Momentum if kind is Adam else Adam
        assert batches_of_cells([*cells, *make_cells(other)], CUDA) == [(0, 1), (2, 3)]

    @pytest.mark.parametrize(
        "change",
        [
            {"objective": Contrastive()},
            {"precision": "float64"},
            {"content_queries": True},
            {"dataset_size": 9},
            {"sizes": [[1] * 17]},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_who_stays_alone(self, change, make_training, compiled):
        plain = {"precision": "float32"}
        cells = [make_training(**plain | change, seeds=seeds) for seeds in ((1, 2), (4,))]
        assert batches_of_cells(cells, CUDA) == [(0,), (1,)]
        assert batches_of_cells([make_training(**plain, seeds=seed) for seed in (1, 2)], CUDA) == [(0, 1)]

    @pytest.mark.parametrize("runs", [True, False])
    def test_the_key_knows_the_steps(self, runs, make_training, monkeypatch):
        """Cells share a batch where the steps are the fused ones, and these take objective and rule of every row."""
        monkeypatch.setattr(flash, "INTERPRETED", not runs)
        monkeypatch.setattr("vitdyn.dynamics.steppers.CudaGraphStepper", lambda *given: given)
        changes = [{}, {"precision": "float64"}, {"objective": Contrastive()}, {"dataset_size": 9}]
        shares = []
        for change in changes:
            training = make_training(**{"precision": "float32"} | change)
            rows = ReplicaBatch((training, training), ((0, 3), (1, 3)), CUDA)
            steps = stepper_of(Group(rows, None, {}, {}, None), SimpleNamespace(training=None), Workspaces())
            kind = training.generator.layout, CUDA, PRECISIONS[training.precision]
            fused = not isinstance(steps, EagerStepper) and capturable_backend(*kind) is not None
            shares.append(batch_key(training, CUDA) is not None)
            assert shares[-1] == fused
            if fused:
                group, batches = steps
                assert group.rows is rows and batches.objective is rows.objective
        assert shares == [runs, False, False, False]

    def test_laws_share_no_batch_on_gpus(self, make_training, compiled):
        layout = make_training().generator.layout
        cells = [
            make_training(
                precision="float32", generator=PatchGenerator(layout=layout, latents=Constant(value=level))
            )
            for level in (1.0, 1.2, 1.0)
        ]
        assert batches_of_cells(cells, CUDA) == [(0, 2), (1,)]
        assert batches_of_cells(cells, CPU) == [(0, 1, 2)]

    def test_no_triton(self, make_cells, monkeypatch):
        monkeypatch.setitem(sys.modules, "vitdyn.kernels.cuda.backend", None)
        cells = make_cells(Momentum)
        assert batches_of_cells(cells, CUDA) == [(0,), (1,)]
        assert batches_of_cells(cells, CPU) == [(0, 1)]


class TestGroups:
    @pytest.mark.parametrize("limit", [2, 5, 1000])
    @pytest.mark.parametrize("seeds", [[1, 1, 1, 1, 1], [8, 8, 8], [3, 7, 2, 1, 4]])
    def test_every_row_once_within_memory_and_each_cell_cut_as_alone(
        self, seeds, limit, make_training, compiled
    ):
        cells = [
            make_training(
                precision="float32", seeds=count, optimizer=GradientDescent(learning_rate=1 + index)
            )
            for index, count in enumerate(seeds)
        ]
        limit_mib = (limit + 0.5) * estimate_memory(cells[0], "cuda") / 2**20
        groups = split_cells(cells, CUDA, limit_mib)
        assert all(0 < len(group.rows) <= limit for group in groups)
        for index, cell in enumerate(cells):
            found = [tuple(seed for own, seed in group.rows if own == index) for group in groups]
            alone = [group.seeds for group in split_cells([cell], CUDA, limit_mib)]
            assert sorted(part for part in found if part) == sorted(alone)
            assert sorted(seed for part in alone for seed in part) == list(cell.seed_numbers)
            lengths = [len(part) for part in alone]
            assert len(alone) == -(-len(cell.seed_numbers) // limit) and max(lengths) - min(lengths) <= 1
        for group in groups:
            assert len(group.observed) == len({cell for cell, _ in group.rows})
        assert limit < 1000 or len(groups) == 1

    def test_a_checkpoint_keeps_its_groups(self, make_training, compiled, tmp_path, monkeypatch):
        cells = tuple(make_training(precision="float32", seeds=count) for count in (2, 5))
        split = [((0, 0), (1, 0), (1, 1)), ((1, 2), (1, 3), (1, 4)), ((0, 1),)]
        specs, path = ["first", "second"], tmp_path / "grid.pt"
        fresh = fresh_group(ReplicaBatch(cells, split[1], CPU), None).to_state()
        fresh["parts"] = [(0, "engine", "machine")]
        write_checkpoint(path, "first\nsecond", {1: packed(fresh) | {"split": dict(enumerate(split))}})
        monkeypatch.setattr("vitdyn.dynamics.resume.stored_state", lambda path, _: stored_state(path, CPU))
        monkeypatch.setattr("vitdyn.dynamics.resume._require_fit", lambda *_: None)
        checkpointer = Checkpointer({path: range(2)}, specs, 1.0)
        groups = resume(cells, None, CUDA, 1000.0, checkpointer)
        assert checkpointer.rows == dict(enumerate(split)) and list(checkpointer.states) == [1]
        assert [group.rows for group in groups] == split
