"""The scripts of the figures run from end to end, here at a tiny cost; and the inspection of patches. Exact."""

import csv
import importlib.util
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vitdyn._tables import text_table
from vitdyn.claims.representations import ordered_runs
from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout
from vitdyn.dynamics import Runtime, Schedule, Training, simulate
from vitdyn.dynamics.batches import BatchSource
from vitdyn.experiments import Experiment
from vitdyn.experiments.families import objectives_by_name
from vitdyn.experiments.family_axes import AXES
from vitdyn.experiments.inspection import patch_area_attention
from vitdyn.models import Correlations
from vitdyn.models.reference import attend
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.observables import Metric
from vitdyn.plotting import FigureOptions
from vitdyn.reduced import MeanField

torch.set_num_threads(1)

SIMS = Path(__file__).parents[1] / "sims"
SCRIPTS = sorted(path.stem for path in SIMS.glob("[0-9]*.py"))
FLOWS = [name for name in SCRIPTS if name[:2] in ("10", "11", "12", "13", "14")]
"""Grids and ladders of mean-field flows, which cannot be made tiny here: ``make figures`` runs them."""
UNTRAINED = ("01_data", "09_photograph_gaps")
ELSEWHERE = ("17_real_images", "19_families_on_digits", "23_surfaces")
"""Tested with their own room."""
TRAINED = [name for name in SCRIPTS if name not in (*UNTRAINED, *FLOWS, *ELSEWHERE)]
RUN = [name for name in SCRIPTS if name not in (*FLOWS, *ELSEWHERE, "09_photograph_gaps")]  # segments, twice
STEPS = (1, 2, 3)
FEW = {
    "BEYOND": (),
    "GROWN": (4, 16, 32),
    "SHRUNK": (4, 16, 32),
    "PLACES": (0, 4),
    "WEIGHTS": (0.0, 0.7, 1.0),
    "RATIOS": (1.0, 4.0),
    "LEVELS": {"noise": (0.0, 0.4), "coherence": (0.0, 0.9)},
    "AXES": AXES[3:4],
    "SEEDS": {"quick": 1},
    "VIT_STEPS": {"quick": 3},
    "SIGMAS": (0.4, 2.0),
    "ETAS": (1.0,),
    "HEADS": (2,),
    "NUMBERS": (1, 2),
    "TAUS": (1.0,),
    "IMAGES": {"quick": 4},
    "FRAMES": 2,
    "RUNS": {"quick": (1, 3, 3, 2)},
    "objectives_by_name": lambda: objectives_by_name(("mae", "cl")),
    "ordered_runs": lambda *given, **options: ordered_runs(*given, **options)[::5],
}
"""Of what long sweeps go through, enough for every line of a script: each objective, both ends."""


def load(name):
    spec = importlib.util.spec_from_file_location(f"sims_{name}", SIMS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def on_few_images(observable):
    if not isinstance(observable.compute, Metric):
        return observable
    images = replace(observable.compute.images, maps=1, objects=64, views=2)
    return replace(observable, compute=replace(observable.compute, images=images))


def shrink(module, monkeypatch):
    """Let a script run its own experiments for a few steps of a few seeds."""
    whole = getattr(module, "experiments", None)
    if whole is None:
        return

    def shrunk(experiment):
        if not isinstance(experiment.training, Training):
            return experiment
        schedule = experiment.training.schedule
        if schedule.spacing == "explicit":
            schedule = Schedule(spacing="explicit", steps=STEPS)
        steps = min(max(STEPS), experiment.training.steps)
        small = {"steps": steps, "seeds": 2, "batch_size": 4, "evaluation_samples": 8}
        training = replace(experiment.training, schedule=schedule, **small)
        return replace(
            experiment,
            training=replace(training, observables=tuple(map(on_few_images, training.observables))),
        )

    def few(*arguments):
        made = whole(*arguments)
        if isinstance(made, dict):
            return {name: shrunk(experiment) for name, experiment in made.items()}
        return tuple(shrunk(experiment) for experiment in made)

    monkeypatch.setattr(module, "experiments", few)
    for name, values in FEW.items():
        if hasattr(module, name):
            monkeypatch.setattr(module, name, values)
    monkeypatch.setattr("vitdyn.experiments.side_by_side.number_of_workers", lambda *_, **__: 1)
    monkeypatch.setattr("vitdyn.claims.representations.ORDERED_STEPS", STEPS)
    monkeypatch.setattr(module, "ORDERED_STEPS", STEPS, raising=False)
    monkeypatch.setattr("vitdyn.claims.landscape.PLACES", 5)


def options_of(module, folder, **flags):
    kind = getattr(module, "Options", FigureOptions)
    return kind(out=folder / "figures", results=folder / "results", **flags)


@pytest.mark.parametrize("name", RUN)
def test_a_script_simulates_prints_and_draws(name, tmp_path, monkeypatch, capsys):
    module = load(name)
    shrink(module, monkeypatch)
    module.main(options_of(module, tmp_path))
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        f"{name}.{kind}" for kind in ("csv", "pdf", "png")
    ]
    printed = capsys.readouterr().out
    assert "---" in printed and f"{name}.pdf" in printed

    def same_numbers(drawing, stem):
        with stem.with_name(f"{stem.name}.csv").open(encoding="utf-8", newline="") as file:
            assert [tuple(row) for row in csv.reader(file)][1:] == drawing.table()
        return stem

    monkeypatch.setattr(
        "vitdyn.experiments.store.run", lambda *_, **__: pytest.fail("--redraw must not simulate")
    )
    monkeypatch.setattr(module, "save_figure", same_numbers)
    module.main(options_of(module, tmp_path, redraw=True))


@pytest.mark.parametrize("name", TRAINED)
def test_redraw_without_results_says_so_in_one_line(name, tmp_path, complaint):
    module = load(name)
    with complaint("redraw", "run without --redraw first"):
        module.main(options_of(module, tmp_path, redraw=True))
    assert not (tmp_path / "figures").exists()


def test_the_command_line_ends_without_a_traceback(tmp_path, monkeypatch, capsys):
    script = SIMS / "02_masked_reconstruction.py"
    folders = ["--results", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(script), "--redraw", *folders])
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(str(script), run_name="__main__")
    assert leaving.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("02_masked_reconstruction.py: redraw = ")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_costs_and_stays_short(name):
    text = (SIMS / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 120
    assert all(word in load(name).__doc__ for word in ("Figure", "Claims:", "Run:", "two cores", "GPU"))


@pytest.mark.parametrize("name", ["02_masked_reconstruction", "03_contrastive"])
def test_figures_and_claims_share_their_runs(name):
    from vitdyn.claims import CLAIMS

    checked = {run.key for claim in CLAIMS for case in claim.cases("quick") for run in case.runs}
    assert {experiment.key for experiment in load(name).experiments("quick")} <= checked


def test_photographs_can_be_segmented_otherwise(tmp_path, monkeypatch):
    module = load("04_photograph")
    shrink(module, monkeypatch)
    module.main(options_of(module, tmp_path, first="chelsea", second="rocket", segments="slic"))
    assert (tmp_path / "figures" / "04_photograph.png").is_file()


def test_the_default_segments_can_be_reconstructed():
    module = load("04_photograph")
    labels = [module.segments(module.picture(name), "felzenszwalb") for name in ("astronaut", "coffee")]
    sizes = PatchLayout.from_labels(labels, patch_size=module.PATCH).sizes
    assert sizes[sizes > 0].min() >= 3


def test_scales_exclude_each_other(complaint):
    assert (FigureOptions().scale, FigureOptions(full=True).scale) == ("quick", "full")
    with complaint("full"):
        FigureOptions(quick=True, full=True)


def test_quick_figures_train_a_part():
    layout = PatchLayout.from_sizes([5, 3])
    whole = Training(
        generator=PatchGenerator(layout=layout), objective=MaskedReconstruction(), steps=50, seeds=3
    )
    flow = MeanField(sizes=AreaSizes.of(layout))
    runs = {spec: Experiment(name="run", training=spec) for spec in (whole, flow)}
    assert FigureOptions().few(runs, steps=9) == FigureOptions(full=True).few(runs, steps=9) == runs
    part = FigureOptions(quick=True).few(runs, steps=9)
    shorter = replace(whole, steps=9, seeds=(0, 1), schedule=Schedule(frames=6))
    assert part == {whole: replace(runs[whole], training=shorter), flow: runs[flow]}
    assert FigureOptions(quick=True).few(part, steps=30) == part


def test_tables_align():
    assert text_table(("name", "value"), [("a", 1.0), ("longer", 2)]).splitlines() == [
        "name    value", "-------------", "a       1.000", "longer  2",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("objective", [MaskedReconstruction(), Contrastive()], ids=["mae", "cl"])
def test_patch_area_attention_is_the_mean_over_samples_that_hide_the_patch(objective, content):
    layout = PatchLayout.from_sizes([[6, 4, 1], [7, 4]], seed=2)
    training = Training(
        generator=PatchGenerator(layout=layout), objective=objective, steps=4, batch_size=6, seeds=(1, 4),
        content_queries=content, precision="float64",
    )  # fmt: skip
    trajectory = simulate(training)
    found = patch_area_attention(trajectory, training, samples=24)

    blocks = {
        name[len("final_") :]: trajectory[name] for name in trajectory.dataset if name.startswith("final_")
    }
    model = Correlations(**{name: torch.from_numpy(values.to_numpy()) for name, values in blocks.items()})
    source = BatchSource(training.generator, objective, (1, 4), 24, None, torch.float64, torch.device("cpu"))
    batch, (visible, *_) = source.evaluation(5, 24)
    maps = attend(model, batch, visible)
    for seed in range(2):
        for cluster, areas in enumerate(layout.area_of_patch):
            for query in range(layout.patches):
                drawn = [
                    [
                        float(maps[seed, b, query, visible[seed, b].numpy() & (areas == area)].sum())
                        for area in range(3)
                    ]
                    for b in range(24)
                    if batch.cluster[seed, b] == cluster
                    and not visible[seed, b, query]
                    and (visible[seed, b].numpy() & (areas == areas[query])).any()
                ]
                expected = np.mean(drawn, 0) if drawn else np.full(3, np.nan)
                expected = np.where(layout.sizes[cluster] > 0, expected, np.nan)
                np.testing.assert_allclose(found[seed, cluster, query], expected, rtol=1e-10)
    assert np.isnan(found[:, 0, layout.area_of_patch[0] == 2]).all()


def test_patch_area_attention_needs_the_final_state(complaint):
    training = Training(
        generator=PatchGenerator(layout=PatchLayout.from_sizes([5, 3])),
        objective=MaskedReconstruction(),
        steps=1,
        seeds=1,
    )
    with complaint("trajectory", "keep_final_state"):
        patch_area_attention(simulate(training, runtime=Runtime(keep_final_state=False)), training)
