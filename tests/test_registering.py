"""One file of the user's is enough: an objective, a distribution, an optimizer, for JSON, store and command line."""

from dataclasses import replace

import numpy as np
import pytest

import vitdyn as vd
from vitdyn import cli
from vitdyn.cli import catalogue
from vitdyn.data import DISTRIBUTIONS
from vitdyn.dynamics import OPTIMIZERS, simulate_grid
from vitdyn.objectives import OBJECTIVES

pytestmark = pytest.mark.usefixtures("registering")

PAPER = '''"""What is new in my paper."""

from dataclasses import dataclass

import numpy as np
import vitdyn as vd


@vd.register
@dataclass(frozen=True, kw_only=True)
class Quartic(vd.Objective):
    """The fourth power of the error at masked patches."""

    name, family = "quartic", "generative"
    mask_ratio: float = 0.5

    def loss(self, forward):
        error = (forward.outputs() - forward.patches()).pow(4).sum(-1)
        return (error * ~forward.views[0]).sum((1, 2)) / forward.batch.count

    def default_learning_rate(self, layout):
        return 4.0 * layout.clusters


@vd.register
@dataclass(frozen=True, kw_only=True)
class Cubed(vd.Uniform):
    """The third power of a uniform number."""

    def from_uniform(self, uniform):
        return self.low + (self.high - self.low) * uniform**3


@vd.register
@dataclass(frozen=True, kw_only=True)
class SignDescent(vd.GradientDescent):
    """A step of one length whatever the gradient."""

    def step(self, correlations, gradient, state, count):
        correlations.map(lambda block, part: block.sub_(part.sign(), alpha=self.learning_rate), gradient)
'''
SMALL = ["--patches", "16", "--seeds", "1", "--steps", "4", "--frames", "3"]


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "my_paper.py"
    path.write_text(PAPER)
    return path


def run(*arguments, capsys):
    status = cli.main([*map(str, arguments)])
    return status, capsys.readouterr()


def test_it_runs_from_the_command_line_and_is_found_again_by_store_and_json(paper, tmp_path, capsys):
    asked = [
        "run",
        "quartic",
        "--distribution",
        "cubed",
        "--optimizer",
        "sign-descent",
        "--learning-rate",
        "0.1",
    ]
    status, said = run("--module", paper, *asked, *SMALL, "--out", tmp_path, capsys=capsys)
    assert (status, said.err.count("Error")) == (0, 0)
    (file,) = tmp_path.glob("quartic-*.nc")
    found = vd.Trajectory.load(file)
    experiment = vd.Experiment.from_json(found.dataset.attrs["experiment"])
    training = experiment.training
    assert [
        type(part).__name__ for part in (training.objective, training.generator.latents, training.optimizer)
    ] == [
        "Quartic",
        "Cubed",
        "SignDescent",
    ]
    assert experiment.key in file.name
    assert vd.ResultStore(tmp_path, redraw=True)(experiment)["loss"].equals(found["loss"])
    assert vd.Experiment.from_json(experiment.to_json()) == experiment


def test_cells_of_a_grid_are_runs(paper, tmp_path, capsys):
    cli.modules.import_modules([str(paper)])
    training = vd.Training(
        generator=vd.PatchGenerator(
            layout=vd.PatchLayout.from_sizes([9, 4, 3]), latents=DISTRIBUTIONS["cubed"]()
        ),
        objective=OBJECTIVES["quartic"](),
        steps=3,
        seeds=2,
    )
    cells = [training, replace(training, objective=OBJECTIVES["quartic"](mask_ratio=0.25))]
    for cell, together in zip(cells, simulate_grid(cells), strict=True):
        assert together.dataset.drop_attrs().equals(vd.simulate(cell).dataset.drop_attrs())


def test_it_is_listed_and_has_help(paper, capsys):
    status, said = run("list", "--module", paper, capsys=capsys)  # before the command or after it
    assert status == 0
    for line in (
        "  quartic             The fourth power of the error at masked patches.",
        "  cubed               The third power of a uniform number.",
        "  sign-descent        A step of one length whatever the gradient.",
    ):
        assert line in said.out.splitlines()
    with pytest.raises(SystemExit):
        run(f"--module={paper}", "run", "quartic", "--help", capsys=capsys)
    assert "--mask-ratio" in capsys.readouterr().out
    assert catalogue.objectives()[-1].load() is OBJECTIVES["quartic"]


def test_what_it_needs_is_asked_for(paper, tmp_path, capsys):
    status, said = run(
        "--module", paper, "run", "quartic", "--optimizer", "sign-descent", *SMALL, capsys=capsys
    )
    assert status == 2 and "learning_rate = None: sign-descent has no default: give one" in said.err


def test_a_field_that_an_option_of_the_command_would_set_too_is_refused(paper, capsys):
    paper.write_text(PAPER.replace("    mask_ratio: float = 0.5", "    clusters: int = 8"))
    status, said = run("--module", paper, "run", "quartic", *SMALL, capsys=capsys)
    assert status == 2 and "the field clusters has the name of an option" in said.err


def test_a_module_by_its_dotted_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "second.py").write_text(PAPER)
    monkeypatch.chdir(tmp_path)
    assert run("--module", "papers.second", "list", capsys=capsys)[0] == 0
    assert OBJECTIVES["quartic"].__module__ == "papers.second"


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("missing.py", None, "no such file"),
        ("", None, "no such file"),
        ("my-paper.py", PAPER, "must have the name of a module"),
        ("json.py", PAPER, "json is the name of another module: rename the file"),
        ("broken.py", "def f(:", "cannot be imported (SyntaxError"),
        ("raising.py", "raise RuntimeError('two\\nlines')", "cannot be imported (RuntimeError: two lines)"),
        ("leaving.py", "import sys; sys.exit(3)", "cannot be imported (SystemExit: 3)"),
        ("needing.py", "import no_such_library", "No module named 'no_such_library'"),
        (
            "taken.py",
            PAPER.replace('"quartic"', '"mae"'),
            "is that of MaskedReconstruction: take another one",
        ),
    ],
)
def test_a_module_that_is_none_is_refused_in_one_line(name, text, remedy, tmp_path, capsys):
    if text is not None:
        (tmp_path / name).write_text(text)
    status, said = run("--module", tmp_path / name if name else "", "list", capsys=capsys)
    assert status == 2
    assert remedy in said.err and said.err.count("\n") == 1


def test_two_files_of_one_name_are_refused(paper, tmp_path, capsys):
    assert run("--module", paper, "list", capsys=capsys)[0] == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "my_paper.py").write_text(PAPER)
    status, said = run("--module", tmp_path / "other" / "my_paper.py", "list", capsys=capsys)
    assert status == 2 and "my_paper is the name of another module" in said.err


def test_what_cannot_be_registered(complaint):
    class Plain(vd.Objective):
        name, family = "plain", "generative"

        def loss(self, forward):
            return forward.outputs().sum((1, 2, 3))

    class Undecorated(vd.MaskedReconstruction):
        """Its field is none, for want of a decorator."""

        name = "undecorated"
        delta: float = 1.0

    for kind, field, remedy in (
        (Undecorated, "kind", "must be a dataclass"),
        (np.ndarray, "kind", "a Claim, or the class of an objective"),
        (vd.CLAIMS[0], "name", "is that of Claim: take another one"),
        (Plain(), "kind", "the class of an objective"),
        (Plain, "kind", "must be a dataclass"),
        (type("Same", (vd.MaskedReconstruction,), {}), "name", "is that of MaskedReconstruction"),
        (type("Odd", (vd.MaskedReconstruction,), {"name": "My Objective"}), "name", "small letters"),
    ):
        with complaint(field, remedy):
            vd.register(kind)
    assert vd.register(type("HeavyTail", (vd.Uniform,), {})) is DISTRIBUTIONS["heavy-tail"]
    assert vd.register(type("A", (vd.Adam,), {}), name="adam-w") is OPTIMIZERS["adam-w"]


CLAIM = """
from dataclasses import replace
import vitdyn as vd

mae = next(claim for claim in vd.CLAIMS if claim.id == "MAE-PHASE-ONE")
cases = mae.cases("quick")[1:]
vd.register(replace(mae, id="MINE", note="", statement="Words.", cases=lambda scale: cases, controls=lambda scale: ()))
"""


def test_a_claim_is_listed_and_judged_from_the_command_line(tmp_path, capsys):
    (tmp_path / "my_claim.py").write_text(CLAIM)
    asked = ["check", "--claims", "MINE", "--quick", "--results", tmp_path, "--html", tmp_path / "page.html"]
    status, said = run("--module", tmp_path / "my_claim.py", *asked, capsys=capsys)
    assert status == 0 and "1 supported, 0 refuted" in said.out
    assert "MINE" in (tmp_path / "page.html").read_text()
    assert [(each.name, each.text) for each in catalogue.claims()][-1] == ("MINE", "Words.")
    assert vd.CLAIMS[-1].id != "MINE"
