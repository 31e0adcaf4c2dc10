"""Figure 26: trained values. Reconstruction still learns every area; contrast does not stay collapsed; who moves first.

(a) MAE, plain descent at a rate that values bear: the global value goes to its level at uniform attention (dotted, with
the local one's) before attention has moved, attention follows slowly, all values return to 1. (b) Contrast, plain
descent: w_1 takes the pull until repulsion within a cluster stops it (dotted); local values grow after. (c) MAE by
Adam: values delay attention, and change no end. (d) Contrast by Adam: identity values collapse, trained ones for a
while, unless latents are constant. (e) The end over the temperature: w² divides τ, so that trained values come from any
τ to where identity values do not collapse; upright: below it a collapse loses the faintest samples. (f) Values of (d).

Claims: VALUES-AREA, VALUES-SPREAD and VALUES-FIRST, outside their checked runs.
Run:    python sims/26_values.py [--quick | --full] [--redraw]
Takes:  3 minutes on two cores (--quick: 100 steps, a quarter; --full 16 seeds and longer); on a GPU: not measured.
"""

from typing import Any

from vitdyn.claims.values import AREA_VALUES, values_run
from vitdyn.data import AreaSizes, Constant, PatchLayout, Uniform
from vitdyn.dynamics import GradientDescent, Schedule
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import FigureOptions, run_script, save_figure
from vitdyn.plotting.heads_and_values import curves, ends, values_panel
from vitdyn.plotting.questions import Panel, draw_panels, table_of_ends
from vitdyn.theory import collapse_threshold, contrast_scale_limit, uniform_values
from vitdyn.trajectory import Trajectory

SCALES = {"quick": (3, 1500, 600), "full": (16, 6000, 3000)}
"""Seeds, and steps of plain descent: reconstruction, contrast."""
OBJECTIVES = {"MAE": MaskedReconstruction(), "CL": Contrastive()}
LAYOUTS = {
    name: PatchLayout.from_exponents(32, 0.9, 0.4, clusters=clusters)
    for name, clusters in {"MAE": 1, "CL": 2}.items()
}
PLAIN = {"MAE": GradientDescent(learning_rate=0.05), "CL": GradientDescent(learning_rate=2.0)}
VALUES, TAUS, NEGATIVES = ("identity", "scalar", "matrix"), (0.15, 0.25, 0.5, 1.0, 2.0), 31
LATENTS = {"": Uniform(), ", constant z": Constant(value=1.25)}
ATTENTION = ("own_area_attention", "area_attention")
Key = tuple[Any, ...]


def experiments(scale: str) -> dict[Key, Experiment]:
    """Return runs by plain descent, by Adam, and over the temperature."""
    seeds, *steps = SCALES[scale]
    made: dict[Key, Experiment] = {}
    for (name, objective), count in zip(OBJECTIVES.items(), steps, strict=True):
        layout, shown = LAYOUTS[name], {"schedule": Schedule(frames=16)}
        valued = (*ATTENTION, AREA_VALUES)
        made["plain", name] = values_run(
            objective, layout, range(seeds), optimizer=PLAIN[name], steps=count, observables=valued, **shown
        )
        for values in VALUES:
            seen = valued if values == "scalar" else ATTENTION
            made["adam", name, values] = values_run(
                objective, layout, range(seeds), values=values, observables=seen, **shown
            )
    made["adam", "CL", "constant"] = values_run(
        OBJECTIVES["CL"], LAYOUTS["CL"], range(seeds), latents=Constant(value=1.25),
        observables=ATTENTION, schedule=Schedule(frames=16))  # fmt: skip
    for temperature in TAUS:
        for values in VALUES[:2]:
            made["temperature", values, temperature] = values_run(
                Contrastive(temperature=temperature), LAYOUTS["CL"], range(seeds), values=values, observables=ATTENTION
            )  # fmt: skip
    return made


def border() -> float:
    """Return the temperature, to a hundredth, from which on a collapsed state keeps samples of the least latent."""
    clusters = LAYOUTS["CL"].clusters
    grid = (step / 100 for step in range(10, 200))
    return next(each for each in grid if collapse_threshold(Uniform(), each, NEGATIVES, clusters) < 1)


def panels(found: dict[Key, Trajectory]) -> list[Panel]:
    """Return the panels."""
    rest = uniform_values(AreaSizes.of(LAYOUTS["MAE"]))
    stop = float(contrast_scale_limit(Uniform(), 1.0, NEGATIVES, LAYOUTS["CL"].clusters))
    adam = {
        name: {values: found["adam", name, values] for values in (*VALUES, *extra)}
        for name, extra in {"MAE": (), "CL": ("constant",)}.items()
    }
    adam["CL"]["scalar, constant z"] = adam["CL"].pop("constant")
    steps = int(found["temperature", VALUES[0], TAUS[0]]["step"][-1])
    swept = {
        f"CL, {values} values": {each: found["temperature", values, each] for each in TAUS}
        for values in VALUES[:2]
    }
    return [
        values_panel("MAE, plain descent", found["plain", "MAE"], rest),
        values_panel("CL, plain descent", found["plain", "CL"], stop),
        curves("MAE by Adam, by values", "least own-area attention", adam["MAE"], "own"),
        curves("CL by Adam, by values", "least attention, global area", adam["CL"], "global"),
        ends(f"CL after {steps} steps of Adam", "temperature τ", swept, [(border(), "κ_L = 0")]),
        values_panel("CL by Adam", found["adam", "CL", "scalar"], stop),
    ]


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    made = panels(options.store.named(options.few(experiments(options.scale), steps=100)))
    print(table_of_ends(made))
    print(save_figure(draw_panels(made), options.out / "26_values"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
