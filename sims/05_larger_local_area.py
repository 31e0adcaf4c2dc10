"""Figure 5: what happens when a local area, or the local areas together, outgrow the global one.

Left: one local area grows from 4 patches to twice the size of the global one (16 of P = 64). Right: the global
area itself shrinks among local areas of 4 patches, until together they are 15 times as large and each is as
large as it. Contrast goes to the largest single area, whatever its name; masked reconstruction does not care.
Each faint dot is a cluster of a seed, lines join the means. Outside the theory, which takes C_s < C_1.

Claims: none; MAE-AREA and CL-GLOBAL assume the global area to be the largest.
Run:    python sims/05_larger_local_area.py [--quick | --full] [--redraw]
Takes:  0.4 minutes on two cores (--quick 4 seeds, --full 16); on a GPU: not measured.
"""

import numpy as np

from vitdyn._tables import text_table
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.questions import EVERY, LOCAL, Panel, Series, draw_panels, final_attention
from vitdyn.plotting.style import BLUE, GREEN, ORANGE, VERMILLION
from vitdyn.trajectory import Trajectory

PATCHES, GLOBAL, LOCAL_SIZE = 64, 16, 4
GROWN = (4, 8, 14, 15, 16, 17, 18, 24, 32)
SHRUNK = (4, 6, 8, 16, 32, 48)
STEPS = {"cl": 200, "mae": 100}
SEEDS = {"quick": 4, "full": 16}
OBJECTIVES = {each.name: each for each in (Contrastive(), MaskedReconstruction())}


def layout(global_size: int, grown: int) -> PatchLayout:
    """Return a global area, one local area of the size ``grown`` and others of about four patches."""
    rest = PATCHES - global_size - grown
    others = [len(part) for part in np.array_split(np.arange(rest), round(rest / LOCAL_SIZE))]
    return PatchLayout.from_sizes([global_size, grown, *others], clusters=2)


def experiments(scale: str) -> dict[tuple[str, int, int], Experiment]:
    """Return a run for each objective, size of the global area and size of the local area that grows."""
    sizes = [(GLOBAL, size) for size in GROWN] + [(size, LOCAL_SIZE) for size in SHRUNK if size != GLOBAL]
    return {
        (name, *size): Experiment(
            name=f"{name}-areas-{size[0]}-{size[1]}",
            training=Training(
                generator=PatchGenerator(layout=layout(*size)), objective=objective, steps=STEPS[name],
                seeds=SEEDS[scale], schedule=Schedule(frames=2), batch_size=16,
            ),
        )
        for name, objective in OBJECTIVES.items()
        for size in sizes
    }  # fmt: skip


def panels(found: dict[tuple[str, int, int], Trajectory]) -> list[Panel]:
    """Return the four panels: contrast above, reconstruction below; the grown area left, the shrunk one right."""
    grown = np.array(GROWN) / GLOBAL
    shrunk = np.array(SHRUNK) / PATCHES
    left = {name: [found[name, GLOBAL, size] for size in GROWN] for name in OBJECTIVES}
    right = {name: [found[name, size, LOCAL_SIZE] for size in SHRUNK] for name in OBJECTIVES}

    def sweep(words, x, runs, colour, marker, queries=EVERY, key=None):
        values = np.stack([final_attention(each, queries, key) for each in runs])
        return Series(words=words, x=x, values=values, colour=colour, marker=marker)

    across = ("size of one local area / global area", "share of the global area in the image")
    marks = ([(1.0, "equal sizes")], [(0.5, "locals together\nequal the global")])
    to, own = "attention of all queries", "own-area attention"
    return [
        Panel(title="contrast: one local area grows", across=across[0], up=to, lines=marks[0], series=[
            sweep("to the global area", grown, left["cl"], VERMILLION, "o", key=0),
            sweep("to the local area", grown, left["cl"], BLUE, "s", key=1),
        ]),
        Panel(title="contrast: the global area shrinks", across=across[1], up=to, lines=marks[1], series=[
            sweep("to the global area", shrunk, right["cl"], VERMILLION, "o", key=0),
        ]),
        Panel(title="reconstruction: one local area grows", across=across[0], up=own, lines=marks[0], series=[
            sweep("queries of the global area", grown, left["mae"], VERMILLION, "o", 0),
            sweep("of the local area that grows", grown, left["mae"], BLUE, "s", 1),
            sweep("of the other local areas", grown, left["mae"], ORANGE, "^", slice(2, None)),
        ]),
        Panel(title="reconstruction: the global area shrinks", across=across[1], up=own, lines=marks[1], series=[
            sweep("queries of the global area", shrunk, right["mae"], VERMILLION, "o", 0),
            sweep("of local areas", shrunk, right["mae"], GREEN, "^", LOCAL),
        ]),
    ]  # fmt: skip


def draw(made: list[Panel]) -> Drawing:
    """Draw the figure."""
    return draw_panels(made)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    found = options.store.named(experiments(options.scale))
    rows = [
        (*case, *(float(each.mean()) for each in ends), float(ends[0].min()), float(ends[0].max()))
        for case, run in found.items()
        for ends in [(final_attention(run, key=0), final_attention(run, key=1), final_attention(run))]
    ]
    heads = ("objective", "global size", "grown local", "to global", "to grown", "own", "global min", "max")
    print(text_table(heads, rows))
    print(save_figure(draw(panels(found)), options.out / "05_larger_local_area"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
