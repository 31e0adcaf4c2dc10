"""Decorrelation: VICReg, Barlow Twins."""

from literal import Case

CASES: list[Case] = []
