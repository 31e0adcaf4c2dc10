"""Figure 27: where depth keeps the local and the global regime: reconstruction and contrast by layers with a residual.

(a, b) Three layers: what local queries give to their own area under reconstruction, and to the global area under
contrast, by layer along training. (c) The loss's rise where a layer is left out, what it brings; (d) where it attends
uniformly again, what it has learned: each as a part of the sum over layers, with the theory of contrast. (e) How far
each layer attends on the grid. (f) The centre of gravity of (c), 0 in the first layer and 1 in the last, for other
depths, queries that hold contents, trained values, and blocks as a ViT has them (norm, projections, MLP, positions in
the stream). Park et al. (2023) found contrast in later layers of ViTs and reconstruction in earlier ones.

Claims: DEPTH-AREA, DEPTH-GLOBAL, DEPTH-ORDER and DEPTH-FIRST, on three seeds of their runs; none is about the others.
Run:    python sims/27_depth.py [--quick | --full] [--redraw]
Takes:  1 minute on two cores (--quick: 100 steps; --full: four layers too, and 24 seeds); on a GPU: not measured.
"""

from dataclasses import replace

from vitdyn.claims.depth import centre_of_gravity, contrast_at_depth, reconstruction_at_depth
from vitdyn.dynamics import Adam, Schedule
from vitdyn.experiments import Experiment
from vitdyn.models import Transformer
from vitdyn.observables import BY_DEPTH
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.depth import along_training, at_the_end, by_layer, over_models, shares
from vitdyn.plotting.questions import Panel, draw_panels, table_of_ends
from vitdyn.theory import contrast_rises
from vitdyn.trajectory import Trajectory

MADE = {"MAE": reconstruction_at_depth, "CL": contrast_at_depth}
DEEP = 3
DEPTHS = {"quick": (2, DEEP), "full": (2, DEEP, 4)}
FEW = 3
"""Seeds, but for the depths with --full: those of the claims."""
VIT = {
    "norm": True, "mlp": 32, "content_queries": True, "positions": "stream", "values": "projections",
    "key_dimension": 16, "heads": 2, "temperature": 8**0.5, "initial_scale": 0.2,
}  # fmt: skip
OTHERS = {
    "contents": (2, {"content_queries": True}, 0.03),
    "values": (2, {"values": "scalar"}, 0.03),
    "ViT": (DEEP, VIT, 0.01),
}
"""Depth, fields and Adam's learning rate."""
Case = tuple[str, str]


def model_of(layers: int, fields: dict[str, object]) -> Transformer:
    """Return a Transformer with a residual."""
    return Transformer(layers=layers, residual=True, **fields)  # type: ignore[arg-type]


def experiments(scale: str) -> dict[Case, Experiment]:
    """Return the runs by loss and model."""
    distance, found = BY_DEPTH["head_attention_distance"], {}
    for loss, make in MADE.items():
        for layers in DEPTHS[scale]:
            run = make(layers, scale)
            few = run.training.seed_numbers[: FEW if scale == "quick" else None]
            found[loss, f"L = {layers}"] = replace(run, training=replace(run.training, seeds=few))
        for words, (layers, fields, rate) in OTHERS.items():
            run = make(layers, scale, model=model_of(layers, fields))
            training = replace(
                run.training, optimizer=Adam(learning_rate=rate), seeds=run.training.seed_numbers[:FEW],
                steps=200 if loss == "CL" else 400, schedule=Schedule(frames=2))  # fmt: skip
            found[loss, words] = replace(run, name=f"{run.name}-{words}", training=training)
        deep = found[loss, f"L = {DEEP}"]
        observables = (*deep.training.observables, distance)
        found[loss, f"L = {DEEP}"] = replace(deep, training=replace(deep.training, observables=observables))
    return found


def panels(found: dict[Case, Trajectory]) -> list[Panel]:
    """Return the panels."""
    deep = {loss: found[loss, f"L = {DEEP}"] for loss in MADE}
    sizes = contrast_at_depth(DEEP, "quick").training.generator.layout
    share = sizes.global_size / (2 * sizes.patches)
    expected = [contrast_rises(DEEP, share, left_out=left_out) for left_out in (True, False)]
    rises = {case: at_the_end(run, "rise_without_layer") for case, run in found.items()}
    brought = {loss: shares(at_the_end(run, "rise_without_layer")) for loss, run in deep.items()}
    learned = {loss: shares(at_the_end(run, "rise_of_uniform_layer")) for loss, run in deep.items()}
    far = {loss: at_the_end(run, "head_attention_distance") for loss, run in deep.items()}
    centres = {
        loss: {
            words: (centre_of_gravity(values.T) - 1) / (len(values) - 1)
            for (whose, words), values in rises.items() if whose == loss
        }
        for loss in MADE
    }  # fmt: skip
    return [
        along_training("MAE: own area, by layer", deep["MAE"], "local to own"),
        along_training("CL: global area, by layer", deep["CL"], "local to global"),
        by_layer("what a layer brings", "share of the loss's rise", brought, expected[0]),
        by_layer("what a layer has learned", "share of the loss's rise", learned, expected[1]),
        replace(by_layer("how far a layer attends", "distance (patches)", far), limits=None),
        over_models("where losses have their layers", "centre of gravity", centres),
    ]


def draw(made: list[Panel]) -> Drawing:
    """Draw the figure."""
    return draw_panels(made, row_height=2.75)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    made = panels(options.store.named(options.few(experiments(options.scale), steps=100)))
    print(table_of_ends(made))
    print(save_figure(draw(made), options.out / "27_depth"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
