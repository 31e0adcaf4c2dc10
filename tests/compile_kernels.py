"""Compile what runs on CPU, once: processes that begin side by side would each compile all of it for themselves."""

from itertools import product

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Training, simulate
from vitdyn.objectives import Contrastive, MaskedReconstruction

if __name__ == "__main__":
    generator = PatchGenerator(layout=PatchLayout.from_sizes([[5, 3], [4, 4]]))
    for precision, objective in product(("float32", "float64"), (MaskedReconstruction(), Contrastive())):
        simulate(Training(generator=generator, objective=objective, steps=1, seeds=2, precision=precision))
