"""Pure functions of embeddings: the losses of self-supervision, each once, for the theory's layer and for deep models.

Tensors in, tensors out, differentiable, in the type of what is given. Leading axes are free: one value for each entry
of them. Hyperparameters are numbers, or tensors that broadcast along (..., sample, dimension). Where the sources
differ, a named convention says whose formula it is.

>>> import torch
>>> views = torch.eye(4), torch.eye(4)
>>> round(float(vd.losses.nt_xent(*views, temperature=0.5)), 3)
0.594
"""

from vitdyn.losses.clustering import deepcluster, msn, nearest, sinkhorn, spherical_k_means, swav
from vitdyn.losses.contrastive import (
    alignment,
    diagonal_cross_entropy,
    info_nce,
    moco_v2,
    moco_v3,
    nt_xent,
    spectral_contrastive,
    uniformity,
)
from vitdyn.losses.decorrelation import barlow_twins, vicreg
from vitdyn.losses.distillation import byol, data2vec, dino, i_jepa, ibot, next_centre, simsiam
from vitdyn.losses.generative import beit, mae, simmim, u_mae_uniformity
from vitdyn.losses.hybrid import cmae, rc_mae
from vitdyn.losses.vectors import unit_vectors

__all__ = [
    "alignment", "barlow_twins", "beit", "byol", "cmae", "data2vec", "deepcluster", "diagonal_cross_entropy", "dino",
    "i_jepa", "ibot", "info_nce", "mae", "moco_v2", "moco_v3", "msn", "nearest", "next_centre", "nt_xent",
    "rc_mae", "simmim", "simsiam", "sinkhorn", "spectral_contrastive", "spherical_k_means", "swav",
    "u_mae_uniformity", "uniformity", "unit_vectors", "vicreg",
]  # fmt: skip
