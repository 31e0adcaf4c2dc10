"""Drawing functions refuse what they cannot draw in one line that names the argument. Exact."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from vitdyn import pages, plotting
from vitdyn.experiments.inspection import patch_area_attention
from vitdyn.plotting import FigureOptions, gap_words
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.by_head import attention_by_head
from vitdyn.plotting.heads import draw_heads
from vitdyn.plotting.learned import draw_learning, draw_orderings
from vitdyn.plotting.photograph_gaps import draw_photograph_gaps
from vitdyn.plotting.practice import draw_practice
from vitdyn.plotting.questions import draw_panels, final_attention, table_of_ends
from vitdyn.plotting.reduced import draw_mixture, draw_phase_diagram, draw_portrait, read_curves, read_maps
from vitdyn.plotting.reduced_times import draw_collapse, draw_exponents
from vitdyn.vits import estimate_seconds, finding_table, findings, interval, value_table

NONSENSE = (None, 3, -1.5, "x", b"x", float("nan"), object(), np.zeros((2, 2)), [None], ("a",))
DOORS = [
    *(
        getattr(plotting, name)
        for name in ("draw_by_head", "draw_data", "draw_dynamics", "draw_photographs", "draw_verdicts")
    ),
    *(getattr(plotting, name) for name in ("flow_page", "save_figure", "summary_page", "verdict_table")),
    *(pages.claim_page, pages.write_claim_page),
    *(
        draw_heads,
        draw_learning,
        draw_orderings,
        draw_mixture,
        draw_phase_diagram,
        draw_portrait,
        read_curves,
    ),
    *(read_maps, draw_collapse, draw_exponents, draw_photograph_gaps, draw_practice, draw_panels),
    *(final_attention, table_of_ends, patch_area_attention, attention_by_head),
    *(estimate_seconds, finding_table, findings, value_table),
]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_nonsense_is_refused_in_one_line(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    needed = [each for each in inspect.signature(door).parameters.values() if each.default is each.empty]
    for value in NONSENSE:
        given = [value for each in needed if each.kind is not each.KEYWORD_ONLY]
        named = {each.name: value for each in needed if each.kind is each.KEYWORD_ONLY}
        with pytest.raises(ValueError, match=r"\A[^\n]+ = [^\n]*: [^\n]+\Z"):
            door(*given, **named)
    assert not list(tmp_path.iterdir())


def test_interval_takes_numbers_alone():
    assert interval([[1.0, 2.0], [3.0, 4.0]]).mean.tolist() == [2.0, 3.0]
    for value in NONSENSE[:7]:
        with pytest.raises(ValueError, match=r"\Avalues = "):
            interval(value)


def test_drawings_of_nothing_are_refused(complaint):
    for draw in (draw_orderings, draw_phase_diagram, draw_portrait):
        (first, *_) = inspect.signature(draw).parameters
        with complaint(first, "must not be empty"):
            draw([])


def test_options_of_a_figure_are_booleans_and_paths(complaint):
    assert FigureOptions(out="figures").out == Path("figures")
    for change in ({"quick": "no"}, {"redraw": 1}, {"out": None}, {"results": 3}):
        with complaint(next(iter(change))):
            FigureOptions(**change)
    with complaint("gap"):
        gap_words("wide")


def test_what_annotations_leave_open_is_left_open():
    @checked
    def function(count: int, share: float = 0.5, *, anything: object = None, names: list[str] | None = None):
        return count, share, anything, names

    assert function(np.int64(3), 1, anything=[], names=None) == (3, 1, [], None)
    with pytest.raises(ValueError, match=r"\Acount = True: must be a whole number\Z"):
        function(True)
    with pytest.raises(TypeError):
        function()
