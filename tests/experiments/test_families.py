"""The table of the families: what a user's own objective needs to be in it, and what its columns hold (exact)."""

import numpy as np
import pytest

from vitdyn import cli
from vitdyn.experiments import ResultStore
from vitdyn.experiments.families import FamilyRow, at_pace, family_run, layout_of_gap, objectives_by_name
from vitdyn.objectives import DINO, DeepCluster, SwAV
from vitdyn.observables import attention_moved, learned_regime
from vitdyn.theory import Regime

SIAMESE = '''"""SimSiam (Chen & He, 2021), as a user writes it."""

from dataclasses import dataclass

import vitdyn as vd
from torch.nn.functional import cosine_similarity
from vitdyn.objectives.parts import identity_map


@vd.register
@dataclass(frozen=True, kw_only=True)
class Siamese(vd.Objective):
    """Cosine of one view, through a linear predictor, and the other, which has no gradient."""

    name, family, view_count = "siamese", "self-distillation", 2
    predictor_rate: float = 0.05

    def initial_state(self, correlations, streams):
        return {"predictor": identity_map(correlations, streams)}

    def optimizers(self):
        return {"predictor": vd.GradientDescent(learning_rate=self.predictor_rate)}

    def loss(self, forward):
        views = forward.embeddings(0), forward.embeddings(1)
        pairs = zip(views, reversed(views), strict=True)
        likeness = [cosine_similarity(one @ forward.state["predictor"], two.detach(), dim=-1) for one, two in pairs]
        return -0.5 * sum(likeness).mean(1)

    def default_learning_rate(self, layout):
        return 16.0 * layout.patches * layout.clusters
'''


@pytest.mark.usefixtures("registering")
def test_a_user_s_own_objective_is_in_the_table(tmp_path, capsys):
    file = tmp_path / "siamese_paper.py"
    file.write_text(SIAMESE)
    assert len(SIAMESE.splitlines()) <= 35
    command = ["--module", str(file), "families", "--quick", "--objectives", "siamese", "mae"]
    command += ["--steps", "60", "--results", str(tmp_path / "results")]
    assert cli.main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("4 runs, 4 of them not kept yet: about ")
    assert [line.split()[:3] for line in said[3:]] == [
        [name, family, gap]
        for name, family in (("mae", "generative"), ("siamese", "self-distillation"))
        for gap in ("-0.3", "+0.3")
    ]
    assert cli.main(command) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[0].startswith("4 runs, 0 of them") and again[1:] == said[1:]
    assert cli.main([*command[2:5], "no-such"]) == 2
    assert "objectives = 'no-such'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["pace=-1", "pace=nan", "seed=-3", "steps=0"])
def test_an_option_without_meaning_is_refused_by_its_name(option, tmp_path, capsys):
    assert cli.main(["families", f"--{option}", "--results", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"vitdyn: {option.partition('=')[0]} = ") and not said.out


def test_a_gap_is_that_of_the_layout():
    for gap in (-0.3, 0.1, 0.5):
        layout = layout_of_gap(gap)
        size = layout.sizes[0, 0] / 64
        assert Regime(
            patches=64, kappa_c=1 + np.log(size) / np.log(64), kappa_s=0.4
        ).information_gap == pytest.approx(gap, abs=0.03)


def test_a_row_reads_the_end_and_half_the_way_there(tmp_path):
    objective = objectives_by_name(["cl"])["cl"]
    trajectory = ResultStore(tmp_path)(family_run(objective, 0.3, steps=40, scale="quick"))
    row, moved = FamilyRow.of(trajectory), attention_moved(trajectory)
    steps = trajectory["step"].to_numpy().tolist()
    for seed in range(2):
        frame = steps.index(row.half_time[seed])
        assert moved[frame, seed] >= moved[-1, seed] / 2 > moved[frame - 1, seed]
    assert row.regimes == learned_regime(trajectory) and row.regime == str(row.regimes[0])
    assert np.array_equal(row.metrics["rank_me"], trajectory.final["rank_me"])


def test_half_of_the_way_is_the_last_time_that_it_is_passed(tmp_path, monkeypatch):
    trajectory = ResultStore(tmp_path)(
        family_run(objectives_by_name(["cl"])["cl"], 0.3, steps=3, scale="quick")
    )
    to_and_fro = np.array([[0.0, 1.0], [0.9, 0.9], [0.1, 0.8], [1.0, 1.0]])
    monkeypatch.setattr("vitdyn.experiments.families.attention_moved", lambda _: to_and_fro)
    assert FamilyRow.of(trajectory).half_time.tolist() == [3, 0]


@pytest.mark.parametrize("pace", [0.5, 2.0])
def test_all_that_moves_keeps_the_same_clock(pace):
    dino = at_pace(DINO(momentum=0.9, centre_momentum=0.8, momentum_steps=100, mask_ratio=0.3), pace)
    assert dino == DINO(
        momentum=0.9**pace, centre_momentum=0.8**pace, momentum_steps=round(100 / pace), mask_ratio=0.3
    )
    assert at_pace(SwAV(prototype_rate=0.2), pace) == SwAV(prototype_rate=0.2 * pace)
    assert at_pace(DeepCluster(period=10), pace) == DeepCluster(period=round(10 / pace))
