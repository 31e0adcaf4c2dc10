"""Figure 30: what is learned where the theory is silent: a local area as large as the global one, and larger.

P = 64 with areas C_1 = 12, C_2 from 4 to 44, and others of four patches. Left: contrast (two clusters) gives all its
attention to the largest area, which is area 2 right of C_2 = C_1; at the tie chance decides, seed by seed. Middle:
masked reconstruction (one cluster) learns every area at any sizes. Right: how much faster a masked patch of area 1
drops area 2 than it turns to its own area, after four steps, and as the drives at Q = 0 have it; above 1 it drops
area 2 first, although area 2 is a local one.

Claims: SIZES-LARGEST, SIZES-AREA and SIZES-LEAD, outside their checked runs.
Run:    python sims/30_sizes.py [--quick | --full] [--redraw]
Takes:  half a minute on two cores (--full 32 seeds); on a GPU: not measured.
"""

import numpy as np

from vitdyn.claims.sizes import first_moves_experiment, sizes_experiment
from vitdyn.data import PatchLayout, Uniform
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.questions import Panel, Series, draw_panels, final_attention, table_of_ends
from vitdyn.plotting.style import BLACK, BLUE, GREEN, VERMILLION
from vitdyn.theory import reconstruction_drives
from vitdyn.trajectory import Trajectory

GLOBAL, SECOND = 12, (4, 8, 12, 16, 24, 32, 44)
SEEDS = {"quick": 4, "full": 32}
STEPS = 400
Case = tuple[str, int]


def sizes(second: int) -> tuple[int, ...]:
    """Return the sizes of the areas of 64 patches."""
    return GLOBAL, second, *[4] * ((64 - GLOBAL - second) // 4)


def experiments(scale: str) -> dict[Case, Experiment]:
    """Return contrast, reconstruction, and its first moves, at each size of the second area."""
    seeds, found = SEEDS[scale], {}
    for second in SECOND:
        given = {"steps": STEPS, "seeds": seeds}
        found["cl", second] = sizes_experiment(Contrastive(), sizes(second), clusters=2, **given)
        found["mae", second] = sizes_experiment(MaskedReconstruction(), sizes(second), clusters=1, **given)
        found["first", second] = first_moves_experiment(sizes(second), seeds=seeds)
    return found


def lead(trajectory: Trajectory) -> np.ndarray:
    """Return |φ_2|/φ_1 of queries of area 1, one value for each seed."""
    moved = trajectory.final["feature_position"].sel(statistic="mean").isel(cluster=0, query_area=0)
    return (-moved.isel(key_area=1) / moved.isel(key_area=0)).to_numpy()


def predicted_lead(second: int) -> float:
    """Return |φ_2|/φ_1 of queries of area 1 at Q = 0."""
    drives = reconstruction_drives(PatchLayout.from_sizes(sizes(second)), Uniform())[0, 0]
    return float(-drives[1] / drives[0])


def panels(found: dict[Case, Trajectory]) -> list[Panel]:
    """Return what contrast collapses onto, what reconstruction learns, and what its patches drop first."""
    x = np.array(SECOND, dtype=float)

    def series(words: str, values: list[np.ndarray], colour: str, marker: str = "o") -> Series:
        return Series(words=words, x=x, values=np.stack(values), colour=colour, marker=marker)

    contrast, learned = ([found[name, second] for second in SECOND] for name in ("cl", "mae"))
    ends = [
        series(f"to area {area + 1}", [final_attention(one, key=area) for one in contrast], colour, marker)
        for area, colour, marker in ((0, BLUE, "o"), (1, VERMILLION, "s"))
    ]
    own = [
        series(words, [final_attention(one, area) for one in learned], colour, marker)
        for words, area, colour, marker in (
            ("of area 1", 0, BLUE, "o"),
            ("of area 2", 1, VERMILLION, "s"),
            ("of the others", slice(2, None), GREEN, "^"),
        )
    ]
    moves = series("four steps", [lead(found["first", second]) for second in SECOND], BLUE)
    line = Series(
        words="drives at Q = 0",
        x=x,
        values=np.array([[predicted_lead(second)] for second in SECOND]),
        colour=BLACK,
        marker="",
        dashes="--",
    )
    across, tie = "patches of area 2", [(float(GLOBAL), "C_2 = C_1")]
    return [
        Panel(title="contrast", across=across, up="attention of all queries", series=ends, lines=tie),
        Panel(title="reconstruction", across=across, up="attention to the own area", series=own, lines=tie),
        Panel(title="first moves", across=across, up="|φ_2| over φ_1, queries of area 1",
              series=[moves, line], lines=tie, limits=None),
    ]  # fmt: skip


def draw(made: list[Panel]) -> Drawing:
    """Draw the figure."""
    return draw_panels(made)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    made = panels(options.store.named(experiments(options.scale)))
    print(table_of_ends(made))
    print(save_figure(draw(made), options.out / "30_sizes"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
