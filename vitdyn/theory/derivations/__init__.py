"""Symbolic derivations, one module each: results are differentiated, expanded or integrated, never restated.

Needs sympy, which nothing else in the package loads. What each module proves stands in the notes,
``derivations.md``.
"""

from vitdyn._extras import from_extra

with from_extra("derivations"):
    import sympy as sympy
