"""The README's Python runs as it stands, from the first block to the last (exact)."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    space = {"__name__": "readme"}
    for block in blocks:
        exec(block, space)
    assert len(blocks) >= 5
    trained, loss = space["trajectory"], space["trajectory"]["loss"]
    assert trained["excess_loss"].isnull().all()
    assert (loss[-1] < 0.5 * loss[0]).all()
