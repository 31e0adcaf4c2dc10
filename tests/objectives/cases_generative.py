"""Generative: MAE, SimMIM, BEiT, U-MAE."""

from literal import Case

from vitdyn.objectives import MaskedReconstruction, Residual


def reconstruction_error(seen):
    """½ Σ over samples, masked p and coordinates of (F_p − X_p)², over the number of samples."""
    outputs, total = seen.outputs(0), 0.0
    for b in seen.samples:
        for p, shown in enumerate(seen.views[0][b]):
            if not shown:
                total = total + 0.5 * ((outputs[b, p] - seen.patches[b, p]) ** 2).sum()
    return total / len(outputs)


CASES = [
    Case(MaskedReconstruction(), reconstruction_error, frozenset({Residual}), {"mask_ratio": 0.3}),
]
