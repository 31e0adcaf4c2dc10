"""Figure 13: between masked reconstruction and contrast a threshold λ*, not a gradual change.

Mean-field gradient descent on (1 − λ) L_MAE/m + λ L_InfoNCE from Q = 0 at κ_s = 0.5, with the step size of the
simulations, 4PK. (a) Attention of local queries to their own area at the end over (λ, κ_c) at P = 10^4, K = 16
clusters. (b) The same against λ at κ_c = 0.9 for several P, and for K = 64: λ* is where it falls through 1/2.
The number of steps is a multiple of P^{1 − κ_s}; what much longer runs would do is not decided here.

Claims: HYBRID-THRESHOLD, at other exponents and by descent.
Run:    python sims/13_mixture_threshold.py [--quick | --full] [--redraw]
Takes:  0.3 minutes on two cores (--full reaches P = 10^8: 1 minute); it needs no GPU.
The numbers drawn are kept with the figure, not the runs; --redraw reads them there.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from vitdyn._progress import progress
from vitdyn._tables import text_table
from vitdyn.data import AreaSizes
from vitdyn.objectives import Mixture
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.curves import attention_by_pair
from vitdyn.plotting.reduced import Map, draw_mixture, half_crossing, read_curves, read_maps
from vitdyn.reduced import MeanField, integrate_descents

STEM, TITLE = "13_mixture_threshold", r"own area, $P = 10^4$"
KAPPA_C, KAPPA_S = 0.9, 0.5
STEPS = {1e4: 400, 1e5: 1000, 1e6: 3000, 1e7: 10_000, 1e8: 30_000}
CURVES = {"quick": ((1e4, 16), (1e5, 16), (1e6, 16), (1e4, 64)),
          "full": ((1e4, 16), (1e6, 16), (1e8, 16), (1e4, 64))}  # fmt: skip
WEIGHTS = np.array([0, 0.2, 0.4, 0.45, 0.5, 0.52, 0.54, 0.56, 0.58, 0.6, 0.65, 0.8, 1])


def axes_of(scale: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of λ and of κ_c in (a)."""
    count = 40 if scale == "full" else 12
    return np.linspace(0, 1, count), np.linspace(0.6, 0.98, count)


def descents(
    points: Iterable[tuple[float, float]], patches: float = 1e4, clusters: int = 16
) -> Float[np.ndarray, " point"]:
    """Return the attention of local queries to their own area at the end of descent, for each (λ, κ_c)."""
    cells = [
        MeanField(
            sizes=AreaSizes.from_exponents(patches, float(kappa_c), KAPPA_S),
            objective=Mixture(weight=float(weight)),
            clusters=clusters,
            learning_rate=4 * patches * clusters,
            steps=STEPS[patches],
            until=None,
            nodes=8,
            frames=8,
        )
        for weight, kappa_c in points
    ]
    return np.array([attention_by_pair(each, "local to own")[-1, 0] for each in integrate_descents(cells)])


def picture(scale: str) -> Float[np.ndarray, "row column"]:
    """Return the values of (a)."""
    across, up = axes_of(scale)
    return descents((weight, kappa_c) for kappa_c in up for weight in across).reshape(len(up), len(across))


def curves_of(scale: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the curves of (b) by name."""
    curves = {}
    with progress(True, len(CURVES[scale]), "curve") as bar:
        for patches, clusters in CURVES[scale]:
            points = ((weight, KAPPA_C) for weight in WEIGHTS)
            name = rf"$P = 10^{{{np.log10(patches):.0f}}}$, $K = {clusters}$"
            curves[name] = WEIGHTS, descents(points, patches, clusters)
            bar.update(1)
    return curves


def draw(final: Map, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> Drawing:
    """Draw the figure."""
    return draw_mixture(final, curves)


def main(options: FigureOptions) -> None:
    """Run all descents, or read what was drawn, print the thresholds and save the figure."""
    table = options.out / f"{STEM}.csv"
    if options.redraw:
        (values,), curves = read_maps(table, "a"), read_curves(table, "b")
    else:
        values, curves = picture(options.scale), curves_of(options.scale)
    across, up = axes_of(options.scale)
    rows = [
        (f"κ_c = {kappa_c:.2f}, P = 1e4", half_crossing(across, row))
        for kappa_c, row in zip(up, values, strict=True)
    ]
    rows += [(name.replace("$", ""), half_crossing(*curve)) for name, curve in curves.items()]
    print(text_table(("case", "λ*"), rows))
    print(save_figure(draw(Map(title=TITLE, x=across, y=up, values=values), curves), options.out / STEM))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
