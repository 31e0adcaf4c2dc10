"""``--model NAME`` on the command line: a model's fields are options, a result names it, claims are judged on it."""

from dataclasses import dataclass

import pytest

import vitdyn as vd
from vitdyn import cli
from vitdyn.cli.check import Check
from vitdyn.cli.model import model_of, with_model
from vitdyn.cli.run import RunOptions

pytestmark = pytest.mark.usefixtures("registering")

MINE = '''"""What is new in my paper."""

from dataclasses import dataclass

import vitdyn as vd


@vd.register
@dataclass(frozen=True, kw_only=True)
class ScaledValues(vd.OneLayer):
    """The theory's layer with a trained value for each area."""

    pace: float = 0.1
    """How fast values move beside attention."""

    def initial(self, generator, streams, like):
        layer = super().initial(generator, streams, like)
        return vd.Parameters(**layer.named(), gains=like.new_zeros(layer.seeds, generator.feature_count))

    def outputs(self, parameters, batch, visible):
        values = 1 + self.pace * parameters.gains
        return values[:, None, None] * super().outputs(parameters, batch, visible)


@vd.register
class Averages(vd.Model):
    """Every query is given the mean of what is shown, times a trained factor."""

    def initial(self, generator, streams, like):
        return vd.Parameters(factor=like.new_ones(len(streams.seeds), generator.layout.patches))

    def outputs(self, parameters, batch, visible):
        mean = (batch.contents() * visible[..., None]).mean(2, keepdim=True)
        return parameters.factor[:, None, :, None] * mean
'''
SMALL = ["--patches", "16", "--seeds", "2", "--steps", "3", "--frames", "3"]
HEADS = ["--model", "transformer", "--heads", "2", "--initial-scale", "0.1"]


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "my_model.py"
    path.write_text(MINE)
    return ["--module", str(path)]


def found_in(folder, name):
    """Return what a result says, and the model that it was trained with."""
    (file,) = folder.glob(f"{name}-*.nc")
    trajectory = vd.Trajectory.load(file)
    experiment = vd.Experiment.from_json(trajectory.dataset.attrs["experiment"])
    assert experiment.key in file.name and experiment.name == name
    assert vd.ResultStore(folder, redraw=True)(experiment)["loss"].equals(trajectory["loss"])
    return trajectory, experiment.training.model


def test_a_users_model_is_trained_kept_and_listed(mine, tmp_path, capsys):
    given = ["run", "mae", "--model", "scaled-values", "--pace", "0.2", *SMALL, "--out", str(tmp_path)]
    assert cli.main([*mine, *given]) == 0
    assert "learned  " in capsys.readouterr().out
    trajectory, model = found_in(tmp_path, "mae-scaled-values")
    assert (type(model).__name__, model.pace) == ("ScaledValues", 0.2)
    assert trajectory["final_gains"].shape == (2, 4)
    assert cli.main([*mine, "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  scaled-values       The theory's layer with a trained value for each area." in lines
    assert lines[lines.index("models") + 1].startswith("  one-layer           The theory's layer: ")
    with pytest.raises(SystemExit):
        cli.main([*mine, "run", "mae", "--model=scaled-values", "--help"])
    helped = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--pace FLOAT How fast values move beside attention. (default: 0.1)" in helped


def test_a_model_without_attention_has_its_page(mine, tmp_path, capsys):
    given = ["run", "mae", "--model", "averages", *SMALL, "--out", str(tmp_path)]
    assert cli.main([*mine, *given]) == 0
    assert "learned" not in capsys.readouterr().out
    found_in(tmp_path, "mae-averages")
    (page,) = tmp_path.glob("mae-averages-*.csv")
    panels = {line.split(",")[0] for line in page.read_text().splitlines()[1:]}
    assert panels == {"a", "c"}, "error and loss; there is no attention to draw"


def test_a_transformer_by_its_fields(tmp_path):
    fields = ["--layers", "2", "--residual", "--model-temperature", "0.5"]
    given = ["run", "cl", *HEADS, *fields, "--temperature", "2", *SMALL, "--out", str(tmp_path)]
    assert cli.main(given) == 0
    trajectory, model = found_in(tmp_path, "cl-transformer")
    assert model == vd.Transformer(heads=2, layers=2, residual=True, temperature=0.5, initial_scale=0.1)
    assert trajectory.spec["training"]["objective"]["temperature"] == 2


def test_one_option_is_one_thing_whatever_is_trained():
    """A field whose name is any objective's or a command's goes by "model_" and its name, in each command."""
    run = with_model(RunOptions, "transformer", [Check])
    check = with_model(Check, "transformer", [RunOptions])
    assert run._names == check._names
    assert {option for option in run._names if option.startswith("model_")} == {
        "model_temperature",
        "model_content_queries",
    }
    assert model_of(check(model="transformer", heads=4, model_temperature=2.0)) == vd.Transformer(
        heads=4, temperature=2.0
    )
    assert with_model(RunOptions, "one-layer") is RunOptions
    assert model_of(RunOptions()) == vd.OneLayer()


def test_claims_are_judged_on_it_and_what_is_not_is_told(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr("vitdyn.claims.check", lambda claims, runner, **_: asked.extend(claims) or ())
    given = ["check", *HEADS, "--results", str(tmp_path)]
    assert cli.main([*given, "--claims", "MAE-AREA", "CL-GLOBAL"]) == 3
    model = vd.Transformer(heads=2, initial_scale=0.1)
    assert [claim.id for claim in asked] == ["MAE-AREA", "CL-GLOBAL"]
    cases = [case for claim in asked for case in (*claim.cases("quick"), *claim.controls("quick"))]
    assert {run.training.model for case in cases for run in case.runs} == {model}
    assert cli.main(given) == 3
    told = capsys.readouterr().out
    assert "claim = 'MAE-TIME': is not judged on transformer, heads=2, initial_scale=0.1: run" in told
    named = {line.split("'")[1] for line in told.splitlines() if line.startswith("claim = ")}
    assert named.isdisjoint(claim.id for claim in asked)
    assert named.union(claim.id for claim in asked) == {claim.id for claim in vd.CLAIMS}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["run", "mae", "--model", "lstm"], "model = 'lstm': must be one of one-layer, transformer"),
        (["run", "mae", "--model="], "model = '': must be one of one-layer, transformer"),
        (["run", "mae", "--heads", "2"], "Unrecognized options: --heads"),
        (["run", "mae", *HEADS, "--key-dimension", "3"], "key_dimension = 3: must be a multiple of the 2 heads"),
        (["run", "mae", *HEADS, "--content-queries"], "content_queries = True: is of the theory's layer"),
        (["run", "mae", *HEADS, "--metrics", "own_area_curvature"], "needs closed forms, which transformer lacks"),
        (["check", "--claims", "MAE-LOSS", *HEADS], "claim = 'MAE-LOSS': is not judged on transformer"),
        (["check", "--claims", "MAE-TIME", *HEADS], "which alone has a model, but mean field"),
    ],
)  # fmt: skip
def test_a_wrong_model_is_refused_on_one_line_before_work_starts(given, told, tmp_path, capsys):
    place = ["--results" if given[0] == "check" else "--out", str(tmp_path / "out")]
    assert cli.main([*given, *place]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_registered(complaint):
    @dataclass(frozen=True, kw_only=True)
    class Bare(vd.OneLayer):
        width: int

    with complaint("Bare.width", "must have a default, which the command line offers"):
        vd.register(Bare)
    with complaint("name", "is that of OneLayer: take another one"):
        vd.register(type("OneLayer", (vd.OneLayer,), {}))
    with complaint("kind", "or the class of an objective, a distribution, an optimizer or a model"):
        vd.register(vd.Transformer())
    with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):
        dataclass(kw_only=True)(type("Mutable", (vd.Model,), {}))
    again = type("Same", (vd.OneLayer,), {})
    assert vd.register(again) is vd.register(again)
