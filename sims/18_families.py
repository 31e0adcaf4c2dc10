"""Figure 18: in which attention regime each objective of the survey's families ends, on the same data.

(a) Every listed objective as it is by default, over the information gap Δ, from Q = 0, P = 64, two clusters. A tile has
a stripe for each seed; it is hatched where attention still moves after 400 steps (120 but with --full; --quick: 30).
(b to i, --full alone) What matters in each family, at Δ = -0.3, where the global area is twice as large as a local one.
--stability also trains root seeds 1 to 9, and twice the steps at half the rate, and prints what changes.
--module FILE.py puts the objectives that a file of yours registers into the map.

Claims: none; theory_notes/families.md has the reading.
Run:    python sims/18_families.py [--quick | --full] [--redraw] [--stability] [--module FILE.py]
Takes:  1 minute on two cores, one of them busy (--full: 10 minutes, --stability: 12 more); it needs no GPU.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from vitdyn._tables import text_table
from vitdyn.cli.modules import import_modules
from vitdyn.experiments import Experiment
from vitdyn.experiments.families import family_run, objectives_by_name, stability_runs
from vitdyn.experiments.family_axes import AXES
from vitdyn.observables import learned_regime, regime_sensitivity
from vitdyn.observables.learned import LearnedRegime
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.regimes import RegimeGrid, draw_regimes
from vitdyn.trajectory import Trajectory

GAPS = {"quick": (-0.3, 0.3), "full": (-0.3, -0.1, 0.1, 0.3, 0.5)}
MILD = -0.3
Place = tuple[str, str, str]
"""Panel, row and column of a tile."""


@dataclass(frozen=True, kw_only=True)
class Options(FigureOptions):
    """Options of this script."""

    module: tuple[str, ...] = ()
    """Files of yours, which register objectives."""
    stability: bool = False
    """Also train other root seeds, and slower."""


def experiments(scale: str) -> dict[Place, Experiment]:
    """Return the runs of all panels by panel, row and column."""
    found = {
        ("map", name, f"{gap:+.1f}"): family_run(objective, gap, name=name, scale=scale)
        for name, objective in objectives_by_name().items()
        for gap in GAPS[scale]
    }
    for axis in AXES if scale == "full" else ():
        for row, value in product(axis.rows, axis.values):
            found[axis.across, row, f"{value:g}"] = family_run(axis.objective(row, value), MILD)
    return found


def print_stability(options: Options) -> None:
    """Train the quick map from other root seeds, and slower, and print what its seeds end in."""
    rows: dict[Any, dict[str, list[LearnedRegime]]] = {}
    for (name, gap, which), run in options.store.named(stability_runs(GAPS["quick"])).items():
        rows.setdefault((name, gap), {}).setdefault(which.split()[0], []).extend(learned_regime(run))
    table = [(*key, *map(counted, each.values())) for key, each in rows.items()]
    print(text_table(("objective", "Δ", "root seeds 0 to 9", "half the rate, twice the steps"), table))


def counted(regimes: Sequence[LearnedRegime]) -> str:
    """Return each regime with the number of its seeds."""
    return "; ".join(f"{count} {regime}" for regime, count in Counter(map(str, regimes)).most_common())


def grid_of(title: str, across: str, found: dict[Place, Trajectory], panel: str, **groups: Any) -> RegimeGrid:
    """Read the regimes of a panel's runs."""
    cells = {key[1:]: learned_regime(run) for key, run in found.items() if key[0] == panel}
    rows, columns = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
    return RegimeGrid(title=title, across=across, rows=rows, columns=columns, cells=cells, **groups)


def draw(found: dict[Place, Trajectory]) -> Drawing:
    """Draw the figure."""
    groups: dict[str, list[str]] = {}
    for name, objective in objectives_by_name().items():
        groups.setdefault(objective.family, []).append(name)
    drawn = {key[0] for key in found}
    grids = [grid_of("all objectives", "information gap Δ", found, "map", groups=groups)]
    grids += [grid_of(axis.title, axis.across, found, axis.across) for axis in AXES if axis.across in drawn]
    return draw_regimes(grids)


def main(options: Options) -> None:
    """Run what is not there yet, print the tables and save the figure."""
    import_modules(list(options.module))
    runs = options.few(experiments(options.scale), steps=30)
    found = options.store.named(runs)
    rows = [(*key, counted(learned_regime(run))) for key, run in found.items()]
    print(text_table(("varied", "objective", "at", "seeds"), rows))
    changed = [(*key, *counts) for key, counts in regime_sensitivity(found.values()).items()]
    print(text_table(("threshold", "times", "regimes that change", "that are final or no longer"), changed))
    if options.stability:
        print_stability(options)
    print(save_figure(draw(found), options.out / "18_families"))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
