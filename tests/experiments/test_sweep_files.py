"""Sweeps in files of TOML and of Python (exact): the same experiments as from Python, or one line of what is wrong."""

import pytest
import xarray

from vitdyn import cli
from vitdyn.data import AreaSizes, Beta, PatchGenerator, PatchLayout
from vitdyn.dynamics import Adam, Momentum, Schedule, Training
from vitdyn.experiments import Experiment, collect
from vitdyn.experiments.sweep_file import read_sweep
from vitdyn.models import Transformer
from vitdyn.objectives import DINO, Contrastive, MaskedReconstruction
from vitdyn.reduced import ExactReduction, MeanField
from vitdyn.vits import Landscape, Pretraining
from vitdyn.vits.image_sets import Digits
from vitdyn.vits.methods import Contrast, Mixture, Reconstruction
from vitdyn.vits.small_vit import SmallViT

FILE = """
name = "rates"
[training]
kind = "Training"
objective = "mae"
steps = 4
batch_size = 4
evaluation_samples = 2
seeds = 2
schedule.frames = 3
optimizer = {kind = "momentum", learning_rate = 1.0}
generator.layout.from_sizes = {sizes = [[5, 2, 2], [4, 3, 2]], seed = 3}
[axes]
objective = ["mae", "cl"]
"optimizer.learning_rate" = [0.5, 2]
"""


def from_python(objective, rate):
    layout = PatchLayout.from_sizes([[5, 2, 2], [4, 3, 2]], seed=3)
    training = Training(
        generator=PatchGenerator(layout=layout),
        objective=objective,
        optimizer=Momentum(learning_rate=rate),
        schedule=Schedule(frames=3),
        steps=4,
        batch_size=4,
        evaluation_samples=2,
        seeds=2,
    )
    return Experiment(name="rates", training=training)


def read(tmp_path, text):
    path = tmp_path / "file.toml"
    path.write_text(text)
    return read_sweep(path)


def test_a_product_is_that_of_python(tmp_path):
    cells = list(read(tmp_path, FILE))
    assert [cell.coordinates for cell in cells] == [
        {"objective": name, "learning_rate": rate} for name in ("mae", "cl") for rate in (0.5, 2)
    ]
    expected = [
        from_python(each, rate) for each in (MaskedReconstruction(), Contrastive()) for rate in (0.5, 2)
    ]
    assert [cell.experiment for cell in cells] == expected


KINDS = {
    "flow": (
        """
kind = "MeanField"
sizes.from_exponents = {patches = 1e8, kappa_c = 0.9, kappa_s = 0.3}
until = "none"
latents = {kind = "beta", alpha = 3.0}
objective = {kind = "Contrastive", temperature = 0.5}
""",
        MeanField(
            sizes=AreaSizes.from_exponents(1e8, 0.9, 0.3),
            until=None,
            latents=Beta(alpha=3.0),
            objective=Contrastive(temperature=0.5),
        ),
    ),
    "reduction": (
        'kind = "ExactReduction"\nlayout.from_sizes = {sizes = [5, 2, 2]}\nobjective = "mae"\nseeds = [3, 8]',
        ExactReduction(
            layout=PatchLayout.from_sizes([5, 2, 2]), objective=MaskedReconstruction(), seeds=(3, 8)
        ),
    ),
    "training": (
        """
kind = "Training"
generator = {layout.partition = [[0, 0, 0, 1, 2]], latents = "beta"}
objective = "dino"
optimizer = {kind = "adam", learning_rate = 0.1}
model = {kind = "transformer", layers = 2, key_dimension = "none"}
observables = ["loss", "lidar"]
""",
        Training(
            generator=PatchGenerator(layout=PatchLayout(partition=((0, 0, 0, 1, 2),)), latents=Beta()),
            objective=DINO(),
            optimizer=Adam(learning_rate=0.1),
            model=Transformer(layers=2),
            observables=("loss", "lidar"),
        ),
    ),
    "vit": (
        """
kind = "Pretraining"
method = {kind = "mixture", contrast = {temperature = 0.2}}
images = "Digits"
vit.depth = 2
""",
        Pretraining(
            method=Mixture(contrast=Contrast(temperature=0.2)), images=Digits(), vit=SmallViT(depth=2)
        ),
    ),
    "untrained": ('kind = "Pretraining"\nmethod = "none"\nsteps = 0', Pretraining(method=None, steps=0)),
    "landscape": (
        'kind = "Landscape"\ntraining = {method = "reconstruction", steps = 20}\nschedule.frames = 3',
        Landscape(training=Pretraining(method=Reconstruction(), steps=20), schedule=Schedule(frames=3)),
    ),
}


@pytest.mark.parametrize(("table", "expected"), KINDS.values(), ids=KINDS)
def test_every_kind_of_experiment(table, expected, tmp_path):
    field = next(name for name in ("batch_size", "nodes", "epsilon") if hasattr(expected, name))
    value = getattr(expected, field)
    (cell,) = read(tmp_path, f"[training]\n{table}\n[axes]\n{field} = [{value}]")
    assert cell.experiment == Experiment(name="file", training=expected)


def test_points_and_whole_paths_where_last_words_clash(tmp_path):
    text = (
        FILE[: FILE.index("[axes]")]
        + """
[[points]]
steps = 3
"schedule.frames" = 2
[[points]]
steps = 4
"schedule.frames" = 4
"""
    )
    assert [cell.coordinates for cell in read(tmp_path, text)] == [
        {"steps": 3, "frames": 2},
        {"steps": 4, "frames": 4},
    ]
    axes = '[axes]\n"objective" = ["mae"]\n"generator.layout.seed" = [1]\n"generator.layout.from_sizes.seed" = [2]'
    names = list(read(tmp_path, FILE[: FILE.index("[axes]")] + axes).axes)
    assert names == ["objective", "generator_layout_seed", "generator_layout_from_sizes_seed"]


def test_values_with_labels_of_their_own(tmp_path):
    axes = (
        '[axes.objective]\nfew = {kind = "mae", mask_ratio = 0.25}\nmost = {kind = "mae", mask_ratio = 0.75}'
    )
    cells = list(read(tmp_path, FILE[: FILE.index("[axes]")] + axes))
    assert [cell.coordinates["objective"] for cell in cells] == ["few", "most"]
    assert [cell.experiment.training.objective.mask_ratio for cell in cells] == [0.25, 0.75]


def changed(old, new):
    return lambda text: text.replace(old, new)


@pytest.mark.parametrize(
    ("change", "field", "remedy"),
    [
        (changed('["mae", "cl"]', '["mea", "cl"]'), "training.objective.kind", "simclr"),
        (changed('kind = "Training"', ""), "training.kind", "MeanField"),
        (changed('kind = "momentum", ', ""), "training.optimizer.kind", "adam"),
        (changed("steps = 4", "stpes = 4"), "Training.stpes", "has the fields"),
        (changed("steps = 4", "steps = -4"), "steps", "0 or more"),
        (changed("from_sizes", "from_size"), "training.generator.layout.from_size", "from_exponents"),
        (changed(", seed = 3", ", sede = 3"), "training.generator.layout.from_sizes", "sede"),
        (changed("seed = 3}", "seed = 3}, grid = [3, 3]"), "file", "TOML"),
        (changed("[axes]", "[axis]"), "axis", "name, training, axes, points"),
        (changed("[training]", "[axes.training]"), "training", "needs a table"),
        (lambda text: text + "[[points]]\nsteps = 3", "axes", "either"),
        (lambda text: text[: text.index("[axes]")], "axes", "either"),
        (changed('["mae", "cl"]', "[]"), "objective", "a value or more"),
        (changed('["mae", "cl"]', '["mae", "mae"]'), "objective", "twice"),
        (changed('["mae", "cl"]', '[{kind = "mae"}]'), "objective", "labels and values"),
        (changed("= [0.5, 2]", "= 2"), "learning_rate", "a sequence"),
        (changed("= [0.5, 2]", "= [nan]"), "learning_rate", "finite"),
        (changed('"optimizer.learning_rate"', '"optimizer.learning-rate"'), "axes", "letters"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change, field, remedy, tmp_path, complaint):
    text = change(FILE)
    assert text != FILE
    with complaint(field, remedy):
        _ = read(tmp_path, text)[0]


def test_the_commands_run_a_file_and_say_what_there_is(tmp_path, capsys):
    (tmp_path / "rates.toml").write_text(FILE.replace("0.5, 2", "0.5, 2, -1"))
    command = ["sweep", str(tmp_path / "rates.toml"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert cli.main([*command, "--plan-only"]) == 0
    assert not (tmp_path / "out").exists()
    assert "4 to run in 2 tasks" in capsys.readouterr().out
    assert cli.main(command) == 1, "two cells are refused"
    told = capsys.readouterr().out
    assert "4 done, 2 refused" in told
    assert "refused at objective = mae, learning_rate = -1: " in told
    (tmp_path / "rates.toml").write_text(FILE)
    assert cli.main(command) == 0
    assert "4 kept, 0 failed before, 0 refused\n0 to run" in capsys.readouterr().out
    assert cli.main(["collect", str(tmp_path / "out"), "--out", str(tmp_path / "all.nc")]) == 1
    assert "4 done, 2 refused" in capsys.readouterr().out
    with xarray.open_dataset(tmp_path / "all.nc") as written:
        assert written.drop_vars("error").equals(collect(tmp_path / "out").drop_vars("error"))


def test_a_file_of_python_has_a_sweep(tmp_path, capsys, registering):
    text = "import vitdyn as vd\nfrom test_sweep_files import from_python\n"
    text += (
        "sweep = vd.Sweep.product('rates', from_python, {'objective': (vd.Contrastive(),), 'rate': (0.5,)})"
    )
    (tmp_path / "my_rates.py").write_text(text)
    command = ["sweep", str(tmp_path / "my_rates.py"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert cli.main(command) == 0
    assert "1 done" in capsys.readouterr().out
    (tmp_path / "none.py").write_text("sweep = 3")
    assert cli.main(["sweep", str(tmp_path / "none.py"), "--out", str(tmp_path / "out")]) == 2
    assert "has no sweep" in capsys.readouterr().err
