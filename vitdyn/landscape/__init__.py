"""The landscape of a loss: sections and curvature of any function of parameters, about a point.

>>> import torch
>>> saddle = vd.landscape.Surface(lambda at: at["w"].square() @ torch.tensor([1.0, -1.0]), {"w": torch.zeros(2)})
>>> vd.landscape.Hessian(saddle) @ torch.tensor([1.0, 1.0])
tensor([ 2., -2.])
"""

from vitdyn.landscape.operators import Hessian, Operator
from vitdyn.landscape.surface import Surface, Tensors, Vector, module_surface

__all__ = ["Hessian", "Operator", "Surface", "Tensors", "Vector", "module_surface"]
