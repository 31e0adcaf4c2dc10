"""Sweeps on one machine: what fails is a record, what is new runs, what is collected is what files hold (exact)."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray
from full_disk import largest_file

from vitdyn import cli
from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Runtime, Schedule, Training
from vitdyn.experiments import Experiment, Sweep, collect, run, run_sweep
from vitdyn.experiments.sweep_folder import SweepFolder
from vitdyn.experiments.sweep_run import plan_sweep
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.reduced import MeanField
from vitdyn.trajectory import Trajectory

RUNTIME = Runtime(device="cpu", keep_final_state=False)


def trained(areas, frames=3, **other):
    """A training of a layout of so many areas and clusters of another number."""
    layout = PatchLayout.from_sizes([[7 - areas, *[2] * areas]] * (1 + areas % 2))
    given = {
        "objective": MaskedReconstruction(),
        "steps": 4,
        "batch_size": 3,
        "evaluation_samples": 2,
        "seeds": 2,
    }
    training = Training(
        generator=PatchGenerator(layout=layout), schedule=Schedule(frames=frames), **{**given, **other}
    )
    return Experiment(name="ragged", training=training)


def rated(rate):
    """A training that diverges at the largest rate, and cannot be made at one below 0."""
    if rate == 1e12:
        return trained(
            2, objective=Contrastive(weight_decay=1e6), optimizer=GradientDescent(learning_rate=rate)
        )
    return trained(2, optimizer=GradientDescent(learning_rate=rate))


def flow(kappa_s, nodes=8):
    sizes = AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=kappa_s)
    return Experiment(name="flow", training=MeanField(sizes=sizes, nodes=nodes, frames=5))


def flows(*kappas, **axes):
    return Sweep.product("flows", flow, {"kappa_s": kappas, **axes})


def ran(sweep, out, **given):
    """Run a sweep; return how many cells it had to run."""
    count = sum(len(task.cells) for task in plan_sweep(sweep, out, runtime=RUNTIME, **given).tasks)
    run_sweep(sweep, out, runtime=RUNTIME, **given)
    return count


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    """A sweep whose cells differ in areas, clusters, frames and seeds; one cell has no result."""
    out = tmp_path_factory.mktemp("ragged")
    sweep = Sweep.product("ragged", trained, {"areas": (2, 1, 3), "frames": (3, 5), "seeds": (1, 2)})
    run_sweep(sweep, out, runtime=RUNTIME)
    folder = SweepFolder(out)
    folder.result(sweep[5].experiment.key).unlink()
    return sweep, out, folder


def by_hand(sweep, folder, data, name):
    """Load every trajectory and put its values into an array of NaN, one after the other."""
    values = np.full(data[name].shape, np.nan)
    for cell in sweep:
        path = folder.result(cell.experiment.key)
        if path.exists():
            own = Trajectory.load(path)[name].to_numpy()
            at = tuple(list(data[axis].to_numpy()).index(label) for axis, label in cell.coordinates.items())
            values[(*at, *map(slice, own.shape))] = own
    return values


def test_what_is_collected_is_what_all_trajectories_hold(ragged):
    sweep, out, folder = ragged
    data = collect(out)
    assert data["loss"].dims == ("areas", "frames", "seeds", "frame", "seed")
    assert data["status"].to_numpy().ravel().tolist().count("missing") == 1
    for name in ("loss", "area_attention", "step", "time", "position_position_self"):
        np.testing.assert_array_equal(data[name], by_hand(sweep, folder, data, name))


def test_parts_are_those_of_the_whole(ragged, rng):
    """By labels, numbers, slices and lists, transposed, in dask's chunks, and written."""
    _, out, _ = ragged
    name, data = "own_area_attention", collect(out)
    whole = data[name].load()
    for _ in range(8):
        chosen = {}
        for axis, size in data[name].sizes.items():
            ways = (
                int(rng.integers(size)),
                slice(int(rng.integers(size)), None, int(rng.integers(1, 3))),
                rng.integers(-size, size, size=int(rng.integers(1, 4))).tolist(),
                slice(None),
            )
            chosen[axis] = ways[rng.integers(4)]
        lazy = collect(out)[name]
        assert lazy.isel(chosen).identical(whole.isel(chosen))
        order = rng.permutation(lazy.dims).tolist()
        assert lazy.transpose(*order).isel(chosen).identical(whole.transpose(*order).isel(chosen))
    assert (
        collect(out)[name]
        .sel(areas=3, frames=[5, 3], statistic="mean")
        .equals(whole.sel(areas=3, frames=[5, 3], statistic="mean"))
    )
    assert collect(out)[name].chunk(areas=1, frame=2).compute().identical(whole)
    pairs = {
        axis: xarray.DataArray(numbers, dims="pair")
        for axis, numbers in (("areas", [0, 2]), ("frames", [1, 1]))
    }
    assert collect(out)[name].isel(pairs).identical(whole.isel(pairs))


def test_only_the_files_of_the_cells_asked_for_are_opened(ragged, monkeypatch):
    _, out, _ = ragged
    data, opened, real = collect(out), [], netCDF4.Dataset
    monkeypatch.setattr(
        netCDF4, "Dataset", lambda path, *given, **more: opened.append(path) or real(path, *given, **more)
    )
    collect(out)
    assert not opened, "what is in files that have not changed is known"
    data["loss"].sel(areas=3, seeds=2).isel(frame=-1).load()
    assert len(opened) == 2
    data["loss"].sel(areas=1).mean("frame")
    assert len(opened) == 2 + 4 - 1, "one has no result"


def test_cells_that_fail_are_records_and_run_again_when_asked(tmp_path):
    sweep = Sweep.product("rates", rated, {"rate": (0.5, -1.0, 1e12, 2.0)})
    assert ran(sweep, tmp_path) == 3
    data = collect(tmp_path)
    assert data["rate"].to_numpy().tolist() == [-1.0, 0.5, 2.0, 1e12]
    assert data["status"].to_numpy().tolist() == ["refused", "done", "done", "failed"]
    errors = data["error"].to_numpy()
    assert "must be a number in" in errors[0] and errors[3].startswith("DivergenceError: step ")
    assert np.isnan(data["loss"]).all(("frame", "seed")).to_numpy().tolist() == [True, False, False, True]
    record = SweepFolder(tmp_path).failure(sweep[2].experiment.key)
    assert json.loads(record.read_text())["coordinates"] == {"rate": 1e12}
    assert ran(sweep, tmp_path) == 0
    assert ran(sweep, tmp_path, again=True) == 1
    other, wrong = (SweepFolder(tmp_path).result(sweep[number].experiment.key) for number in (0, 2))
    wrong.parent.mkdir(exist_ok=True)
    shutil.copy(other, wrong)
    assert collect(tmp_path)["error"].to_numpy()[3].startswith("holds the result of another experiment")


def test_the_record_of_a_failure_goes_when_the_cell_has_a_result(tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(
            "vitdyn.experiments.store.run", lambda *_, **__: (_ for _ in ()).throw(KeyError("no\nluck"))
        )
        run_sweep(flows(0.3), tmp_path, runtime=RUNTIME)
    assert collect(tmp_path)["error"].item() == "KeyError: 'no\\nluck'"
    assert ran(flows(0.3), tmp_path, again=True) == 1
    assert collect(tmp_path)["status"].item() == "done"
    assert not list((tmp_path / "failed").rglob("*.json"))


def test_a_sweep_grows_by_values_axes_in_another_order_and_points(tmp_path):
    assert ran(flows(0.3, 0.2, nodes=(8,)), tmp_path) == 2
    assert ran(flows(0.4, 0.2, nodes=(8, 10)), tmp_path) == 3
    swapped = Sweep.product("flows", flow, {"nodes": (10,), "kappa_s": (0.3,)})
    assert ran(swapped, tmp_path) == 1
    data = collect(tmp_path)
    assert data["kappa_s"].to_numpy().tolist() == [0.2, 0.3, 0.4] and data["nodes"].to_numpy().tolist() == [
        8,
        10,
    ]
    assert set(data["status"].to_numpy().ravel()) == {"done"}
    alone = run(flow(0.3, 10))["loss"]
    np.testing.assert_array_equal(data["loss"].sel(kappa_s=0.3, nodes=10), alone)
    listed = Sweep.listed("flows", flow, [{"kappa_s": 0.1, "nodes": 12}])
    assert ran(listed, tmp_path) == 1
    assert collect(tmp_path)["loss"].dims[0] == "cell" and collect(tmp_path).sizes["cell"] == 7


def test_other_experiments_at_the_same_points_are_refused(tmp_path, complaint):
    run_sweep(flows(0.3), tmp_path, runtime=RUNTIME)
    other = Sweep.product("flows", lambda kappa_s: flow(kappa_s, nodes=9), {"kappa_s": (0.3, 0.2)})
    with complaint("out", "holds another experiment at {'kappa_s': 0.3}"):
        run_sweep(other, tmp_path, runtime=RUNTIME)
    with complaint("out", "holds the sweep flows over kappa_s"):
        run_sweep(replace(flows(0.3), name="others"), tmp_path, runtime=RUNTIME)
    assert collect(tmp_path).sizes["kappa_s"] == 1


def test_variables_that_some_cells_lack_are_as_long_as_the_others(tmp_path):
    """A flow of one seed and three areas beside a training of more of each."""
    kinds = {"flow": lambda: flow(0.3), "training": lambda: trained(3)}
    run_sweep(
        Sweep.product("kinds", lambda kind: kinds[kind](), {"kind": ("flow", "training")}),
        tmp_path,
        runtime=RUNTIME,
    )
    data = collect(tmp_path)
    for kind, make in kinds.items():
        alone = run(make(), runtime=RUNTIME).dataset
        for name in (name for name in alone.data_vars if name in data):
            own = data[name].sel(kind=kind)[tuple(map(slice, alone[name].shape))]
            np.testing.assert_array_equal(own, alone[name])
            assert data[name].sel(kind=kind).notnull().sum() == alone[name].notnull().sum()


def test_seeds_that_differ_are_told_of_each_cell(tmp_path):
    def make(first, count):
        return trained(1, seeds=tuple(range(first, first + count)))

    run_sweep(Sweep.product("seeds", make, {"first": (0, 4), "count": (1, 2)}), tmp_path)
    data = collect(tmp_path)
    assert "seed" not in data.coords
    np.testing.assert_array_equal(data["trajectory_seed"], [[[0, np.nan], [0, 1]], [[4, np.nan], [4, 5]]])


def test_one_name_for_two_things_is_refused(complaint):
    few, most = (MaskedReconstruction(mask_ratio=ratio) for ratio in (0.25, 0.75))
    base, clash = trained(2), [{"objective": few, "areas": 2}, {"objective": most, "areas": 3}]
    refused = [
        ("objective", "as another value is", lambda: Sweep.listed("l", trained, clash)),
        ("areas", "a label twice", lambda: Sweep.product("l", trained, {"areas": {True: 2, "true": 3}})),
        ("seeds", "read alike", lambda: Sweep.product("l", trained, {"seeds": {1: 1, "1": 2}})),
        ("axes", "a field twice", lambda: Sweep.over(base, {"steps": (1,), "training.steps": (2,)})),
        ("axes", "rename it", lambda: Sweep.product("l", trained, {"status": (1,)})),
        ("axes", "rename it", lambda: Sweep.product("l", trained, {"trajectory_seed": (1,)})),
    ]  # fmt: skip
    for field, remedy, attempt in refused:
        with complaint(field, remedy):
            attempt()
    within = Sweep.over(base, {"objective.mask_ratio": (0.25,), "objective": (MaskedReconstruction(),)})
    assert within[0].experiment.training.objective.mask_ratio == 0.25, "a field within one that is set too"


def test_whatever_a_function_raises_is_why_its_point_is_refused(tmp_path):
    run_sweep(Sweep.product("l", lambda at: {1: flow(0.3)}[at], {"at": (1, 2)}), tmp_path, runtime=RUNTIME)
    assert collect(tmp_path)["error"].to_numpy().tolist() == ["", "KeyError: 2"]


def test_no_point_can_be_made(tmp_path):
    with pytest.raises(ValueError, match=r"\Ano cell of flows can be run: kappa_s = 2: must be"):
        run_sweep(flows(2, 3), tmp_path / "out", runtime=RUNTIME)
    assert not (tmp_path / "out").exists()


def test_damaged_results_are_made_again_when_asked(tmp_path):
    sweep = flows(0.2, 0.3)
    run_sweep(sweep, tmp_path, runtime=RUNTIME)
    path = SweepFolder(tmp_path).result(sweep[1].experiment.key)
    whole = path.read_bytes()
    path.write_bytes(whole[:900] + b"?" + whole[901:])
    data = collect(tmp_path)
    assert data["status"].to_numpy().tolist() == ["done", "unusable"]
    assert "checksum" in data["error"].to_numpy()[1] and np.isnan(data["loss"][1]).all()
    run_sweep(sweep, tmp_path, runtime=RUNTIME)
    assert collect(tmp_path)["status"].to_numpy()[1] == "unusable", (
        "as elsewhere: only where that is asked for"
    )
    with pytest.warns(UserWarning, match="made anew"):
        run_sweep(sweep, tmp_path, runtime=replace(RUNTIME, anew=True))
    assert collect(tmp_path)["status"].to_numpy().tolist() == ["done", "done"]


def test_a_folder_that_was_moved_and_can_only_be_read(tmp_path):
    run_sweep(flows(0.3), tmp_path / "here", runtime=RUNTIME)
    (tmp_path / "here").rename(tmp_path / "there")
    assert ran(flows(0.3), tmp_path / "there") == 0
    (tmp_path / "there" / "scan.json").mkdir()  # what keeps it from being written
    assert collect(tmp_path / "there")["loss"].notnull().any()


def test_a_full_disk_ends_with_one_line_and_goes_on_after(tmp_path, capsys):
    sizes = "sizes.from_exponents = {patches = 1e8, kappa_c = 0.9, kappa_s = 0.3}"
    text = f'[training]\nkind = "MeanField"\nnodes = 8\nframes = 5\n{sizes}\n[axes]\n"sizes.kappa_s" = [0.2, 0.3]'
    (tmp_path / "flows.toml").write_text(text)
    command = ["sweep", str(tmp_path / "flows.toml"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    with largest_file(15_000):
        assert cli.main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list((tmp_path / "out").rglob("*.nc")) and not (tmp_path / "out" / "failed").exists()
    assert cli.main(command) == 0


def test_results_that_do_not_fit_the_disk_are_refused_before(tmp_path, monkeypatch, complaint):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with complaint("out", "make room, or name another folder"):
        run_sweep(flows(0.3), tmp_path / "out", runtime=RUNTIME)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [lambda: trained(3), lambda: flow(0.3)], ids=["training", "flow"])
def test_the_room_that_is_said_is_what_files_take(make, tmp_path):
    """To a fifth, where nothing is large enough to be compressed."""
    sweep = Sweep.product("sizes", lambda number: make(), {"number": (0,)})
    expected = plan_sweep(sweep, tmp_path, runtime=RUNTIME).bytes
    run_sweep(sweep, tmp_path, runtime=RUNTIME)
    assert 0.8 < expected / SweepFolder(tmp_path).result(sweep[0].experiment.key).stat().st_size < 1.25


KILLED = """
import os, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_sweep_runs import RUNTIME, killed
from vitdyn.dynamics.checkpoint import Checkpointer
from vitdyn.experiments import run, run_sweep
Checkpointer.should_save = lambda *_: True
run(killed()[0].experiment, runtime=RUNTIME)  # loads compiled code
def begin():
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run_sweep(killed(), sys.argv[1], runtime=RUNTIME)
            code = 0
        finally:
            os._exit(code)
    return pid
def end(pid):
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
for pause in map(float, sys.argv[2:]):
    pid = begin()
    time.sleep(pause)
    os.kill(pid, signal.SIGKILL)
    end(pid)
for pid in [begin(), begin()]:  # two clients at once
    end(pid)
"""


def killed():
    return Sweep.product(
        "killed", lambda rate, seeds: trained(2, steps=30, seeds=seeds, optimizer=GradientDescent(learning_rate=rate)),
        {"rate": (0.5, 1.0, 2.0), "seeds": (1, 2)},
    )  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_at_random_moments_and_two_at_once(tmp_path, rng):
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(tmp_path),
        *map(str, rng.uniform(0.02, 0.3, size=4).round(3)),
    ]
    here = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])
    ended = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": here}, capture_output=True, text=True, timeout=200
    )
    codes = list(map(int, ended.stdout.split()))
    assert codes[-2:] == [0, 0] and set(codes) <= {0, -signal.SIGKILL}, ended.stderr
    for cell in killed():
        found = Trajectory.load(SweepFolder(tmp_path).result(cell.experiment.key)).dataset
        assert found.drop_attrs().identical(run(cell.experiment, runtime=RUNTIME).dataset.drop_attrs())
    assert {path.suffix for path in tmp_path.rglob("*.*")} <= {".nc", ".json"}
