"""Symbolic derivations, one module each: results are differentiated, expanded or integrated, never restated.

Needs sympy, which nothing else in the package loads. What each module proves stands in the notes,
``derivations.md``.
"""
