"""Clustering: SwAV, MSN, DeepCluster-v2."""

from literal import Case

CASES: list[Case] = []
