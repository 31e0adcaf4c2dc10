"""The README's Python runs as it stands, from the first block to the last (exact)."""

import re
from pathlib import Path

import pytest

from vitdyn.experiments.sweep_file import read_sweep

ROOT = Path(__file__).parents[1]


def test_its_file_of_toml_is_its_sweep_of_python(tmp_path):
    blocks = {
        word: re.findall(rf"```{word}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
        for word in ("python", "toml")
    }
    (tmp_path / "masks.toml").write_text(blocks["toml"][0])
    space = {}
    layout, training, sweep = (
        next(line for block in blocks["python"] for line in block.splitlines() if line.startswith(name))
        for name in ("layout =", "base =", "sweep =")
    )
    exec(
        "\n".join(
            ("import vitdyn as vd", layout, "generator = vd.PatchGenerator(layout=layout)", training, sweep)
        ),
        space,
    )
    assert list(read_sweep(tmp_path / "masks.toml")) == list(space["sweep"])


@pytest.mark.usefixtures("registering")
def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    space = {"__name__": "readme"}
    for block in blocks:
        exec(block, space)
    assert len(blocks) >= 7
    assert {path.name for path in tmp_path.glob("learned.*")} == {"learned.pdf", "learned.png", "learned.csv"}
    loss = space["steep"]["loss"]
    assert space["steep"]["excess_loss"].isnull().all()
    assert (loss[-1] < 0.5 * loss[0]).all()
    assert space["watched"]["spread"].dims == ("frame", "seed")
    assert [verdict.status for verdict in space["verdicts"]] == ["SUPPORTED", "REFUTED"]
    assert [verdict.status for verdict in space["scaled_verdicts"]] == ["SUPPORTED", "REFUTED"]
    assert (space["values"].argmax("gains_1") % 5 == 0).all()


def test_its_links_and_its_picture_are_there():
    targets = re.findall(r"\]\(([^)#:]+)[)#]", (ROOT / "README.md").read_text())
    assert len(targets) > 8
    assert not [target for target in targets if not (ROOT / target).is_file()]
