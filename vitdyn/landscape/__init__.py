"""The landscape of a loss: sections and curvature of any function of parameters, about a point.

>>> import torch
>>> saddle = vd.landscape.Surface(lambda at: at["w"].square() @ torch.tensor([1.0, -1.0]), {"w": torch.zeros(2)})
>>> vd.landscape.top_eigenvalues(vd.landscape.Hessian(saddle), 2).values
array([ 2., -2.])
"""

from vitdyn.landscape.convexity import Distance, convex_radius, convex_share, first_inflection
from vitdyn.landscape.correction import Correction, teacher_correction
from vitdyn.landscape.density import SpectralDensity, spectral_density
from vitdyn.landscape.directions import (
    PrincipalDirections,
    filter_norms,
    gaussian_direction,
    normalised,
    orthogonalised,
    principal_directions,
    projected,
)
from vitdyn.landscape.eigenvalues import ConvergenceError, Eigenpairs, top_eigenvalues
from vitdyn.landscape.lines import convex_reach, line_losses, line_width
from vitdyn.landscape.neighbourhood import Neighbourhood
from vitdyn.landscape.operators import Difference, GaussNewton, Hessian, Matrix, Operator
from vitdyn.landscape.plane import Derivatives, Plane
from vitdyn.landscape.products import dense, seconds_of
from vitdyn.landscape.section import Section, estimate_seconds, section
from vitdyn.landscape.sharpness import Sharpness, sharpness
from vitdyn.landscape.surface import Surface, Tensors, Vector, module_surface
from vitdyn.landscape.traces import Estimate, squared_norm, trace

__all__ = [
    "ConvergenceError",
    "Correction",
    "Derivatives",
    "Difference",
    "Distance",
    "Eigenpairs",
    "Estimate",
    "GaussNewton",
    "Hessian",
    "Matrix",
    "Neighbourhood",
    "Operator",
    "Plane",
    "PrincipalDirections",
    "Section",
    "Sharpness",
    "SpectralDensity",
    "Surface",
    "Tensors",
    "Vector",
    "convex_radius",
    "convex_reach",
    "convex_share",
    "dense",
    "estimate_seconds",
    "filter_norms",
    "first_inflection",
    "gaussian_direction",
    "line_losses",
    "line_width",
    "module_surface",
    "normalised",
    "orthogonalised",
    "principal_directions",
    "projected",
    "seconds_of",
    "section",
    "sharpness",
    "spectral_density",
    "squared_norm",
    "teacher_correction",
    "top_eigenvalues",
    "trace",
]
