"""Pure functions of embeddings: the losses of self-supervision, each once, for the theory's layer and for deep models.

Tensors in, tensors out, differentiable, in the type of what is given. Leading axes are free: one value for each entry
of them. Where the sources differ, a named convention says whose formula it is.
"""

from vitdyn.losses.distillation import data2vec, i_jepa
from vitdyn.losses.generative import beit, mae, simmim, u_mae_uniformity
from vitdyn.losses.hybrid import rc_mae

__all__ = ["beit", "data2vec", "i_jepa", "mae", "rc_mae", "simmim", "u_mae_uniformity"]
