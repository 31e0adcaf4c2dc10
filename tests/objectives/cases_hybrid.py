"""Hybrids: the mixture, RC-MAE, iBOT, CMAE."""

from cases_contrastive import info_nce
from cases_generative import reconstruction_error
from literal import Case

from vitdyn.objectives import MeanPooled, Mixture, Residual


def mixture(seen):
    masked = round(0.5 * seen.patches.shape[1])
    return 0.7 * reconstruction_error(seen) / masked + 0.3 * info_nce(seen, 0.7)


CASES = [
    Case(
        Mixture(weight=0.3, temperature=0.7),
        mixture,
        frozenset({Residual, MeanPooled}),
        {"weight": 0.9, "mask_ratio": 0.3, "temperature": 2.0},
    ),
]
