"""How encoders are trained: one file for each method. To add one, write its file and list it here."""

from vitdyn.vits.methods.byol import BYOL
from vitdyn.vits.methods.contrast import Contrast
from vitdyn.vits.methods.data2vec import Data2Vec
from vitdyn.vits.methods.dino import DINO
from vitdyn.vits.methods.method import Method
from vitdyn.vits.methods.mixture import Mixture
from vitdyn.vits.methods.rc_mae import RCMAE
from vitdyn.vits.methods.reconstruction import Reconstruction
from vitdyn.vits.methods.simclr import SimCLR
from vitdyn.vits.methods.supervised import Supervised
from vitdyn.vits.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {
    kind.name: kind
    for kind in (Reconstruction, RCMAE, Data2Vec, Contrast, SimCLR, VICReg, BYOL, DINO, Mixture, Supervised)
}
"""The methods by name, in the order of tables and figures."""

__all__ = [
    "BYOL", "DINO", "METHODS", "RCMAE", "Contrast", "Data2Vec", "Method", "Mixture", "Reconstruction", "SimCLR",
    "Supervised", "VICReg",
]  # fmt: skip
