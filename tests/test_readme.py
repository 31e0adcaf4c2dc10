"""The README's Python runs as it stands, from the first block to the last (exact)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
