"""The map of regimes: what its tiles say, and the objectives that its axes name (exact)."""

from vitdyn.experiments.family_axes import AXES
from vitdyn.observables.learned import LearnedRegime
from vitdyn.plotting.regimes import REGIME_COLOURS, RegimeGrid, draw_regimes

ENDS = LearnedRegime("local", True), LearnedRegime("local", False), LearnedRegime("global", True)


def grid(rows, **options):
    cells = {(row, "0.3"): (*ENDS, ENDS[0]) for row in rows}
    return RegimeGrid(title="t", across="Δ", columns=["-0.3", "0.3"], rows=rows, cells=cells, **options)


def test_a_tile_has_a_stripe_for_each_seed_and_the_table_its_shares():
    whole = grid(["mae", "cl"], groups={"both": ["mae", "cl"]})
    drawing = draw_regimes([whole, *(grid([name]) for name in "abc")])
    axes = drawing.figure.axes
    assert [len(each.patches) for each in axes] == [8, 4, 4, 4]
    assert [text.get_text() for text in axes[1].texts] == ["L", "G"]
    hatched = [patch.get_hatch() is not None for patch in axes[1].patches]
    assert hatched == [False, False, True, False]
    assert drawing.rows[:3] == [
        ("a", "mae, 0.3: local", 1, "", 0.5, "", ""),
        ("a", "mae, 0.3: local, still moving", 1, "", 0.25, "", ""),
        ("a", "mae, 0.3: global", 1, "", 0.25, "", ""),
    ]
    assert {row[0] for row in drawing.rows} == set("abcd")


def test_regimes_have_colours_and_letters_of_their_own():
    assert (
        len(set(REGIME_COLOURS.values())) == len({kind[0] for kind in REGIME_COLOURS}) == len(REGIME_COLOURS)
    )


def test_an_axis_holds_its_other_fields_fixed():
    for axis in AXES:
        for row, (field, others) in axis.rows.items():
            made = [axis.objective(row, value) for value in axis.values]
            own = [getattr(each, field) for each in made]
            assert len(set(own)) == len(own) and made[0].name == row.partition(",")[0]
            assert all(getattr(each, name) == value for each in made for name, value in others.items())
