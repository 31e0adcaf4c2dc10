"""How encoders are trained: one file for each method. To add one, write its file and list it here."""

from vitdyn.vits.methods.contrast import Contrast
from vitdyn.vits.methods.method import Method
from vitdyn.vits.methods.mixture import Mixture
from vitdyn.vits.methods.reconstruction import Reconstruction
from vitdyn.vits.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    kind.name: kind for kind in (Reconstruction, Contrast, Mixture, Supervised)
}
"""The methods by name, in the order of tables and figures."""

__all__ = ["METHODS", "Contrast", "Method", "Mixture", "Reconstruction", "Supervised"]
