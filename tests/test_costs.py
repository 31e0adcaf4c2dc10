"""What no machine can carry is refused in one line before anything is made; what takes hours is said. Exact."""

import json
from collections import Counter

import pytest
import torch

from vitdyn import _memory, cli
from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout
from vitdyn.dynamics import Runtime, Schedule, Training, simulate, simulate_grid
from vitdyn.dynamics.grid import ReplicaBatch
from vitdyn.dynamics.memory import estimate_memory, kept_memory, require_memory, split_cells
from vitdyn.experiments import Experiment, cost, run
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.reduced import MeanField, descent, integrate

CPU = torch.device("cpu")
ON_CPU = Runtime(device="cpu")


def training(patches=16, **changes):
    layout = PatchLayout.from_exponents(patches, 0.7, 0.3, clusters=changes.pop("clusters", 1))
    return Training(
        **{"generator": PatchGenerator(layout=layout), "objective": MaskedReconstruction()} | changes
    )


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["run", "mae", "--patches", "300000"], "patches = 300000: takes "),
        (["run", "cl", "--patches", "10000000"], "patches = 10000000: patches times clusters must be"),
        (["run", "mae", "--patches", "9" * 20], "patches = 99999999999999999999: "),
        (["run", "mae", "--seeds", "1000000000"], "seeds = 1000000000: must be 1,000,000 or less"),
        (["run", "mae", "--seeds", "1000000"], "seeds = 1000000: takes "),
        (["run", "mae", "--batch-size", "100000000000"], "batch_size = 100000000000: takes "),
        (["run", "cl", "--batch-size", "10000000"], "batch_size = 10000000: takes "),
        (["run", "mae", "--dataset-size", "1000000000000"], "dataset_size = 1000000000000: takes "),
        (["run", "mae", "--clusters", "1000000"], "clusters = 1000000: patches times clusters must be"),
        (["run", "mae", "--frames", "1000000000"], "Schedule.frames = 1000000000: must be 1,000,000 or less"),
        (["run", "mae", "--steps", "1" + "0" * 30], "steps = 1000000000000000000000000000000: must be"),
        (["run", "cl", "--patches", "65536", "--content-queries"], "takes "),
        (["flow", "mae", "--nodes", "20000"], "nodes = 20000: must be 512 or less"),
        (["flow", "mae", "--nodes", "2000000000"], "nodes = 2000000000: must be 512 or less"),
        (["flow", "cl", "--nodes", "2000"], "nodes = 2000: must be 512 or less"),
        (["flow", "mae", "--learning-rate", "1", "--frames", "10000000000"], "frames = 10000000000: must be"),
        (
            ["flow", "mae", "--learning-rate", "1", "--steps", "1" + "0" * 18],
            "must be 1,000,000,000,000,000 or",
        ),
    ],
)
def test_absurd_sizes_are_refused_in_one_line_and_nothing_is_left(arguments, field, tmp_path, capsys):
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert field in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("patches", lambda: PatchLayout.from_exponents(10**15, 0.9, 0.4)),
        ("clusters", lambda: PatchLayout.from_exponents(16, 0.9, 0.3, clusters=10**12)),
        ("patches", lambda: PatchLayout.from_sizes([10**15, 1])),
        ("clusters", lambda: PatchLayout.from_sizes([3, 2], clusters=10**12)),
        ("count", lambda: training().generator.sample(10**13, (0,))),
        ("count", lambda: training().generator.sample(10**15, (0, 1))),
        ("seeds", lambda: training(seeds=10**12)),
        ("Schedule.frames", lambda: Schedule(frames=10**12)),
        ("steps", lambda: training(steps=10**30)),
        ("nodes", lambda: MeanField(sizes=AreaSizes.from_exponents(1e6, 0.9, 0.4), nodes=10**6)),
        ("batch_size", lambda: simulate(training(batch_size=10**13), runtime=ON_CPU)),
        ("evaluation_samples", lambda: simulate(training(evaluation_samples=10**13), runtime=ON_CPU)),
        ("batch_size", lambda: simulate_grid([training(), training(batch_size=10**13)], runtime=ON_CPU)),
        ("patches", lambda: simulate(training(2**19), runtime=ON_CPU)),
        ("clusters", lambda: require_memory((training(16, clusters=2**14, precision="float64", seeds=1),), CPU)),
        ("batch_size", lambda: cost.estimate_cost(Experiment(name="x", training=training(batch_size=10**13)))),
        ("batch_size", lambda: run(Experiment(name="x", training=training(batch_size=10**13)), runtime=ON_CPU)),
    ],
)  # fmt: skip
def test_the_doors_of_the_library_refuse_them_too(field, make, complaint, monkeypatch):
    monkeypatch.setattr(_memory, "machine_memory", lambda: 16 * 2**30 if field != "clusters" else 2**23)
    with complaint(field):
        make()


def test_a_run_is_refused_where_its_last_states_do_not_fit_though_each_seed_does(complaint, monkeypatch):
    one, many = training(64, seeds=1), training(64, seeds=100)
    monkeypatch.setattr(_memory, "machine_memory", lambda: kept_memory(many) // 2)
    require_memory((one,), CPU)
    with complaint("seeds", "fewer seeds"):
        require_memory((many,), CPU)
    with complaint("seeds", "fewer seeds"):
        require_memory((training(64, seeds=60),) * 2, CPU)


def test_what_is_kept_is_the_state_thrice_and_all_frames():
    many = training(64, seeds=7, steps=3, schedule=Schedule(spacing="explicit"))
    layout = many.generator.layout
    record = (
        9 * layout.areas**2 + 7 * layout.areas + 3
    )  # Φ, Υ, A; Υ_self, A_own, error; loss, excess, diversity
    numbers = 3 * (64**2 + 64 * layout.areas) + 2 * 2 * record
    assert kept_memory(many) == 7 * 4 * numbers
    assert estimate_memory(training(dataset_size=10**6)) - estimate_memory(training()) == pytest.approx(
        10**6 * (8 + 12 * training().generator.layout.areas)
    )


def test_a_job_that_has_less_memory_than_its_machine_is_heard(monkeypatch, tmp_path, complaint):
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text("1048576\n")
    monkeypatch.setattr(_memory, "_LIMITS", [str(tmp_path / name) for name in ("max", "limit", "absent")])
    _memory.machine_memory.cache_clear()
    try:
        assert _memory.machine_memory() == 2**20
        with complaint("x", "lower it"):
            _memory.require_fits("x", 3, 2**20 + 1, "lower it")
        _memory.require_fits("x", 3, 2**20, "lower it")
    finally:
        _memory.machine_memory.cache_clear()


def test_more_frames_than_moments_take_no_memory(complaint):
    spec = MeanField(sizes=AreaSizes.from_exponents(1e3, 0.9, 0.4), nodes=2, until=0.3, frames=10**5)
    assert integrate(spec).dataset.sizes["frame"] < 1000
    with complaint("steps"):
        integrate(MeanField(sizes=AreaSizes.from_exponents(1e6, 0.9, 0.4), learning_rate=1.0, steps=10**16))


def test_long_descents_are_said_beforehand_and_shown(tmp_path, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(descent, "shown", lambda show, total, unit: _Bar(shown, show, total))
    endless = [
        "flow",
        "mae",
        "--patches",
        "1e6",
        "--learning-rate",
        "1",
        "--steps",
        str(10**15),
        "--until",
        "0.999",
    ]
    assert cli.main([*endless, "--out", str(tmp_path)]) == 130
    printed = capsys.readouterr()
    assert "1000000000000000 steps: up to " in printed.out
    assert "years" in printed.out
    assert printed.err == "vitdyn: interrupted\n"
    assert shown[0] == (True, 10**15)
    assert not list(tmp_path.iterdir())


class _Bar:
    """Interrupts after a hundred steps."""

    def __init__(self, shown, *given):
        self.shown = shown
        shown.append(given)

    def update(self, count):
        self.shown.append(count)
        if len(self.shown) > 100:
            raise KeyboardInterrupt

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        return None


@pytest.mark.parametrize("seeds", [1, 64])
def test_time_is_the_work_of_all_groups_shared_by_the_cores(seeds, monkeypatch):
    run = training(64, seeds=seeds, steps=100, objective=MaskedReconstruction())
    monkeypatch.setattr("vitdyn.dynamics.memory.LEAST_WORK", 0)
    groups, times = split_cells((run,), CPU, 4.0), []
    assert (len(groups) > 1) == (seeds > 1)
    for count in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        times.append(cost.estimate_seconds(groups))
    at_once = -(-len(groups) // 2)
    assert times[1] == pytest.approx(times[0] * at_once / len(groups))


def test_no_time_is_told_for_a_gpu():
    rows = ReplicaBatch((training(),), ((0, 0),), torch.device("cuda"))
    assert cost.estimate_seconds([rows]) is None


def test_a_slower_machine_takes_longer(monkeypatch):
    groups, table = split_cells((training(),), CPU, 4.0), json.loads(cost.TABLE.read_text())
    for factor in (1, 3):
        monkeypatch.setattr(cost, "pulse", lambda factor=factor: factor * table["pulse"])
        seconds = cost.estimate_seconds(groups)
        units = sum((cost.work(group) for group in groups), Counter())
        told = sum(table["seconds"][name] * count for name, count in units.items())
        assert seconds == pytest.approx(factor * told)


def test_contrast_of_many_samples_counts_its_similarities():
    few, many = (
        estimate_memory(training(objective=Contrastive(), batch_size=count, clusters=2))
        for count in (100, 200)
    )
    assert many > 2 * few
